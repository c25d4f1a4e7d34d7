"""Does a setting help against attacks that training has not seen? Pairs of trainings on folds that hold whole attacks out.

    python benchmarks/choices.py training.batch_size=256 training.batch_size=1024 --out runs/choices --jobs 4
    python benchmarks/choices.py distillation.temperature=1 distillation.temperature=2 --out runs/rounds --recipe --only nsl_kdd --seeds 1 2

Each training is one fold of the training file as `wirebert compare` draws and scores it; a seed deals the attacks to the
folds anew. No test file is read. Each word is one way to train, `name=value` joined by commas; every way is compared with the
first on the same folds. What is done is not done again, and what is not done after `--minutes` is left out.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from harness import DATA, matrix_gflops
from quality import RECIPES, SETS

from wirebert.comparison.jobs import RECIPE, ComparisonJob, is_done, limit_threads, read_result, work
from wirebert.comparison.splits import corrected_interval
from wirebert.config import resolve_run, write_run


@dataclass(frozen=True, slots=True)
class Trial:
    """One way to train on one fold of one seed of a data set."""

    name: str
    way: str
    seed: int
    fold: int

    @property
    def job(self) -> ComparisonJob:
        """The fold of a comparison."""
        return ComparisonJob(kind="fold", method=RECIPE, number=self.fold)

    def folder(self, out: Path) -> Path:
        """Where the folds of this way and seed lie."""
        return out / self.name / hashlib.sha256(self.way.encode()).hexdigest()[:8] / str(self.seed)


def do(trial: Trial, options: argparse.Namespace, until: float) -> Trial:
    """Train on the fold unless that was done, or there is no time left; runs in a process of its own."""
    folder = trial.folder(options.out)
    if not is_done(folder, trial.job) and time.time() < until:
        recipe = resolve_run(RECIPES / f"{trial.name}.toml")
        settings = ["training.threads=1", *options.overrides, *trial.way.split(",")]
        base = RECIPES / f"{trial.name}.toml" if options.recipe else None
        run = resolve_run(base, settings, {"train": str(options.data / SETS[trial.name].train)})
        folder.mkdir(parents=True, exist_ok=True)
        write_run(replace(run, seed=trial.seed, data=recipe.data), folder / "compare.toml")
        work(folder, trial.job)
    return trial


def table(name: str, ways: Sequence[str], scores: dict[Trial, float]) -> dict[str, list[float]]:
    """Print one data set; returns the differences from the first way, a mean over the folds of each seed."""
    print(
        f"\n{name}: macro-F1 of rows held out, whole attacks; difference from the first, 95 % interval over seeds"
    )
    differences: dict[str, list[float]] = {}
    for way in ways:
        own = {(trial.seed, trial.fold): score for trial, score in scores.items() if trial.way == way}
        first = {(trial.seed, trial.fold): score for trial, score in scores.items() if trial.way == ways[0]}
        pairs = sorted(own.keys() & first.keys())
        seeds = sorted({seed for seed, _ in pairs})
        found = [
            float(np.mean([own[pair] - first[pair] for pair in pairs if pair[0] == seed])) for seed in seeds
        ]
        differences[way] = found
        mean = np.mean([own[pair] for pair in pairs]) if pairs else np.nan
        print(f"  {way:50} {mean:.4f} ({len(pairs)} pairs) {interval_of(found)}")
    return differences


def interval_of(values: Sequence[float]) -> str:
    """Mean and 95 % interval of differences, as text."""
    if len(values) < 2:
        return f"{values[0]:+.4f}" if values else "none"
    low, high = corrected_interval(np.array(values), 0.0).interval
    return f"{np.mean(values):+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ways", nargs="+", metavar="NAME=VALUE[,NAME=VALUE]")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SETS, default=["nsl_kdd", "unsw_nb15", "ton_iot"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--recipe", action="store_true", help="from the recipe of the data set, not the defaults"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="as of `wirebert train`")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    options = parser.parse_args()
    print(f"matrix product: {matrix_gflops():.0f} GFLOP/s", flush=True)
    trials = [
        Trial(name, way, seed, fold)  # ways of a pair beside each other, so that a cut leaves whole pairs
        for seed in options.seeds
        for fold in options.folds
        for name in options.only
        for way in options.ways
    ]
    os.environ.update(limit_threads(options.jobs))  # for the processes to come
    until, start = time.time() + 60 * options.minutes, time.time()
    scores: dict[Trial, float] = {}
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(do, trial, options, until) for trial in trials]):
            trial = future.result()
            if is_done(trial.folder(options.out), trial.job):
                result = read_result(trial.folder(options.out) / "jobs" / trial.job.name / "result.json")
                scores[trial] = float(result["score"])
                print(
                    f"{time.time() - start:.0f} s: {trial}: {scores[trial]:.4f}, {result['took_s']} s",
                    flush=True,
                )
    tables = {
        name: table(
            name, options.ways, {trial: score for trial, score in scores.items() if trial.name == name}
        )
        for name in options.only
    }
    if len(tables) > 1:
        print("\nall data sets together, over their seeds")
        for way in options.ways[1:]:
            print(f"  {way:50} {interval_of([value for one in tables.values() for value in one[way]])}")


if __name__ == "__main__":
    main()
