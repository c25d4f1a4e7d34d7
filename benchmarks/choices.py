"""Which choices of design help against attacks that training has not seen? Each alone, beside the default, on one file.

    python benchmarks/choices.py --jobs 8 --minutes 8 --out choices.json
    python benchmarks/choices.py --jobs 8 --only default xgboost lightgbm --trials 22 --seeds 1 --out search.json
    python benchmarks/choices.py --only default class_weights=sqrt xgboost --rows 6000 --epochs 1 --folds 0 --out tiny.json

Leave-attack-out cross-validation as in `wirebert compare` (`wirebert.ground`): in each fold whole attack names are held out,
with a share of the benign rows; each seed deals the names out anew. No test file is opened: the run names none. What a model
says of the rows held out is calibrated on its validation rows, as the product does, and judged against their true classes.
A choice is compared with the default on the same folds with the same seeds.

One training is one process. Every result is written as it comes, so that a run which was stopped goes on; after `--minutes`
nothing new is begun. What the trainings said stays in a folder beside `--out`, from which mixtures are made at the end.
"""

import argparse
import fcntl
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from held_out import (
    FIGURES,
    Said,
    Verdicts,
    calibrated,
    joined,
    judge,
    read_pickle,
    scored,
    table,
    write_pickle,
)
from machine import matrix_gflops
from scipy.special import logsumexp
from taught import fit_teacher, taught_rows
from variants import (
    BINS,
    MIXTURES,
    MODELS,
    MOST_TRIALS,
    TRIAL,
    VARIANTS,
    Targets,
    Variant,
    corruption_with,
    further_aim,
    placed_bins,
)

from wirebert import pipeline
from wirebert.config import RunConfig, resolve_run
from wirebert.contest import limit_threads
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.novelty import Strangeness
from wirebert.evaluation.rivals import RIVALS, fit_rival
from wirebert.files import write_whole
from wirebert.ground import Ground, read_ground
from wirebert.lessons import taught
from wirebert.model.batches import score
from wirebert.model.checkpoints import build
from wirebert.model.initialization import TokenLayout
from wirebert.run_folder import RunFolder
from wirebert.serving.detector import choose_device
from wirebert.settings import to_mapping
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.corruption import Corruption
from wirebert.training.feeding import LabelledRows
from wirebert.training.session import fit_model
from wirebert.training.soft_targets import SoftTargets
from wirebert.training.token_trees import TokenTrees

LISTED = [name for name in VARIANTS if not name.startswith(TRIAL)]


@dataclass(frozen=True, slots=True)
class Task:
    """One training, or what stands in its place; without a variant only the rows are encoded."""

    variant: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """In the JSON file."""
        return f"{self.variant} | {self.seed} | {self.fold}"


@dataclass(frozen=True, slots=True)
class Stage:
    """A fold's rows as one tokenizer encodes them."""

    tokenizer: FlowTokenizer
    classes: tuple[str, ...]
    benign_id: int
    names: tuple[str, ...]
    """Labels as in the file."""
    name_ids: np.ndarray
    """Of every row of the file."""
    names_of_class: tuple[np.ndarray, ...]
    """Which names each class has."""
    train: Path
    valid: Path
    held_out: Path


def said_path(work: Path, task: Task) -> Path:
    """Where a task leaves what it found."""
    return work / "said" / f"{task.name.replace(' ', '').replace('|', '_')}.pickle"


def perform(task: Task, run: RunConfig, work: Path) -> dict[str, object]:
    """A task's figures; runs in a process of its own."""
    start_s = time.perf_counter()
    variant = VARIANTS.get(task.variant, Variant())
    run = replace(run, seed=task.seed)
    if variant.kind in ("model", "trees"):
        stage = staged(run, task.fold, variant.change if variant.change in BINS else "", work)
        if task.variant not in VARIANTS:
            return {"seconds": round(time.perf_counter() - start_s, 1)}
        if variant.kind == "trees":
            said = say_trees(run, stage)
        else:
            said = train(run, variant, stage, task.fold, work)
    else:
        said = rival(run, variant, task.fold, work)
    is_tilted = variant.kind == "model" and run.training.tilts_classes
    verdicts = None if variant.kind == "novelty" else calibrated(said, is_tilted)
    write_pickle(said_path(work, task), (said, verdicts))
    figures = {} if verdicts is None else judge(said, verdicts)
    return {"seconds": round(time.perf_counter() - start_s, 1), **figures}


def sides_of(run: RunConfig, work: Path, fold: int) -> tuple[pipeline.Prepared, Ground, list[np.ndarray]]:
    """The training file, and which of its rows train, validate and are held out."""
    folder = RunFolder(work / "prepared" / f"{os.getpid()}")
    folder.path.mkdir(parents=True, exist_ok=True)
    data = pipeline.prepare(run, folder)
    ground = read_ground(run, data)
    sides = ground.sides(fold, run.data.valid_fraction, run.seed)
    return data, ground, [side & ground.is_searched for side in sides]


def staged(run: RunConfig, fold: int, change: str, work: Path) -> Stage:
    """The encoded rows, made by whoever comes first."""
    settings = json.dumps([asdict(run.encoding), asdict(run.data), run.protocol.max_search_rows, change])
    key = f"{run.seed}-{fold}-{abs(hash_of(settings)):x}"
    cache = work / "encoded" / key
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = cache / "stage.pickle"
        if not path.exists():
            data, ground, sides = sides_of(run, work, fold)
            names = ("train", "valid", "held_out")
            train, valid, held_out = (
                ground.part(name, data.train, side) for name, side in zip(names, sides, strict=True)
            )
            own = replace(data, train=train, valid=valid)
            with placed_bins(change):
                tokenizer = pipeline.fit_tokenizer(run, own, cache)
            encoded = [
                pipeline.encode(part, own, tokenizer, cache).folder for part in (train, valid, held_out)
            ]
            benign = data.classes.classes.index(data.classes.benign or "")
            labels = data.seen.labels.astype(np.int64)
            class_of = np.array([data.classes.class_of_label(name) for name in data.seen.label_names])
            stage = Stage(
                *(tokenizer, data.classes.classes, benign, tuple(data.seen.label_names), labels),
                tuple(np.flatnonzero(class_of == name) for name in data.classes.classes),
                *cast("list[Path]", encoded),
            )
            write_pickle(path, stage)
        return read_pickle(path)


def hash_of(text: str) -> int:
    """The same in every process, as Python's own hash is not."""
    return int.from_bytes(text.encode(), "big") % ((1 << 61) - 1)


def train(run: RunConfig, variant: Variant, stage: Stage, fold: int, work: Path) -> Said:
    """A model trained as `wirebert train` trains it, and its logits."""
    flows, valid, held_out = (EncodedFlows.open(path) for path in (stage.train, stage.valid, stage.held_out))
    seed, classes = run.seed + variant.seed_offset, stage.classes
    learned, judged = cast("list[LabelledRows]", [flows, valid])
    names = stage.name_ids[flows.rows]
    by_name = variant.change == "names as classes"
    if by_name:
        classes = stage.names
        learned, judged = (
            Targets(part.ids, part.offsets, stage.name_ids[part.rows]) for part in (flows, valid)
        )
    model = build(run.model, TokenLayout.of(stage.tokenizer), classes=classes, seed=seed)
    if variant.change in MODELS:
        MODELS[variant.change](model, stage.tokenizer)
    config = run.training.settled(num_flows=len(flows), width=model.architecture.dim, is_pretrained=False)
    corruption = corruption_with(variant.change, Corruption.of(stage.tokenizer, config), stage.tokenizer)
    soft = None
    with (
        tempfile.TemporaryDirectory() as place,
        further_aim(variant.change, model, learned, names) as learned,
    ):
        if run.distillation.trees or variant.lesson is not None:
            learned, soft = lesson(run, variant, stage, (flows, valid), fold, work, Path(place))
        fit_model(
            *(model, learned, judged, config),
            seed=seed,
            corruption=corruption,
            checkpoints=CheckpointFolder(Path(place)),
            log=None,
            soft=soft,
        )
    device = choose_device(config.device)
    logits = [score(model, part, device=device) for part in (valid, held_out)]
    if by_name:  # a class is as likely as its names together
        logits = [
            np.stack([cast(Any, logsumexp(part[:, own], axis=1)) for own in stage.names_of_class], 1)
            for part in logits
        ]
    return said_of(stage, valid, held_out, logits)


def said_of(stage: Stage, valid: EncodedFlows, held_out: EncodedFlows, logits: Sequence[np.ndarray]) -> Said:
    """The logits of validation rows and of rows held out, with what these are."""
    return Said(
        valid=logits[0],
        held_out=logits[1],
        valid_ids=np.asarray(valid.class_ids),
        held_out_ids=np.asarray(held_out.class_ids),
        name_ids=stage.name_ids[held_out.rows],
        benign_id=stage.benign_id,
    )


def say_trees(run: RunConfig, stage: Stage) -> Said:
    """What the trees say that `distillation.trees` makes teachers."""
    flows, valid, held_out = (EncodedFlows.open(path) for path in (stage.train, stage.valid, stage.held_out))
    trees = TokenTrees.fit(
        *(stage.tokenizer, flows.block, np.asarray(flows.class_ids), valid),
        num_classes=len(stage.classes),
        weights=run.distillation.tree_weights,
        seed=run.seed,
    )
    logits = [np.log(trees.say(part.block).clip(1e-9)) for part in (valid, held_out)]
    return said_of(stage, valid, held_out, logits)


def lesson(
    run: RunConfig,
    variant: Variant,
    stage: Stage,
    flows: tuple[EncodedFlows, EncodedFlows],
    fold: int,
    work: Path,
    place: Path,
) -> tuple[EncodedFlows, SoftTargets | None]:
    """The flows that a teacher speaks of, and what it says: the product's trees, or a teacher of `taught.py`."""
    data, ground, sides = sides_of(run, work, fold)
    if variant.lesson is not None:
        what = (variant.lesson, data, ground, sides, stage.tokenizer, flows[0])
        return taught_rows(*what, place / "flows", run.seed)
    train, stop = (ground.part("some", data.train, side) for side in sides[:2])
    own = replace(data, train=train, valid=stop)
    found = taught(run, own, stage.tokenizer, *flows, place / "encoded")
    return found.flows, found.soft


def rival(run: RunConfig, variant: Variant, fold: int, work: Path) -> Said:
    """What trees say, or how far a row lies from the nearest of some training rows."""
    data, ground, (is_train, is_valid, is_held_out) = sides_of(run, work, fold)
    if variant.kind == "novelty":
        near = Strangeness.fit(ground.measured.filter(pa.array(is_train)), 10_000, run.seed)
        valid, held_out = (
            near.scores(ground.measured.filter(pa.array(side))) for side in (is_valid, is_held_out)
        )
    else:
        task, coding = ground.task(is_train, is_valid)
        predict = (
            fit_teacher(variant.change, task, run.seed)
            if variant.kind == "teacher"
            else fit_rival(RIVALS[variant.kind], task, {}, run.seed)
        )
        valid, held_out = (
            np.log(predict(ground.rows(coding, side)).clip(1e-12)) for side in (is_valid, is_held_out)
        )
    return Said(
        valid=valid,
        held_out=held_out,
        valid_ids=ground.class_ids[is_valid],
        held_out_ids=ground.class_ids[is_held_out],
        name_ids=data.seen.labels[ground.row_numbers[is_held_out]].astype(np.int64),
        benign_id=data.classes.classes.index(data.classes.benign or ""),
    )


def mixed(work: Path, seed: int, fold: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures of the mixtures whose members are all there."""
    read = {
        name: read_pickle(path)
        for name in VARIANTS
        if (path := said_path(work, Task(name, seed, fold))).exists()
        and any(name in (*members, "novelty") for members, _ in MIXTURES.values())
    }
    for title, (members, with_novelty) in MIXTURES.items():
        if not {*members, *(["novelty"] if with_novelty else [])} <= read.keys():
            continue
        parts: list[tuple[Said, Verdicts]] = [read[member] for member in members]
        said = parts[0][0]
        assert all(np.array_equal(said.name_ids, one.name_ids) for one, _ in parts), "rows in another order"
        valid, held_out = (
            np.mean([getattr(one, side) for _, one in parts], axis=0) for side in ("valid", "held_out")
        )
        verdicts = scored(valid, held_out, said.benign_id)
        yield title, judge(said, joined(verdicts, read["novelty"][0]) if with_novelty else verdicts)


def show(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of each figure."""
    figures: dict[str, dict[tuple[int, int], Mapping[str, float]]] = {}
    for name, found in results.items():
        variant, seed, fold = name.split(" | ")
        if "log_loss" in found:
            figures.setdefault(variant, {})[int(seed), int(fold)] = found
    for figure in FIGURES if figures else ():
        print("\n".join(table(figures, figure)))
    print(
        f"\n{len(figures)} ways side by side: at 95 % about {len(figures) / 20:.0f} of them differ by chance alone (*); "
        "'default, seed +N' is the default itself."
    )


def tasks_of(names: Sequence[str], seeds: Sequence[int], folds: Sequence[int]) -> list[Task]:
    """Rows first, then one replicate of everything after the other, so that a run cut short has whole ones."""
    places = [(seed, fold) for seed in seeds for fold in folds]
    return [
        *(Task("rows", *place) for place in places),
        *(Task(name, *place) for place in places for name in names),
    ]


def run_all(
    tasks: Sequence[Task], runs: Mapping[str, RunConfig], options: argparse.Namespace, save: Any
) -> None:
    """Every task in a process of its own, `jobs` at a time; none is begun after `minutes`."""
    context = get_context("forkserver")
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    context.set_forkserver_preload(["choices"])  # imported once, not by every process
    deadline_s = time.perf_counter() + 60 * options.minutes
    waiting, running = iter(tasks), cast("dict[Future[dict[str, object]], Task]", {})
    with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        while True:
            while len(running) < options.jobs and time.perf_counter() < deadline_s:
                task = next(waiting, None)
                if task is None:
                    break
                run = runs.get(task.variant, runs["rows"])
                running[pool.submit(perform, task, run, options.work)] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                save(running.pop(future), future)


def main() -> None:
    options = parsed()
    os.environ.update(limit_threads(options.jobs))
    options.work.mkdir(parents=True, exist_ok=True)
    given = {
        "train": str(options.data),
        "model": {"size": options.size},
        "training": {"epochs": options.epochs, "device": options.device},
        "protocol": {"max_search_rows": options.rows or 10**9},
    }
    names = [*(options.only or LISTED), *(f"{TRIAL}{number}" for number in range(1, options.trials + 1))]
    shared = to_mapping(resolve_run(options.recipe, (), given))
    runs = {
        name: resolve_run(
            None, [*options.settings, *VARIANTS.get(name, Variant()).overrides], inherited=shared
        )
        for name in ["rows", *names]
    }
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    results: dict[str, Any] = kept.get("results", {})
    about = {"given": given, "recipe": str(options.recipe or ""), "settings": options.settings}
    assert kept.get("about", about) == about, (
        f"{options.out} holds results of other settings: give another --out"
    )
    todo = [task for task in tasks_of(names, options.seeds, options.folds) if task.name not in results]
    print(
        f"matrix product: {matrix_gflops():.0f} GFLOP/s; {len(todo)} tasks, {len(results)} done before",
        flush=True,
    )
    start_s = time.perf_counter()

    def save(task: Task, future: Future[dict[str, object]]) -> None:
        passed = f"{time.perf_counter() - start_s:6.0f} s  {task.name}"
        error = future.exception()
        if error is not None:
            print(f"{passed}: FAILED\n{''.join(traceback.format_exception(error)[-3:])}", flush=True)
            return
        results[task.name] = found = future.result()
        shown = " ".join(f"{name}={value:.4f}" for name, value in found.items() if name in FIGURES)
        print(f"{passed}: {found['seconds']} s {shown}", flush=True)
        write_whole(options.out, json.dumps({"about": about, "results": results}, indent=1) + "\n")

    run_all(todo, runs, options, save)
    for place in dict.fromkeys((seed, fold) for seed in options.seeds for fold in options.folds):
        results |= {Task(title, *place).name: found for title, found in mixed(options.work, *place)}
    write_whole(options.out, json.dumps({"about": about, "results": results}, indent=1) + "\n")
    show(results)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default / "nsl-kdd" / "KDDTrain+.txt.gz")
    parser.add_argument("--recipe", type=Path, help="settings that the default has, too")
    parser.add_argument("--only", nargs="*", choices=LISTED, metavar="CHOICE", help=", ".join(LISTED))
    parser.add_argument(
        "--trials",
        type=int,
        default=0,
        choices=range(MOST_TRIALS + 1),
        metavar="N",
        help=f"so many random mixtures of settings as well, at most {MOST_TRIALS}",
    )
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="SECTION.NAME=VALUE, for all"
    )
    parser.add_argument("--size", default="mini", choices=("mini", "base"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--folds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=0, help="rows of the file at most; 0: all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--minutes", type=float, default=1e6, help="nothing is begun after that")
    parser.add_argument("--out", type=Path, default=Path("runs/choices.json"), help="results; found again")
    parser.add_argument("--work", type=Path, help="encoded rows and what was said; default: beside --out")
    options = parser.parse_args()
    options.work = options.work or options.out.with_suffix(".work")
    return options


if __name__ == "__main__":
    main()
