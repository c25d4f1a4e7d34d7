"""Trainings killed with SIGKILL at random moments and resumed: do they end as one that nothing disturbed?

    python tests/soak/kill.py [--kills 20] [--seed 1]
    python tests/soak/kill.py --device cuda [--not-deterministic] --set model.size=base

An undisturbed `wirebert train` comes first. Then each of the other runs is killed once, at a random moment
of the time that the undisturbed one took, including start and saving, and half of them once more after they
were resumed. Then they finish. On a CPU, and on a GPU with training.deterministic, model and verdicts must
have the same bytes as those of the undisturbed run; otherwise the differences of macro-F1 on the validation
rows are printed. A checkpoint is written after every step, so that many kills happen during saving. Traffic
is generated and the model is `mini`, unless `--set` and `--rows` change that.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import wirebert.workflows.train  # loaded before the first fork
from wirebert.cli.main import main as main_of_wirebert
from wirebert.data.synthetic import write_csv

assert wirebert.workflows.train.train

DECIDED = ("model/model.safetensors", "model/tokenizer.json", "predictions/valid.parquet")
SETTINGS = (
    *("model.size=mini", "training.epochs=6", "training.batch_size=64", "training.checkpoint_every=1"),
    *("training.log_every=2", "evaluation.baseline=false", "evaluation.num_resamples=100"),
)
SECOND_KILL = 0.5
"""Share of the runs that are killed twice."""


class Plan(NamedTuple):
    """What all runs have in common: the folder with their data, and their settings."""

    folder: Path
    settings: tuple[str, ...]

    def arguments(self, run: Path) -> list[str]:
        """Of the command that begins the run, or goes on with it."""
        if (run / "run.toml").exists():
            return ["train", "--resume", str(run)]
        shutil.rmtree(run, ignore_errors=True)  # killed before there was anything to resume
        given = [word for setting in self.settings for word in ("--set", setting)]
        return ["train", str(self.folder / "train.csv"), "--out", str(run), *given]


def begin(plan: Plan, run: Path) -> int:
    """Start a process of a run; its own words go to a file beside it.

    It is a fork of this one, which has loaded everything and computed nothing, so it starts at once.
    """
    arguments = plan.arguments(run)
    process = os.fork()
    if process == 0:
        log = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(main_of_wirebert(arguments))
    return process


def wait(process: int, run: Path, until_s: float) -> bool:
    """Wait for a process to end; whether it did before the time was up."""
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found == process and status != 0:
            sys.exit(
                f"{run} ended with status {status}:\n{run.with_suffix('.log').read_text(encoding='utf-8')}"
            )
        if found == process:
            return True
        if time.perf_counter() >= until_s:
            return False
        time.sleep(0.002)


def finish(plan: Plan, run: Path) -> float:
    """Let a run end by itself; the seconds it took."""
    start = time.perf_counter()
    wait(begin(plan, run), run, math.inf)
    return time.perf_counter() - start


def kill(plan: Plan, run: Path, after_s: float) -> str | None:
    """Start or resume a run and kill it; what it was at then, or None if it had ended by itself."""
    process = begin(plan, run)
    if wait(process, run, time.perf_counter() + after_s):
        return None
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return stage(run)


def stage(run: Path) -> str:
    """What a killed process was at, by what it left."""
    checkpoints = run / "checkpoints"
    if (run / "report.json").exists():
        return "tidying up"
    if (run / "model").exists():
        return "judging"
    if (run / "model.part").exists():
        return "saving the model"
    if any(checkpoints.glob(".partial-*")):
        return "saving a checkpoint"
    if any(checkpoints.glob("checkpoint-*")):
        return "training"
    return "training, before the first checkpoint" if (run / "metrics.jsonl").exists() else "starting"


def digests(run: Path) -> list[str]:
    """What must be the same, in short."""
    return [hashlib.sha256((run / name).read_bytes()).hexdigest() for name in DECIDED]


def macro_f1(run: Path) -> float:
    """Of the validation rows."""
    return json.loads((run / "report.json").read_text(encoding="utf-8"))["splits"]["valid"]["headline"][
        "macro_f1"
    ]


def disturb(plan: Plan, run: Path, whole_s: float, random: np.random.Generator) -> list[str]:
    """Kill a run once or twice at random and let it finish; what it was at each time."""
    stages: list[str] = []
    num_kills = 1 + int(random.random() < SECOND_KILL)
    while len(stages) < num_kills:
        at = kill(plan, run, random.uniform(0, whole_s))
        if at is None:  # it was faster than the one before: there is nothing left to kill
            break
        stages.append(at)
    finish(plan, run)
    return stages


def survive(plan: Plan, num_runs: int, seed: int, *, same_bits: bool) -> bool:
    """Whether all runs ended as the undisturbed one."""
    straight, random = plan.folder / "straight", np.random.default_rng(seed)
    whole_s = finish(plan, straight)
    print(f"undisturbed: {whole_s:.1f} s, macro-F1 {macro_f1(straight):.4f}", flush=True)
    met: Counter[str] = Counter()
    num_same, differences, number = 0, list[float](), 0
    while number < num_runs:
        run = plan.folder / f"killed-{number}"
        stages = disturb(plan, run, whole_s, random)
        if not stages:
            shutil.rmtree(run)
            continue
        is_same = digests(run) == digests(straight)
        differences.append(macro_f1(run) - macro_f1(straight))
        num_same, number = num_same + is_same, number + 1
        met.update(stages)
        print(
            f"run {number}: killed while {', then '.join(stages)}:",
            "same bits" if is_same else "OTHER BITS",
            flush=True,
        )
    print(f"{num_same} of {num_runs} runs ended with the same bits; {sum(met.values())} kills: {dict(met)}")
    spread = max(map(abs, differences))
    print(f"largest difference of macro-F1 on the validation rows: {spread:.4f}")
    return num_same == num_runs or not same_bits


def write_traffic(folder: Path, rows: int) -> None:
    """A file to train on, written by another process: this one is to stay fresh."""
    process = os.fork()
    if process == 0:
        write_csv(folder / "train.csv", rows, 1)
        os._exit(0)
    wait(process, folder, math.inf)


def settings_of(device: str, is_deterministic: bool, overrides: Sequence[str]) -> tuple[str, ...]:
    """Settings of every run."""
    asked = (f"training.device={device}", f"training.deterministic={str(is_deterministic).lower()}")
    return (*SETTINGS, *asked, *overrides)


def main() -> None:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description="Kill trainings at random and compare what they end with.")
    parser.add_argument("--kills", type=int, default=20, help="runs that are killed (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=1_000, help="flows to train on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments (default: %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--not-deterministic", action="store_true", help="on a GPU: as fast as it goes")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    given = parser.parse_args()
    is_deterministic = given.device == "cuda" and not given.not_deterministic
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_traffic(folder, given.rows)
        plan = Plan(folder, settings_of(given.device, is_deterministic, given.set))
        is_whole = survive(plan, given.kills, given.seed, same_bits=not given.not_deterministic)
    sys.exit(0 if is_whole else 1)


if __name__ == "__main__":
    main()
