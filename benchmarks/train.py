"""How fast a DistilBERT is trained: other recipes and ours, one after the other in one process on this machine.

    python benchmarks/train.py [--device cuda] [--size base] [--recipes leave-out trainer ...] [--out result.json]
    python benchmarks/train.py --epochs 5 --recipes leave-out trainer    # as long as a training of five epochs
    python benchmarks/train.py --monitoring [--size mini] [--trackers tensorboard]    # what dashboard and metrics cost

| recipe | what it is |
|---|---|
| replaced | fp16 with gradient scaling (fp32 on a CPU), batch 32, WordPiece rows padded to 512, stock model, AdamW |
| transformers | stock model, batch 256, WordPiece rows cut at 256, fused AdamW, bf16 autocast |
| trainer, trainer-compiled | `transformers.Trainer` on the leave-out rows: bf16, fused AdamW, grouped by length, workers |
| trainer-full | the same on full-length rows |
| leave-out, full | ours: the real loop with real feeding, corruption and clipping, settings as in `wirebert train` |
| leave-out-bf16, leave-out-math | ours with one setting changed |
| whole, checkpointing | ours at full length, kernel by kernel: the whole step at once, without and with gradient checkpointing |
| feeding | no model: one thread chooses, corrupts and packs the steps of leave-out, as it does while others are computed |

Rows are NSL-KDD's from the folder in WIREBERT_DATA (../shared/data without it), else generated traffic; WordPiece rows are
random ids of NSL-KDD's length, which are as fast. Warm-up steps are not counted: `once` says what of them is more than
these steps take later (compilation, above all). Rates are medians over windows of equally many steps, with the slowest and
the fastest; the device is waited for at the ends of windows only. `share` is the matrix products that a recipe computes,
padding included, over the speed of one large matrix product in the recipe's precision, measured right before; `useful`
leaves padding out. Both count a stock model's products; ours skips some in the last block, as only `[CLS]` is read.
`activations` is GPU memory at its peak less what rests between two steps.

`--monitoring` takes pairs of windows of one training of ours, with and without dashboard, resource samples, metrics file and
trackers, in turns, so that both see the same machine. The figure to read is the median over the pairs of time a step
with monitoring, divided by that without. Beside it stands what a sample and a drawing cost a processor, which no
noise of the machine can hide. The dashboard draws into a terminal that another process reads, as a person's would be.
"""

import argparse
import gc
import json
import os
import pty
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU: Trainer would spread over all that it sees

import torch
from harness import (
    Data,
    MeanRow,
    Meter,
    Rows,
    Speed,
    Work,
    first_flows,
    matrix_gflops,
    peak_tflops,
    traffic,
    training_steps,
    write_figures,
)
from rich.console import Console
from stock_models import WORDPIECE_VOCABULARY, stock_loop, trainer_loop

from wirebert.report.environment import versions
from wirebert.telemetry.dashboard import frame
from wirebert.telemetry.events import Event, Listener, MetricsLog, StartEvent, StepEvent
from wirebert.telemetry.resources import Gauges, ResourceSampler
from wirebert.telemetry.screen import Dashboard
from wirebert.telemetry.state import DashboardState
from wirebert.telemetry.trackers import open_trackers
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.corruption import Corruption
from wirebert.training.device import choose_micro_batch_tokens
from wirebert.training.feeding import micro_batches, steps, steps_per_epoch
from wirebert.training.trainer import fit_model

GENERATED_ROWS = 50_000
WIDTH = 14
SCREEN = (200, 60)
LOSSLESS_EPOCHS = 1_000
"""More than any window needs."""

FULL = ("encoding.omit_most_frequent=false",)
LAUNCHED = (*FULL, "training.cuda_graphs=false")
"""The memory of a recorded step is the graph's own, and not among what is counted."""
OURS: dict[str, tuple[str, ...]] = {
    "leave-out": (),
    "full": FULL,
    "leave-out-bf16": ("training.precision=bf16",),
    "leave-out-math": ("model.attention=math",),
    "whole": (*LAUNCHED, "training.micro_batch_tokens=whole"),
    "checkpointing": (*LAUNCHED, "training.micro_batch_tokens=whole", "model.gradient_checkpointing=true"),
    "feeding": (),
}
RECIPES = ("replaced", "transformers", "trainer", "trainer-compiled", "trainer-full", *OURS)
STANDARD = {
    "cuda": tuple(name for name in RECIPES if name != "leave-out-bf16"),
    "cpu": tuple(name for name in RECIPES if name != "trainer-compiled"),
}


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    device: torch.device
    size: str
    batch_size: int
    seconds: float
    windows: int
    warm_up_steps: int
    epochs: int
    overrides: tuple[str, ...]

    @property
    def dtype(self) -> torch.dtype:
        """Precision of what is not ours: bf16, single on a processor."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def dtype_of(self, recipe: str) -> torch.dtype:
        """Precision of a recipe."""
        if "training.precision=bf16" in (*OURS.get(recipe, ()), *self.overrides):
            return torch.bfloat16
        return torch.float16 if recipe == "replaced" and self.device.type == "cuda" else self.dtype

    def assignments(self, changed: Sequence[str] = ()) -> list[str]:
        """Settings of a recipe that differ from the defaults."""
        given = (f"model.size={self.size}", f"training.batch_size={self.batch_size}")
        return [*given, f"training.device={self.device.type}", *changed, *self.overrides]

    def meter(self, max_steps: int = 0) -> Meter:
        """A meter for one recipe."""
        return Meter(
            self.device,
            warm_up_steps=self.warm_up_steps,
            window_s=self.seconds / self.windows,
            num_windows=self.windows,
            max_steps=max_steps,
        )


class Row(NamedTuple):
    """One line of the table."""

    recipe: str
    speed: Speed | None
    peak_tflops: float
    batch_size: int
    reason: str
    """Why there is no figure."""


def ours(data: Data, options: Options) -> Speed:
    """The loop of `wirebert train`."""
    num_steps = steps_per_epoch(len(data.flows), options.batch_size) * options.epochs
    meter, mean_row = options.meter(num_steps), MeanRow.of(data.flows)
    for state, step, _ in training_steps(data, epochs=options.epochs or LOSSLESS_EPOCHS):
        # Corruption adds and takes away tokens: the step's own are counted, their squares are in proportion.
        num_tokens = step.num_tokens / step.num_flows
        row = MeanRow(num_tokens, mean_row.squared * num_tokens / mean_row.tokens)
        if not meter.step(row.work(state.model.architecture, step.num_flows)):
            break
    return meter.speed()


def feeding(data: Data, options: Options) -> Speed:
    """What is ready before a step begins: its rows, and nothing computed with them."""
    config = replace(data.run.training, epochs=LOSSLESS_EPOCHS)
    corruption, pad_id = Corruption.of(data.tokenizer, config), data.tokenizer.pad_id
    meter, max_tokens = options.meter(), choose_micro_batch_tokens(config, options.device)
    for step in steps(data.flows, config, seed=1, corruption=corruption):
        micro_batches(step, max_tokens, pad_id=pad_id, device=options.device, batch_size=config.batch_size)
        if not meter.step(Work(len(step.class_ids), len(step.rows.ids), 0.0, 0.0)):
            break
    return meter.speed()


def stock(name: str, rows: Rows, options: Options) -> tuple[Speed, int]:
    """A stock model in a plain loop; its speed and its batch size."""
    batch_size, padded_to = (32, 512) if name == "replaced" else (256, 256)
    base = rows.data(options.assignments()).model().architecture
    architecture = replace(base, vocab_size=WORDPIECE_VOCABULARY, positions=True, num_columns=0)
    dtype, meter, fused = options.dtype_of(name), options.meter(), name == "transformers"
    stock_loop(architecture, meter, batch_size=batch_size, padded_to=padded_to, dtype=dtype, fused=fused)
    return meter.speed(), batch_size


def trainer(name: str, rows: Rows, options: Options) -> Speed:
    """`transformers.Trainer`."""
    data = rows.data(options.assignments(FULL if name == "trainer-full" else ()))
    meter = options.meter(steps_per_epoch(len(data.flows), options.batch_size) * options.epochs)
    trainer_loop(
        replace(data.model().architecture, num_columns=0),
        data.flows,
        meter,
        batch_size=options.batch_size,
        dtype=options.dtype,
        epochs=options.epochs,
        compiled=name.endswith("compiled"),
    )
    return meter.speed()


def measure(name: str, rows: Rows, options: Options) -> Row:
    """Run one recipe; if it can not run here, say why."""
    peak = peak_tflops(options.device, options.dtype_of(name))
    speed, batch_size, reason = None, options.batch_size, ""
    try:
        if name in OURS:
            data = rows.data(options.assignments(OURS[name]))
            speed = (feeding if name == "feeding" else ours)(data, options)
        elif name.startswith("trainer"):
            speed = trainer(name, rows, options)
        else:
            speed, batch_size = stock(name, rows, options)
    except (ImportError, RuntimeError) as error:  # not installed, or not enough memory
        reason = str(error).splitlines()[0]
    gc.collect()
    torch.compiler.reset()
    if options.device.type == "cuda":
        torch.cuda.empty_cache()
    return Row(name, speed, peak, batch_size, reason)


COLUMNS = "rows/s, slowest, fastest, tokens/s, share, useful, ms a step, once s, memory MB, activations MB, x replaced"


def header() -> str:
    """Names of the columns."""
    return f"{'recipe':18} {'batch':>5} " + " ".join(f"{name:>{WIDTH}}" for name in COLUMNS.split(", "))


def line(row: Row, replaced: Speed | None) -> str:
    """One row of the table."""
    start = f"{row.recipe:18} {row.batch_size:5} "
    speed, peak = row.speed, row.peak_tflops
    if speed is None:
        return f"{start} not run: {row.reason}"
    cells = [
        *(f"{rate:,.1f}" for rate in (speed.rows_per_s, speed.slowest_rows_per_s, speed.fastest_rows_per_s)),
        f"{speed.tokens_per_s:,.0f}",
        *(f"{flop / peak:.1%}" for flop in (speed.tflops, speed.useful_tflops)),
        *(f"{speed.step_ms:,.1f}", f"{speed.once_s:.1f}"),
        *(f"{size:,.0f}" if size else "-" for size in (speed.peak_mb, speed.peak_mb - speed.resting_mb)),
        f"{speed.rows_per_s / replaced.rows_per_s:.1f}" if replaced else "-",
    ]
    return start + " ".join(f"{cell:>{WIDTH}}" for cell in cells)


class Enough(Exception):  # noqa: N818 -- nothing went wrong
    """All windows are measured."""


class Turns:
    """Listens to a training, and passes on what it hears in every other window only."""

    def __init__(
        self,
        opened: Callable[[StartEvent], AbstractContextManager[Sequence[Listener]]],
        seconds: float,
        num_pairs: int,
    ) -> None:
        self.opened, self.seconds, self.num_pairs = opened, seconds, num_pairs
        self.times: list[float] = []
        """Seconds of a step in each window; the first warms up."""
        self._listeners: Sequence[Listener] = ()
        self._stack = ExitStack()
        self._since_step, self._since_s = 0, time.perf_counter()

    def receive(self, event: Event) -> None:
        if isinstance(event, StartEvent):
            self._start = event
        if not isinstance(event, StepEvent):
            return
        for listener in self._listeners:
            listener.receive(event)
        now_s = time.perf_counter()
        if now_s - self._since_s < self.seconds:
            return
        self.times.append((now_s - self._since_s) / (event.step - self._since_step))
        self._stack.close()
        self._listeners = ()
        if len(self.times) > 2 * self.num_pairs:
            raise Enough
        # Which comes first alternates (off on, on off), so that a machine that slows down favours neither.
        if len(self.times) % 4 in (2, 3):
            self._listeners = self._stack.enter_context(self.opened(self._start))
        self._since_step, self._since_s = event.step, time.perf_counter()

    def ratios(self) -> list[float]:
        """Of each pair: the time of a step with monitoring, in parts of the time without."""
        pairs = zip(self.times[1::2], self.times[2::2], strict=True)
        return [one / other if number % 2 else other / one for number, (one, other) in enumerate(pairs)]


@contextmanager
def terminal() -> Generator[Console]:
    """A console on a terminal whose content another process reads."""
    leader, follower = pty.openpty()
    width, height = SCREEN
    reader = subprocess.Popen(["cat"], stdin=leader, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with os.fdopen(follower, "w", encoding="utf-8") as file:
        yield Console(file=file, force_terminal=True, color_system="256", width=width, height=height)
    reader.terminate()
    reader.wait()
    os.close(leader)


def monitoring(data: Data, options: Options, trackers: Sequence[str], folder: Path) -> dict[str, object]:
    """Time of a step with monitoring, in parts of the time without, and what a sample and a drawing cost."""
    picture = DashboardState(title="benchmark", hint="")
    config = replace(data.config(epochs=LOSSLESS_EPOCHS), evaluate_every=10**9, checkpoint_seconds=1e9)

    @contextmanager
    def opened(start: StartEvent) -> Generator[Sequence[Listener]]:
        """The listeners of `wirebert train` on a terminal."""
        with (
            MetricsLog(folder / "metrics.jsonl") as log,
            Dashboard(console, picture) as screen,
            open_trackers(trackers, folder, {}, [log, screen]) as sinks,
            ResourceSampler([log, screen, *sinks], folder) as sampler,
        ):
            listeners = [log, screen, *sinks, sampler]
            for listener in listeners:
                listener.receive(start)
            yield listeners

    turns = Turns(opened, options.seconds / options.windows, options.windows)
    with terminal() as console, suppress(Enough):
        fit_model(
            data.model(),
            data.flows,
            first_flows(data.flows, 1),
            config,
            seed=1,
            corruption=Corruption.of(data.tokenizer, config),
            checkpoints=CheckpointFolder(folder / "checkpoints"),
            log=None,
            listeners=[turns],
        )
    gauges, ratios = Gauges(folder, str(options.device)), turns.ratios()
    return {
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "step_ms": [seconds * 1e3 for seconds in turns.times[1:]],
        "sample_ms": processor_ms(lambda: gauges.read(0)),
        "frame_ms": processor_ms(lambda: frame(picture, *SCREEN, 0.0)),
        "matrix_gflops": matrix_gflops(),
    }


def processor_ms(call: Callable[[], object]) -> float:
    """What a call costs this thread, which no noise of the machine can hide."""
    began_s = time.thread_time()
    for _ in range(50):
        call()
    return (time.thread_time() - began_s) / 50 * 1e3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Training speed of other recipes and ours.")
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if is_gpu else "cpu")
    parser.add_argument(
        "--recipes", nargs="+", choices=RECIPES, metavar="NAME", help=f"of {', '.join(RECIPES)}"
    )
    parser.add_argument("--size", default="base", help="base or mini (default: %(default)s)")
    parser.add_argument(
        "--batch", type=int, help="of all but replaced and transformers (default: 1024, CPU 256)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="per recipe, warm-up not counted")
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument(
        "--monitoring", action="store_true", help="so many windows with monitoring and without"
    )
    parser.add_argument("--trackers", nargs="*", default=[], help="tracking tools to feed too")
    parser.add_argument("--warm-up", type=int, help="steps (default: 30, CPU 4)")
    parser.add_argument(
        "--epochs", type=int, default=0, help="ours and Trainer: so many epochs, not --seconds"
    )
    parser.add_argument("--rows", type=int, default=0, help="only the first so many rows of the data")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="for ours")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    return parser


def options_of(given: argparse.Namespace) -> Options:
    """What was asked for, with what depends on the device."""
    is_gpu = given.device == "cuda"
    return Options(
        device=torch.device("cuda", torch.cuda.current_device()) if is_gpu else torch.device("cpu"),
        size=given.size,
        batch_size=given.batch or (1024 if is_gpu else 256),
        seconds=given.seconds,
        windows=given.windows,
        warm_up_steps=given.warm_up or (30 if is_gpu else 4),
        epochs=given.epochs,
        overrides=tuple(given.set),
    )


def main() -> None:
    """Measure, print, and write."""
    given = parser().parse_args()
    options = options_of(given)
    lines: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, _ = traffic(folder, GENERATED_ROWS)
        rows = Rows(path, given.rows)
        print(f"{path.name}, {options.size}, {options.device}, {json.dumps(versions())}", flush=True)
        about = {"data": path.name, "size": options.size}
        if given.monitoring:
            figures = monitoring(rows.data(options.assignments()), options, given.trackers, folder)
            print(json.dumps(figures, indent=1))
            write_figures(given.out, **about, **figures)
            return
        print(header(), flush=True)
        for name in given.recipes or STANDARD[given.device]:
            lines.append(measure(name, rows, options))
            replaced = next((row.speed for row in lines if row.recipe == "replaced"), None)
            print(line(lines[-1], replaced), flush=True)
    if options.epochs:
        print("; ".join(f"{row.recipe} {row.speed.total_s:.1f} s" for row in lines if row.speed))
    peaks = sorted(row.peak_tflops for row in lines)
    print(f"one large matrix product before each recipe: {peaks[0]:.3g} to {peaks[-1]:.3g} TFLOP/s")
    found = [{**row._asdict(), "speed": row.speed and asdict(row.speed)} for row in lines]
    write_figures(given.out, **about, rows=found)


if __name__ == "__main__":
    main()
