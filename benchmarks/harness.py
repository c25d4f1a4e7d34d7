"""What benchmarks share: the data, a look at the machine, encoded rows, the real training loop, and a meter for its steps.

PyTorch is imported where it is used: `ingest.py` measures the memory of processes that do without it.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np

from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.synthetic import write_csv
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer

if TYPE_CHECKING:
    import torch
    from torch.utils.benchmark import Measurement

    from wirebert.config import RunConfig
    from wirebert.model.config import Architecture
    from wirebert.model.distilbert import DistilBert
    from wirebert.training.config import TrainConfig
    from wirebert.training.feeding import LabelledFlows
    from wirebert.training.loop import TrainState, TrainStep
    from wirebert.training.parallel.process_group import Communicator
    from wirebert.training.step_metrics import MetricTotals

DATA = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""The folder of the public data sets."""
MATRIX_SIZE = 1_024
PEAK_SIZE = {"cuda": 8_192, "cpu": 2_048}
"""Rows and columns of the matrices whose product is taken for what the machine can do."""

Report = Mapping[str, object]
"""What a measurement found, as plain data."""


def traffic(folder: Path, num_rows: int) -> tuple[Path, Path]:
    """NSL-KDD's training and test file where they are at hand, else so many generated rows each, written to `folder`."""
    train, test = (DATA / "nsl-kdd" / f"KDD{name}+.txt.gz" for name in ("Train", "Test"))
    if train.is_file() and test.is_file():
        return train, test
    for seed, name in enumerate(("train.csv", "test.csv")):
        write_csv(folder / name, num_rows, seed)
    return folder / "train.csv", folder / "test.csv"


def write_figures(path: Path | None, **figures: object) -> None:
    """Write the figures to a JSON file, if one was asked for, with the machine and the versions that they come from."""
    if path is None:
        return
    from wirebert.report.environment import hardware, versions

    result = {"hardware": asdict(hardware()), "versions": versions(), **figures}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def matrix_gflops() -> float:
    """Speed of a 1,024 x 1,024 float32 matrix product in billion operations per second, to read beside every time."""
    matrix = np.ones((MATRIX_SIZE, MATRIX_SIZE), np.float32)
    np.matmul(matrix, matrix)  # the first product also starts threads
    start = time.perf_counter()
    for _ in range(5):
        np.matmul(matrix, matrix)
    return 5 * 2 * MATRIX_SIZE**3 / (time.perf_counter() - start) / 1e9


def now_on(device: "torch.device") -> float:
    """The time, once the device has done everything."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(run: Callable[[], object], seconds: float) -> "Measurement":
    """Times of one call, for about so many seconds in blocks of calls; the device is waited for at their ends."""
    import torch
    from torch.utils.benchmark import Timer

    for _ in range(3):
        run()  # compiles: PyTorch would take the first call's time for what a block takes
    timer = Timer("run()", globals={"run": run}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds)


def peak_tflops(device: "torch.device", dtype: "torch.dtype") -> float:
    """Median speed of one large matrix product on random data."""
    import torch

    size = PEAK_SIZE[device.type]
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / timed(lambda: one @ other, 0.2).median / 1e12


def by_seed(measure: Callable[[int], Report], seeds: Sequence[int], num_jobs: int) -> Iterator[Report]:
    """The report of each seed, each in a process of its own and some side by side, whichever is done first."""
    from wirebert.comparison.jobs import limit_threads

    os.environ.update(limit_threads(num_jobs))  # for the processes to come: this one computes nothing
    with ProcessPoolExecutor(num_jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(measure, seed) for seed in seeds]):
            yield future.result()


def encode(flows: Flows, tokenizer: FlowTokenizer, classes: ClassMap) -> EncodedFlows:
    """Labelled flows as token ids, in memory."""
    label, blocks, class_ids = flows.require_label(), [], []
    for table in flows.blocks():
        blocks.append(tokenizer.encode(table))
        class_ids.append(classes.encode(table.column(label)))
    lengths = np.concatenate([[0], *(np.diff(block.offsets) for block in blocks)])
    ids = np.concatenate([block.ids for block in blocks]).astype(tokenizer.dtype)
    return EncodedFlows.from_arrays(
        ids, np.cumsum(lengths), np.concatenate(class_ids), np.arange(len(lengths) - 1)
    )


def first_flows(flows: EncodedFlows, num_flows: int) -> EncodedFlows:
    """The first of the flows."""
    offsets = flows.offsets[: num_flows + 1]
    return EncodedFlows.from_arrays(
        flows.ids[: offsets[-1]], offsets, flows.class_ids[:num_flows], flows.rows[:num_flows]
    )


class Data(NamedTuple):
    """Encoded flows, and what a model must know of them."""

    run: "RunConfig"
    tokenizer: FlowTokenizer
    classes: ClassMap
    flows: EncodedFlows

    def model(self) -> "DistilBert":
        """A new model for these flows."""
        from wirebert.model.checkpoints import build
        from wirebert.model.initialization import TokenLayout

        return build(self.run.model, TokenLayout.of(self.tokenizer), classes=self.classes.classes, seed=1)

    def config(self, *, epochs: int) -> "TrainConfig":
        """The settings of the training, with nothing left to choose."""
        num_flows, width = len(self.flows), self.model().architecture.dim
        settled = self.run.training.resolved(num_flows=num_flows, width=width, is_pretrained=False)
        return replace(settled, epochs=epochs)


class Rows:
    """The labelled rows of a file, encoded once for each set of settings that asks for other tokens."""

    def __init__(self, path: Path, num_rows: int = 0) -> None:
        """`num_rows` takes only so many of the file's rows, 0 all."""
        self.flows = open_flows(path)
        self._num_rows = num_rows
        self._classes = fit_classes(self.flows.schema, profile_table(self.flows).label_counts)
        self._encoded: dict[EncodingConfig, tuple[FlowTokenizer, EncodedFlows]] = {}

    def data(self, overrides: Sequence[str]) -> Data:
        """The rows under these settings, as `--set` of `wirebert train` takes them; later ones win."""
        from wirebert.config import resolve_run

        run = resolve_run(overrides=overrides)
        if run.encoding not in self._encoded:
            tokenizer = FlowTokenizer.fit(self.flows.schema, self.flows.blocks(), run.encoding)
            flows = encode(self.flows, tokenizer, self._classes)
            self._encoded[run.encoding] = tokenizer, first_flows(flows, self._num_rows or len(flows))
        tokenizer, flows = self._encoded[run.encoding]
        return Data(run, tokenizer, self._classes, flows)


def training_steps(
    data: Data, *, epochs: int, world: "Communicator | None" = None
) -> "Iterator[tuple[TrainState, TrainStep, MetricTotals | None]]":
    """The loop of `wirebert train`, fed as there; validation and checkpoints are not part of it.

    As in a training, what the steps amount to is read every `training.log_every` steps, which waits for the device.
    """
    from wirebert.training.corruption import Corruption
    from wirebert.training.feeding import steps, steps_per_epoch
    from wirebert.training.loop import TrainState, train
    from wirebert.training.parallel.process_group import SINGLE_RANK
    from wirebert.training.precision import allow_tf32, torch_threads

    model, flows = data.model(), data.flows
    config = data.config(epochs=epochs)
    num_steps = steps_per_epoch(len(flows), config.batch_size) * epochs
    counts = np.bincount(flows.class_ids, minlength=len(data.classes.classes))
    state = TrainState.start(
        model, config, seed=1, num_steps=num_steps, class_counts=counts, world=world or SINGLE_RANK
    )
    feed = steps(flows, config, seed=1, corruption=Corruption.of(data.tokenizer, config))
    with closing(state), allow_tf32(config.precision == "tf32"), torch_threads(config.threads):
        for step in train(state, feed):
            totals = None
            if step.index % config.log_every == 0:
                state.check_finite()
                totals = state.step_metrics.read()
            yield state, step, totals


class Work(NamedTuple):
    """What one step did."""

    rows: int
    tokens: int
    """Without padding."""
    flop: float
    """Multiplications and additions of the matrix products, forward and backward, padding included."""
    useful_flop: float
    """The same for the tokens alone."""


def flop_of(architecture: "Architecture", slots: int, pairs: float) -> float:
    """Operations of the blocks' matrix products, forward and backward: `pairs` is the sum over rows of slots squared."""
    weights = 4 * architecture.dim**2 + 2 * architecture.dim * architecture.hidden_dim
    return architecture.num_layers * (6 * weights * slots + 12 * architecture.dim * pairs)


class MeanRow(NamedTuple):
    """The average row of a store: what a step's work is made of where its own rows can not be counted without waiting."""

    tokens: float
    squared: float
    """Mean of the squared number of tokens."""

    @classmethod
    def of(cls, flows: "LabelledFlows") -> "MeanRow":
        """Over all rows."""
        lengths = np.diff(flows.offsets).astype(float)
        return cls(float(lengths.mean()), float(np.square(lengths).mean()))

    def work(self, architecture: "Architecture", rows: int, padded_to: int = 0) -> Work:
        """A step on so many of these rows, padded to one length (0: none is padded)."""
        tokens = round(rows * self.tokens)
        useful_flop = flop_of(architecture, tokens, rows * self.squared)
        if padded_to == 0:
            return Work(rows, tokens, useful_flop, useful_flop)
        slots = rows * padded_to
        return Work(rows, tokens, flop_of(architecture, slots, slots * padded_to), useful_flop)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians over the windows."""

    rows_per_s: float
    slowest_rows_per_s: float
    fastest_rows_per_s: float
    tokens_per_s: float
    tflops: float
    useful_tflops: float
    step_ms: float
    num_steps: int
    """Steps that were timed."""
    once_s: float
    """What of the first steps is more than these take later: compilation, above all."""
    total_s: float
    """From making the model to the last step."""
    resting_mb: float
    """GPU memory between two steps: weights and optimizer, and the data where they lie there."""
    peak_mb: float


@final
class Meter:
    """Told after every step; says when there were enough.

    The device is waited for at the ends of windows only. The first half of the warm-up is for compilation, the second half
    tells how many steps fill a window. With `max_steps` there are as many windows as these steps fill.
    """

    def __init__(
        self,
        device: "torch.device",
        *,
        warm_up_steps: int,
        window_s: float,
        num_windows: int,
        max_steps: int = 0,
    ) -> None:
        self.device, self.warm_up_steps = device, max(2, warm_up_steps)
        self.window_s, self.num_windows, self.max_steps = window_s, num_windows, max_steps
        self.num_steps = self._steps_in_window = 0
        self._windows: list[tuple[float, list[Work]]] = []
        self._works: list[Work] = []
        self._began_s = self._since_s = self._ended_s = time.perf_counter()
        self._warm_up_s = self._resting_mb = 0.0

    def step(self, work: Work) -> bool:
        """Count a step; whether more are wanted."""
        self.num_steps += 1
        warming = self.num_steps - self.warm_up_steps
        if warming <= 0:
            if self.num_steps == self.warm_up_steps // 2 or warming == 0:
                self._lap(warming)
            return True
        self._works.append(work)
        is_last = self.num_steps == self.max_steps
        if len(self._works) == self._steps_in_window or is_last:
            now = now_on(self.device)
            self._windows.append((now - self._since_s, self._works))
            self._works, self._since_s, self._ended_s = [], now, now
        return not is_last if self.max_steps else len(self._windows) < self.num_windows

    def _lap(self, warming: int) -> None:
        import torch

        now = now_on(self.device)
        if warming == 0:
            step_s = (now - self._since_s) / (self.warm_up_steps - self.warm_up_steps // 2)
            self._steps_in_window = max(1, round(self.window_s / step_s))
            self._warm_up_s = now - self._began_s
            if self.device.type == "cuda":
                self._resting_mb = torch.cuda.memory_allocated(self.device) / 1e6
                torch.cuda.reset_peak_memory_stats(self.device)
        self._since_s = time.perf_counter()

    def speed(self) -> Speed:
        """The figures, once enough steps were made."""
        import torch

        if not self._windows:
            raise RuntimeError("the training ended before a window was full: give fewer seconds or more rows")
        step_s = statistics.median(seconds / len(works) for seconds, works in self._windows)

        def rates(part: str) -> list[float]:
            return [sum(getattr(work, part) for work in works) / seconds for seconds, works in self._windows]

        rows = rates("rows")
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return Speed(
            rows_per_s=statistics.median(rows),
            slowest_rows_per_s=min(rows),
            fastest_rows_per_s=max(rows),
            tokens_per_s=statistics.median(rates("tokens")),
            tflops=statistics.median(rates("flop")) / 1e12,
            useful_tflops=statistics.median(rates("useful_flop")) / 1e12,
            step_ms=step_s * 1e3,
            num_steps=sum(len(works) for _, works in self._windows),
            once_s=max(0.0, self._warm_up_s - self.warm_up_steps * step_s),
            total_s=self._ended_s - self._began_s,
            resting_mb=self._resting_mb,
            peak_mb=peak / 1e6,
        )
