"""The jobs of a comparison: trials on folds of the training file, then trainings evaluated on the tests.

Each job runs in a separate process, writes its result into a separate folder, and is never repeated once
done. Jobs of the second kind start when all choices are saved; until then no job opens a test file.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, final

import numpy as np
import psutil
import pyarrow as pa
from pyarrow import parquet
from rich.console import Console

from wirebert.baselines.fitted import ColumnBaseline
from wirebert.baselines.methods import BASELINES, draw_trials, fit_baseline
from wirebert.baselines.protocol import Baseline
from wirebert.baselines.task import Params
from wirebert.comparison.detection import detect
from wirebert.comparison.folds import read_search_pool
from wirebert.config import RunConfig, resolve_run
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.decision.logit_offsets import fit_logit_offsets
from wirebert.errors import RunError
from wirebert.evaluation.evaluate import TrueClasses
from wirebert.files import read_json_file, write_atomic
from wirebert.inference.artifact import save_artifact
from wirebert.metrics.registry import BINARY_ACCURACY, TPR_AT_1PCT_FPR
from wirebert.metrics.significance import LabelledRows, paired_metrics
from wirebert.run_folder import RunFolder, locked
from wirebert.shapes import Float64, Int64
from wirebert.telemetry.processors import num_processors
from wirebert.workflows.fit import fit_decision, load_trained, train_model
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import PreparedData, prepare, write_typed_rows
from wirebert.workflows.report import RunLog
from wirebert.workflows.train import open_tests, record_test_reads, train

RECIPE = "wirebert"
"""Name of the recipe among the methods."""

JOB_BYTES = 3 << 30
"""Free memory that the default number of processes leaves to each."""

TRIALS = "trials.json"
"""Number of trials that every method got, and the number planned."""

Kind = Literal["trial", "fold", "plain", "chosen", "run", "detect"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonJob:
    """One process of a comparison."""

    kind: Kind
    """`trial`: one method with one set of settings on every fold. `fold`: the recipe on one fold. `plain` and
    `chosen`: one method with its default or its chosen settings, evaluated on the tests. `run`: the recipe,
    evaluated on the tests. `detect`: one detector of a protocol other than labels."""
    method: str
    number: int
    """Index of the trial or fold; for other kinds, the seed."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{self.method}-{self.kind}-{self.number}"

    @property
    def opens_tests(self) -> bool:
        """Whether the job reads test files, so that it runs after all choices."""
        return self.kind in ("plain", "chosen", "run", "detect")


def plan(run: RunConfig, methods: tuple[str, ...], *, with_ours: bool) -> list[ComparisonJob]:
    """Every job: first the ones for the choices, then the others; long ones before short ones."""
    comparison = run.comparison
    seeds = range(run.seed, run.seed + comparison.num_seeds)
    jobs: list[ComparisonJob] = []
    if with_ours:
        jobs += [
            ComparisonJob(kind="fold", method=RECIPE, number=fold) for fold in range(comparison.num_folds)
        ]
    for trial in range(comparison.num_trials):
        jobs += [ComparisonJob(kind="trial", method=method, number=trial) for method in methods]
    if with_ours:
        jobs += [ComparisonJob(kind="run", method=RECIPE, number=seed) for seed in seeds]
    for kind in ("plain", "chosen"):
        jobs += [ComparisonJob(kind=kind, method=method, number=seed) for method in methods for seed in seeds]
    return jobs


def is_done(out: Path, job: ComparisonJob) -> bool:
    """Whether the result of the job exists."""
    return (out / "jobs" / job.name / ("report.json" if job.kind == "run" else "result.json")).exists()


@final
@dataclass(frozen=True, slots=True)
class JobsOf:
    """The jobs of the comparison in `out`, for the workers of a cluster."""

    out: Path

    def load(self) -> Callable[[ComparisonJob], ComparisonJob]:
        """What runs one job, and gives it back."""
        return self._work

    def _work(self, job: ComparisonJob) -> ComparisonJob:
        work(self.out, job)
        return job


def work(out: Path, job: ComparisonJob) -> None:
    """Run one job in its folder; called in a separate process.

    Raises:
        RunError: another process is running it.
    """
    folder = RunFolder(out / "jobs" / job.name)
    folder.path.mkdir(parents=True, exist_ok=True)
    run = resolve_run(out / "compare.toml")
    start_s = time.perf_counter()
    with locked(folder), (folder.path / "output.txt").open("w", encoding="utf-8") as file:
        console = Console(file=file, width=110)
        if job.opens_tests and (out / "recipe.toml").exists():
            write_atomic(folder.recipe_toml, (out / "recipe.toml").read_text(encoding="utf-8"))
        if job.kind == "run":
            train(
                replace(run, seed=job.number, evaluation=replace(run.evaluation, baseline=False)),
                folder,
                console,
            )
            return
        if job.kind == "trial":
            result = _trial(run, folder, job)
        elif job.kind == "fold":
            result = _fold(run, folder, job.number, console)
        elif job.kind == "detect":
            result = {"figures": detect(replace(run, seed=job.number), folder, job.method)}
        else:
            result = _evaluated_fit(replace(run, seed=job.number), folder, job, out)
        took_s = round(time.perf_counter() - start_s, 1)
        write_atomic(
            folder.path / "result.json", json.dumps({**asdict(job), **result, "took_s": took_s}) + "\n"
        )
        folder.discard_working_files()


def read_result(path: Path) -> dict[str, Any]:
    """What a job of a comparison has written.

    Raises:
        RunError: it is damaged.
    """
    try:
        return dict(cast(dict[str, Any], read_json_file(path)))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path}: expected a result of `wirebert compare`, could not read it ({error}); delete it, and "
            "run the command again"
        ) from error


def choose(out: Path, method: str, run: RunConfig, num_trials: int) -> dict[str, object]:
    """The choices for one method from its folds, saved once: its best trial and its logit offsets."""
    path = out / "choices" / f"{method}.json"
    if path.exists():
        return read_result(path)
    kind, count = ("fold", run.comparison.num_folds) if method == RECIPE else ("trial", num_trials)
    folders = [out / "jobs" / f"{method}-{kind}-{number}" for number in range(count)]
    results = [read_result(folder / "result.json") for folder in folders]
    choice: dict[str, object] = {"scores": [result["score"] for result in results]}
    if method == RECIPE:
        held_out = HeldOutPredictions.joined([HeldOutPredictions.read(folder) for folder in folders])
    else:
        best = max(range(count), key=lambda trial: results[trial]["score"])
        held_out = HeldOutPredictions.read(folders[best])
        choice |= {"trial": best, "params": results[best]["params"]}
    benign = read_result(out / "classes.json")["benign_id"]
    # Offsets change predicted classes, but the TPR at a fixed FPR depends on ranks only: so use accuracy.
    primary = run.evaluation.primary_metric
    metric = BINARY_ACCURACY if primary == TPR_AT_1PCT_FPR else primary
    offsets = fit_logit_offsets(held_out.probabilities, held_out.class_ids, held_out.folds, benign, metric)
    choice |= {"logit_offsets": offsets.tolist(), "folds": results[0]["folds"]}
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps(choice) + "\n")
    return choice


@dataclass(frozen=True, slots=True)
class HeldOutPredictions:
    """Probabilities of held-out rows, by models trained without their attack."""

    probabilities: Float64[np.ndarray, "rows classes"]
    class_ids: Int64[np.ndarray, " rows"]
    folds: Int64[np.ndarray, " rows"]

    @staticmethod
    def joined(parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """The predictions of all folds together."""
        return HeldOutPredictions(
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.class_ids for part in parts]),
            np.concatenate([part.folds for part in parts]),
        )

    def write(self, folder: Path) -> None:
        """Save to the folder of a job."""
        columns = {f"p{index}": column for index, column in enumerate(self.probabilities.T)}
        table = pa.table({"fold": self.folds, "class": self.class_ids, **columns})
        parquet.write_table(table, folder / "held_out.parquet")

    @staticmethod
    def read(folder: Path) -> "HeldOutPredictions":
        """Load the file that `write` saved."""
        table = parquet.read_table(folder / "held_out.parquet")
        folds, class_ids, *columns = (table.column(name).to_numpy() for name in table.column_names)
        return HeldOutPredictions(np.stack(columns, axis=1), class_ids, folds)


def _trial(run: RunConfig, folder: RunFolder, job: ComparisonJob) -> dict[str, object]:
    baseline_method = BASELINES[job.method]
    params = draw_trials(baseline_method, run.comparison.num_trials, run.seed)[job.number]
    data = prepare(run, write_typed_rows(run, folder))
    pool = read_search_pool(run, data)
    scores: list[float] = []
    held_out: list[HeldOutPredictions] = []
    for fold in range(run.comparison.num_folds):
        is_train, is_stop, is_held_out = (
            side & pool.is_searched for side in pool.fold_split(fold, run.data.valid_fraction, run.seed)
        )
        task, coding = pool.task(is_train, is_stop)
        probabilities = fit_baseline(baseline_method, task, params, run.seed)(pool.rows(coding, is_held_out))
        class_ids = pool.class_ids[is_held_out]
        scores.append(_score(probabilities, class_ids, data.classes, run.evaluation.primary_metric))
        held_out.append(HeldOutPredictions(probabilities, class_ids, np.full(len(class_ids), fold)))
    HeldOutPredictions.joined(held_out).write(folder.path)
    result: dict[str, object] = {"params": dict(params), "folds": pool.folds.statement}
    return {**result, "scores": scores, "score": float(np.mean(scores))}


def _score(
    probabilities: Float64[np.ndarray, "rows classes"],
    class_ids: Int64[np.ndarray, " rows"],
    classes: ClassMap,
    metric: str,
) -> float:
    benign = None if classes.benign is None else classes.classes.index(classes.benign)
    labelled = LabelledRows(true_ids=class_ids, num_labels=len(classes.classes), benign=benign)
    scores = None if benign is None else 1 - probabilities[np.newaxis, :, benign]
    metrics = paired_metrics(labelled, probabilities.argmax(axis=1)[np.newaxis].astype(np.int64), scores)
    return float(metrics[metric][0])


def _fold(run: RunConfig, folder: RunFolder, fold: int, console: Console) -> dict[str, object]:
    """Train the recipe on one fold, as `workflows.train` does, and score the held-out rows."""
    data = prepare(run, write_typed_rows(run, folder))
    pool = read_search_pool(run, data)
    is_train, is_stop, is_held_out = pool.fold_split(fold, run.data.valid_fraction, run.seed)
    train, valid = (pool.part(n, data.train, s) for n, s in (("train", is_train), ("valid", is_stop)))
    # No row needs the verdict unknown here, and the novelty scorer would take most of the time.
    decision = replace(run.decision, alert_score="attack", novelty_reference_flows=0)
    fold_data = replace(data, train=train, valid=valid)
    trained = train_model(replace(run, decision=decision), fold_data, folder, RunLog(console))
    artifact = fit_decision(trained, fold_data)
    save_artifact(artifact, folder.model, card=model_card(artifact))
    detector = load_trained(run, folder)
    chosen = is_held_out & pool.is_searched
    tables = pool.part("held_out", data.train, chosen).tables()
    probabilities = np.concatenate([detector.score(table).probabilities for table in tables]).astype(
        np.float64
    )
    class_ids = pool.class_ids[chosen]
    HeldOutPredictions(probabilities, class_ids, np.full(len(class_ids), fold)).write(folder.path)
    score = _score(probabilities, class_ids, data.classes, run.evaluation.primary_metric)
    return {"score": score, "folds": pool.folds.statement}


def _evaluated_fit(run: RunConfig, folder: RunFolder, job: ComparisonJob, out: Path) -> dict[str, object]:
    """Fit one method on the training rows of this seed, and evaluate it on the tests after all choices."""
    params: Params = {}
    if job.kind == "chosen":
        params = cast(Params, read_result(out / "choices" / f"{job.method}.json")["params"])
    data = prepare(run, write_typed_rows(run, folder))
    pool = read_search_pool(run, data)
    task, coding = pool.task(~pool.is_valid, pool.is_valid)
    start_s = time.perf_counter()
    method = BASELINES[job.method]
    predict = fit_baseline(method, task, params, job.number)
    fit_s = time.perf_counter() - start_s
    baseline = ColumnBaseline(data.flows.schema, coding, predict, method.needs_text, params)
    write_predictions(folder.predictions("valid"), data.valid, data, baseline)
    tests = open_tests(run, data.flows.schema)
    record_test_reads(run, folder, data, tests, {"method": job.method, "settings": dict(params)})
    start_s, num_flows = time.perf_counter(), 0
    for part in [*([data.test] if data.test else []), *tests]:
        num_flows += write_predictions(folder.predictions(part.name), part, data, baseline)
    rows_per_s = num_flows / max(time.perf_counter() - start_s, 1e-9)
    return {"params": dict(params), "fit_s": round(fit_s, 2), "rows_per_s": round(rows_per_s)}


def write_predictions(path: Path, part: FlowSubset, data: PreparedData, baseline: Baseline) -> int:
    """Write the verdicts on a part, in the main columns of `predict`; returns their number."""
    label = part.flows.require_label()
    truth = TrueClasses(data.classes)
    names = data.classes.classes
    written: list[pa.Table] = []
    for table, rows in part.blocks():
        probabilities = baseline.predict_proba(table)
        columns = {f"p_{name}": probabilities[:, index] for index, name in enumerate(names)}
        if data.classes.benign is not None:
            columns["attack_score"] = 1 - probabilities[:, names.index(data.classes.benign)]
        predicted = np.array(names)[probabilities.argmax(axis=1)]
        written.append(
            pa.table(
                {"row": rows, "predicted_class": predicted, **columns, **truth.named(table.column(label))}
            )
        )
    path.parent.mkdir(exist_ok=True)
    whole = pa.concat_tables(written)
    parquet.write_table(whole, path)
    return whole.num_rows


def default_jobs() -> int:
    """Processes that fit side by side into this machine's processors and free memory, at least 1."""
    return max(1, min(num_processors(), psutil.virtual_memory().available // JOB_BYTES))


def limit_threads(num_jobs: int) -> Mapping[str, str]:
    """Environment variables that share the processor's cores among this many processes."""
    threads = str(max(1, num_processors() // num_jobs))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    return dict.fromkeys(names, threads)
