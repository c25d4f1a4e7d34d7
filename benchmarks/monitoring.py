"""What monitoring costs: the time of a step with dashboard, resource samples and metrics file, next to one without.

    python benchmarks/monitoring.py [--size mini] [--device auto] [--pairs 10] [--seconds 5] [--sinks tensorboard] [--out FILE]

One training goes on in one process; stretches with monitoring and without take turns, so that both see the same machine.
The figure to read is the median over the pairs of time per step with monitoring, divided by that without. Beside it stands
what the monitoring's threads themselves used of a processor, which no noise of the machine can hide. The dashboard
draws at 200 x 60 into a terminal that another process reads, as a person's would be.
"""

import argparse
import json
import os
import platform
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt16
from machine import matrix_gflops
from rich.console import Console

from wirebert.model.architecture import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.training.dashboard import frame
from wirebert.training.feeding import StepFlows, steps
from wirebert.training.loop import TrainState, TrainStep, train
from wirebert.training.monitoring import Listener, MetricsLog, StartEvent, StepEvent
from wirebert.training.picture import Picture
from wirebert.training.resources import Gauges, ResourceSampler
from wirebert.training.screen import Dashboard
from wirebert.training.settings import TrainConfig
from wirebert.training.sinks import open_sinks

NUM_FLOWS, LENGTH, NUM_CLASSES, VOCABULARY = 20_000, 42, 5, 3_000
SIZES = {"mini": (128, 4, 4, 512), "base": (768, 6, 12, 3072)}
WIDTH, HEIGHT = 200, 60


class Rows(NamedTuple):
    """Flows of about as many tokens as NSL-KDD's."""

    ids: UInt16[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " flows+1"]
    class_ids: Int64[np.ndarray, " flows"]


def make_state(size: str, config: TrainConfig) -> TrainState:
    """A model at the start of its training."""
    dim, num_layers, num_heads, hidden_dim = SIZES[size]
    architecture = Architecture(
        vocab_size=VOCABULARY,
        num_classes=NUM_CLASSES,
        dim=dim,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        max_positions=64,
    )
    model = DistilBert(architecture, generator=torch.Generator().manual_seed(0))
    counts = np.full(NUM_CLASSES, NUM_FLOWS // NUM_CLASSES)
    return TrainState.start(model, config, seed=0, num_steps=10**6, class_counts=counts)


def make_feed(config: TrainConfig) -> Iterator[StepFlows]:
    """Batches without end."""
    random = np.random.default_rng(0)
    lengths = random.integers(LENGTH - 4, LENGTH + 5, NUM_FLOWS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(10, VOCABULARY, offsets[-1]).astype(np.uint16)
    rows = Rows(ids, offsets, random.integers(0, NUM_CLASSES, NUM_FLOWS))
    return iter(steps(rows, config, seed=0, corruption=None, first_step=0))


class Stretch(NamedTuple):
    """Some steps in a row."""

    num_steps: int
    seconds: float


class Course:
    """A training that goes on from stretch to stretch."""

    def __init__(self, state: TrainState, config: TrainConfig) -> None:
        self.state, self.config = state, config
        self._steps: Iterator[TrainStep] = train(state, make_feed(config))
        self._began_s = time.perf_counter()

    def run(self, seconds: float, listeners: list[Listener]) -> Stretch:
        """Train for about this long, and tell the listeners as a training does."""
        if self.state.device.type == "cuda":
            torch.cuda.synchronize()
        since_s = began_s = time.perf_counter()
        for num_steps in count(1):
            step = next(self._steps)
            if step.index % self.config.log_every == 0:
                totals = (
                    self.state.tally.read()
                )  # waits for the device, as training does with or without listeners
                now_s = time.perf_counter()
                took_s, since_s = now_s - since_s, now_s
                event = StepEvent(
                    step=step.index,
                    epoch=step.index * self.config.batch_size / NUM_FLOWS,
                    loss=totals.loss,
                    accuracy=totals.accuracy,
                    lr_backbone=1e-3,
                    lr_classifier=1e-2,
                    grad_norm=totals.grad_norm,
                    loss_scale=1.0,
                    overflows=0,
                    micro_batch_tokens=self.state.micro_batch_tokens,
                    rows_per_s=totals.num_flows / took_s,
                    tokens_per_s=totals.num_tokens / took_s,
                    elapsed_s=now_s - self._began_s,
                )
                for listener in listeners:
                    listener.receive(event)
                if now_s - began_s >= seconds:
                    return Stretch(num_steps, now_s - began_s)
        raise AssertionError

    def start_event(self) -> StartEvent:
        """What a training says first."""
        return StartEvent(
            step=self.state.step,
            num_steps=10**6,
            num_epochs=1000,
            num_train=NUM_FLOWS,
            num_valid=0,
            num_parameters=sum(weight.numel() for weight in self.state.model.parameters()),
            batch_size=self.config.batch_size,
            device=str(self.state.device),
            precision=self.state.precision,
            seed=0,
        )


@contextmanager
def terminal() -> Generator[Console]:
    """A console on a terminal whose content another process reads."""
    leader, follower = pty.openpty()
    reader = subprocess.Popen(["cat"], stdin=leader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with os.fdopen(follower, "w", encoding="utf-8") as file:
        yield Console(file=file, force_terminal=True, color_system="256", width=WIDTH, height=HEIGHT)
    reader.terminate()
    reader.wait()
    os.close(leader)


@contextmanager
def monitored(
    folder: Path, picture: Picture, console: Console, names: list[str], start: StartEvent
) -> Generator[list[Listener]]:
    """The listeners of `wirebert train` on a terminal."""
    with (
        MetricsLog(folder / "metrics.jsonl") as log,
        Dashboard(console, picture) as screen,
        open_sinks(names, folder, {}, [log, screen]) as sinks,
        ResourceSampler([log, screen, *sinks], folder) as sampler,
    ):
        listeners: list[Listener] = [log, screen, *sinks, sampler]
        for listener in listeners:
            listener.receive(start)
        yield listeners


def processor_share(folder: Path, picture: Picture, device: torch.device) -> dict[str, float]:
    """Share of one processor that each thread of the monitoring uses, from the cost of what it does."""
    gauges, repeats = Gauges(folder, device), 50
    began_s = time.thread_time()
    for _ in range(repeats):
        gauges.read(0)
    sample_s = (time.thread_time() - began_s) / repeats
    began_s = time.thread_time()
    for index in range(repeats):
        frame(picture, WIDTH, HEIGHT, float(index))
    frame_s = (time.thread_time() - began_s) / repeats
    return {
        "sample_ms": 1e3 * sample_s,
        "frame_ms": 1e3 * frame_s,
        "samples": sample_s,  # one a second
        "dashboard_at_most": 1 / 200,  # it rests accordingly
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What monitoring costs.")
    parser.add_argument("--size", choices=SIZES, default="mini")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument(
        "--pairs", type=int, default=10, help="stretches with and without (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="of each stretch (default: %(default)s)")
    parser.add_argument("--sinks", nargs="*", default=[], help="tracking tools to feed too")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    config = TrainConfig(
        epochs=1000, learning_rate=1e-4, device=options.device, batch_size=options.batch_size, corruption=0.0
    )
    state = make_state(options.size, config)
    course, picture = Course(state, config), Picture(title="benchmark", hint="")
    speed = matrix_gflops()
    with tempfile.TemporaryDirectory() as name, terminal() as console:
        folder = Path(name)
        course.run(options.seconds, [])  # warm up
        times: dict[bool, list[float]] = {True: [], False: []}
        for pair in range(options.pairs):
            # Which comes first alternates, so that a machine that slows down favours neither.
            for is_on in (True, False) if pair % 2 else (False, True):
                if is_on:
                    with monitored(
                        folder, picture, console, options.sinks, course.start_event()
                    ) as listeners:
                        stretch = course.run(options.seconds, listeners)
                else:
                    stretch = course.run(options.seconds, [])
                times[is_on].append(stretch.seconds / stretch.num_steps)
        shares = processor_share(folder, picture, state.device)
    ratios = [on / off for on, off in zip(times[True], times[False], strict=True)]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    result = {
        "device": torch.cuda.get_device_name() if state.device.type == "cuda" else platform.machine(),
        "num_processors": os.cpu_count(),
        "size": options.size,
        "batch_size": options.batch_size,
        "sinks": options.sinks,
        "matrix_gflops": speed,
        "step_ms_off": 1e3 * statistics.median(times[False]),
        "step_ms_on": 1e3 * statistics.median(times[True]),
        "ratio": statistics.median(ratios),
        "ratio_quartiles": [quarters[0], quarters[-1]],
        "ratios": ratios,
        **shares,
    }
    print(
        f"{result['device']}, {options.size}, {options.pairs} pairs of {options.seconds:g} s: "
        f"{result['step_ms_off']:.2f} ms a step without monitoring, {result['step_ms_on']:.2f} ms with; "
        f"ratio {result['ratio']:.4f} (quartiles {quarters[0]:.4f} to {quarters[-1]:.4f})\n"
        f"a sample takes {shares['sample_ms']:.2f} ms of a processor, once a second; drawing {shares['frame_ms']:.2f} ms, "
        f"at most 0.5 % of the time",
        file=sys.stdout,
    )
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
