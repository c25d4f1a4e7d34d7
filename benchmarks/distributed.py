"""How much faster several GPUs train than one, at the same batch per GPU.

    python benchmarks/distributed.py [--gpus 1 2 4] [--batch 1024] [--size base] [--out result.json]

Each number of GPUs is a run of torchrun of its own, with the real loop: feeding, corruption
and clipping as in `wirebert train`. The step grows with the number of GPUs. Warm-up steps are not counted; the rate is the median
over windows of equally many steps, and the device is waited for at their ends only. Without GPUs the ranks are processes on
the processor, which share its cores: that tells whether the command works and nothing else. Rows are NSL-KDD's from the
folder in WIREBERT_DATA (../shared/data without it), else generated traffic.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from harness import Rows, now_on, traffic, training_steps, write_figures

from wirebert.report.environment import versions
from wirebert.training.feeding import steps_per_epoch
from wirebert.training.parallel.process_group import Communicator, init_process_group

GENERATED_ROWS = 50_000


class Speed(NamedTuple):
    """What one number of ranks came to."""

    ranks: int
    rows_per_s: float
    """Median over the windows."""

    slowest: float
    fastest: float
    step_ms: float
    peak_mb: float
    """GPU memory of rank 0 at its peak."""


def measure(path: Path, given: argparse.Namespace, world: Communicator) -> Speed:
    """Train, and time windows of steps."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    wanted = [f"model.size={given.size}", f"training.batch_size={given.batch * world.size}"]
    data = Rows(path, given.rows).data([*wanted, f"training.device={device}", *given.set])
    num_steps = given.warm_up + given.windows * given.steps
    epochs = -(-num_steps // steps_per_epoch(len(data.flows), given.batch * world.size))
    rates: list[float] = []
    num_rows, since = 0, time.perf_counter()
    for _, step, _ in training_steps(data, epochs=epochs, world=world):
        num_rows += step.num_flows
        if (step.index - given.warm_up) % given.steps == 0 and step.index >= given.warm_up:
            now = now_on(device)
            if step.index > given.warm_up:
                rates.append(num_rows / (now - since))
            num_rows, since = 0, now
        if step.index == num_steps:
            break
    rate = statistics.median(rates)
    peak = torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else 0.0
    return Speed(world.size, rate, min(rates), max(rates), 1e3 * given.batch * world.size / rate, peak)


def launched(num_ranks: int, arguments: Sequence[str], result: Path) -> Speed:
    """The same on so many ranks, in processes of their own."""
    torchrun = f"-m torch.distributed.run --standalone --nproc-per-node {num_ranks}".split()
    command = [sys.executable, *torchrun, __file__, *arguments, "--measure-to", str(result)]
    subprocess.run(command, check=True)
    return Speed(**json.loads(result.read_text(encoding="utf-8")))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training speed on one GPU and on several.")
    parser.add_argument(
        "--gpus", nargs="+", type=int, help="numbers of GPUs (default: 1, 2, 4, ... up to all)"
    )
    parser.add_argument(
        "--batch", type=int, default=1024, help="flows of a step per GPU (default: %(default)s)"
    )
    parser.add_argument("--size", default="base", help="base or mini (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=60, help="of a window (default: %(default)s)")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=40, help="steps (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=0, help="only the first so many rows of the data")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    parser.add_argument("--measure-to", type=Path, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """Measure, print, and write."""
    given = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.measure_to is not None:  # one of torchrun's processes
            with init_process_group(os.environ) as crew:
                path, _ = crew.communicator.broadcast_object(
                    lambda: traffic(given.measure_to.parent, GENERATED_ROWS)
                )
                speed = measure(path, given, crew.communicator)
                if crew.communicator.is_main:
                    given.measure_to.write_text(json.dumps(speed._asdict()), encoding="utf-8")
            return
        most = torch.cuda.device_count() or 2
        numbers = given.gpus or [1 << power for power in range(most.bit_length()) if 1 << power <= most]
        speeds: list[Speed] = []
        print(f"{given.size}, {given.batch:,} flows per rank, {json.dumps(versions())}", flush=True)
        for number in numbers:
            speed = launched(number, sys.argv[1:], Path(folder) / "speed.json")
            speeds.append(speed)
            print(
                f"{number} ranks: {speed.rows_per_s:,.0f} rows/s ({speed.slowest:,.0f} to {speed.fastest:,.0f}), "
                f"{speed.step_ms:.2f} ms a step, {speed.rows_per_s / speeds[0].rows_per_s:.2f} times {numbers[0]}",
                flush=True,
            )
    ratios = [speed.rows_per_s / speeds[0].rows_per_s for speed in speeds]
    found = [{**speed._asdict(), "ratio": ratio} for speed, ratio in zip(speeds, ratios, strict=True)]
    write_figures(given.out, size=given.size, batch_per_rank=given.batch, settings=given.set, speeds=found)


if __name__ == "__main__":
    main()
