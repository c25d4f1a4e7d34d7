"""`wirebert compare`: benchmark the recipe against other methods on the same rows, by one protocol.

Jobs run in parallel processes, on one machine or on a Ray cluster. Finished jobs are kept: the same command
resumes a stopped comparison.
"""

import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from rich.console import Console

from wirebert.baselines.methods import BASELINES
from wirebert.baselines.task import text_columns
from wirebert.cluster.ray_executor import RayCluster
from wirebert.comparison.detection import (
    DETECTORS,
    DetectionResult,
    as_tables,
    check_detectors,
    summarise,
)
from wirebert.comparison.jobs import (
    RECIPE,
    TRIALS,
    ComparisonJob,
    JobsOf,
    choose,
    is_done,
    limit_threads,
    plan,
    read_result,
    work,
)
from wirebert.comparison.results import MethodRuns, as_markdown, compare_results
from wirebert.config import RunConfig, resolve_run, write_run
from wirebert.console import say
from wirebert.errors import ConfigError, RunError
from wirebert.evaluation.test_ledger import FILE_NAME
from wirebert.files import write_atomic
from wirebert.metrics.registry import primary_choices
from wirebert.report.comparison import Comparison
from wirebert.report.comparison_page import write_comparison
from wirebert.run_folder import RunFolder
from wirebert.serialization import from_builtins, to_builtins
from wirebert.telemetry.history import History
from wirebert.workflows.prepare import prepare, write_typed_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Facts about the training file that the comparison needs."""

    classes: tuple[str, ...]
    benign: str | None
    benign_id: int | None
    text_columns: tuple[str, ...]


def run_comparison(
    run: RunConfig,
    out: Path,
    recipe_text: str,
    runs: Sequence[Path],
    workers: int | RayCluster,
    console: Console,
    *,
    minutes: float | None = None,
) -> Comparison:
    """Run every job that is not done yet, then compute the results of all.

    Args:
        workers: Processes of this machine, or a cluster whose nodes reach the data and `out`.
        runs: Finished runs of the recipe to use; without them, the recipe is trained with each seed.
        minutes: Time for the trials, after which every method has the same, smaller number; None: all trials.

    Raises:
        RunError: the folder holds another comparison.
        ConfigError: a method is unknown, or the primary metric needs a benign class and there is none.
    """
    if run.data.test_fraction and run.data.split_seed is None:
        # All seeds must have the same rows, to average and resample them together.
        run = replace(run, data=replace(run.data, split_seed=run.seed))
    _open(run, out, recipe_text)
    facts = _facts(run, out)
    choices = primary_choices(has_benign=facts.benign is not None)
    if run.evaluation.primary_metric not in choices:
        raise ConfigError(
            f"evaluation.primary_metric must be one of {', '.join(choices)} where no class means benign, got "
            f"{run.evaluation.primary_metric}; choose one of these, or name the benign class with --benign"
        )
    methods = check_methods(run, has_text=bool(facts.text_columns))
    jobs = plan(run, methods, with_ours=not runs)
    num_trials = tune([job for job in jobs if not job.opens_tests], out, workers, minutes, console)
    names = [*([] if runs else [RECIPE]), *methods]
    choices = {name: choose(out, name, run, num_trials) for name in names}
    # Test files are opened only from here on: all choices are final.
    _do([job for job in jobs if job.opens_tests], out, workers, console)
    all_runs = [_method_runs(out, name, run, choices[name]) for name in names]
    if runs:
        folders = tuple(RunFolder(path) for path in runs)
        ours = MethodRuns(
            name=RECIPE,
            plain=folders,
            chosen=folders,
            logit_offsets=np.zeros(len(facts.classes)),
            reweights_classes=run.training.reweights_classes,
        )
        all_runs = [ours, *all_runs]
    comparison, histories = compare_results(out, run, all_runs, facts.classes, facts.benign)
    write_results(comparison, out, histories)
    return comparison


def run_detection(
    run: RunConfig, out: Path, recipe_text: str, workers: int | RayCluster, console: Console
) -> list[DetectionResult]:
    """Compare the detectors of a protocol other than labels; see `comparison.detection`.

    Raises:
        RunError: the folder holds another comparison.
        ConfigError: a detector is unknown, or no class is benign.
    """
    names = check_detectors(run)
    if run.data.test_fraction and run.data.split_seed is None:
        run = replace(run, data=replace(run.data, split_seed=run.seed))
    _open(run, out, recipe_text)
    seeds = range(run.seed, run.seed + run.comparison.num_seeds)
    jobs = [ComparisonJob(kind="detect", method=name, number=seed) for seed in seeds for name in names]
    _do(jobs, out, workers, console)
    results: list[DetectionResult] = []
    for name in names:
        own = [job for job in jobs if job.method == name]
        runs = [read_result(out / "jobs" / job.name / "result.json")["figures"] for job in own]
        results += summarise(DETECTORS[name].title, runs)
    write_atomic(out / "compare.json", json.dumps(to_builtins(results), indent=1) + "\n")
    write_atomic(out / "compare.md", as_tables(results))
    return results


def write_results(
    comparison: Comparison, out: Path, histories: Mapping[str, Sequence[History]] | None = None
) -> None:
    """Write the page, the metrics as JSON and the tables as Markdown."""
    write_comparison(comparison, out / "compare.html", histories)
    write_atomic(out / "compare.json", json.dumps(to_builtins(comparison), indent=1) + "\n")
    write_atomic(out / "compare.md", as_markdown(comparison))


def _open(run: RunConfig, out: Path, recipe_text: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    settings = out / "compare.toml"
    if settings.exists() and resolve_run(settings) != run:
        raise RunError(
            f"{out} holds a comparison with other settings; choose another --out, or repeat the same command "
            "to resume it"
        )
    write_run(run, settings)
    write_atomic(out / "recipe.toml", recipe_text)
    (out / "jobs").mkdir(exist_ok=True)
    # Jobs write to the ledger in their parent folder; make it the ledger of this comparison's parent folder.
    ledger = out / "jobs" / FILE_NAME
    if not ledger.is_symlink():
        ledger.symlink_to((out.absolute().parent / FILE_NAME).resolve())


def _facts(run: RunConfig, out: Path) -> Facts:
    """The facts about the training file, read once and saved."""
    path = out / "classes.json"
    if not path.exists():
        folder = RunFolder(out / "jobs" / "reading")
        folder.path.mkdir(parents=True, exist_ok=True)
        data = prepare(run, write_typed_rows(run, folder))
        folder.discard_working_files()
        benign = data.classes.benign
        known = data.classes.classes
        facts = Facts(
            classes=known,
            benign=benign,
            benign_id=None if benign is None else known.index(benign),
            text_columns=tuple(text_columns(data.flows.schema)),
        )
        write_atomic(path, json.dumps(to_builtins(facts)) + "\n")
    return from_builtins(Facts, read_result(path))


def check_methods(run: RunConfig, *, has_text: bool) -> tuple[str, ...]:
    """The methods to compare with; methods for text are omitted if the data has none.

    Raises:
        ConfigError: a method is unknown.
    """
    unknown = [name for name in run.comparison.methods if name not in BASELINES]
    if unknown:
        raise ConfigError(f"comparison.methods must be of {', '.join(BASELINES)}, got {unknown[0]!r}")
    return tuple(name for name in run.comparison.methods if has_text or not BASELINES[name].needs_text)


def _method_runs(out: Path, name: str, run: RunConfig, choice: dict[str, object]) -> MethodRuns:
    seeds = range(run.seed, run.seed + run.comparison.num_seeds)

    def folders(kind: str) -> tuple[RunFolder, ...]:
        return tuple(RunFolder(out / "jobs" / f"{name}-{kind}-{seed}") for seed in seeds)

    plain, chosen = ("run", "run") if name == RECIPE else ("plain", "chosen")
    params = choice.get("params")
    reweights = (
        run.training.reweights_classes
        if name == RECIPE
        else isinstance(params, dict) and bool(params.get("class_weight"))
    )
    return MethodRuns(
        name=name,
        plain=folders(plain),
        chosen=folders(chosen),
        logit_offsets=np.array(choice["logit_offsets"], dtype=np.float64),
        reweights_classes=reweights,
    )


def tune(
    jobs: Sequence[ComparisonJob],
    out: Path,
    workers: int | RayCluster,
    minutes: float | None,
    console: Console,
) -> int:
    """Run the jobs of the choices; returns the number of trials that every method got, which is saved once.

    After `minutes`, no trial starts but the first of each method, and every method keeps the same number.
    """
    path = out / TRIALS
    if not path.exists():
        stop_s = None if minutes is None else time.monotonic() + 60 * minutes
        _do(jobs, out, workers, console, stop_s)
        trials = [job for job in jobs if job.kind == "trial"]
        planned = max((job.number + 1 for job in trials), default=0)
        finished = min((job.number for job in trials if not is_done(out, job)), default=planned)
        write_atomic(path, json.dumps({"finished": finished, "planned": planned}) + "\n")
    return read_result(path)["finished"]


def _do(
    jobs: Sequence[ComparisonJob],
    out: Path,
    workers: int | RayCluster,
    console: Console,
    stop_s: float | None = None,
) -> None:
    """Run each job that is not done in a separate process; after `stop_s` (monotonic), only first trials."""

    def is_due(job: ComparisonJob) -> bool:
        is_late = stop_s is not None and time.monotonic() > stop_s
        return not (is_late and job.kind == "trial" and job.number > 0)

    waiting = [job for job in jobs if not is_done(out, job)]
    done, start_s = len(jobs) - len(waiting), time.monotonic()
    finished = (
        _in_processes(waiting, out, workers, is_due)
        if isinstance(workers, int)
        else workers.run(JobsOf(out.absolute()), waiting, is_due=is_due)
    )
    for number, job in enumerate(finished, start=1):
        left_s = (time.monotonic() - start_s) / number * (len(waiting) - number)
        left = timedelta(seconds=round(left_s))
        say(console, f"{done + number}/{len(jobs)} {job.name}; about {left} left")


def _in_processes(
    jobs: Sequence[ComparisonJob], out: Path, num_jobs: int, is_due: Callable[[ComparisonJob], bool]
) -> Iterator[ComparisonJob]:
    """Each job when it is finished, run in processes of this machine."""
    waiting = deque(jobs)
    if not waiting:
        return
    running: dict[Future[None], ComparisonJob] = {}
    os.environ.update(limit_threads(num_jobs))  # for child processes: this one computes nothing
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_jobs, mp_context=context, max_tasks_per_child=1) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < num_jobs:
                    if is_due(job := waiting.popleft()):
                        running[pool.submit(work, out, job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    future.result()
                    yield job
        finally:
            if waiting or running:  # a job failed or the user interrupted: do not wait for the others
                pool.shutdown(wait=False, cancel_futures=True)
                for process in multiprocessing.active_children():
                    process.terminate()
