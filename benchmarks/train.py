"""How fast a DistilBERT is trained: other recipes and ours, one after the other in one process on this machine.

    python benchmarks/train.py [--device cuda] [--size base] [--recipes leave-out trainer ...] [--out result.json]
    python benchmarks/train.py --epochs 5 --recipes leave-out trainer    # as long as a training of five epochs

| recipe | what it is |
|---|---|
| replaced | fp16 with gradient scaling (fp32 on a CPU), batch 32, WordPiece rows padded to 512, stock model, AdamW |
| transformers | stock model, batch 256, WordPiece rows cut at 256, fused AdamW, bf16 autocast |
| features, features-compiled | our model on full-length rows in a plain loop on padded batches, without and with torch.compile |
| trainer, trainer-compiled | `transformers.Trainer` on the leave-out rows: bf16, fused AdamW, grouped by length, workers |
| trainer-full | the same on full-length rows |
| leave-out, full | ours: the real loop with real feeding, corruption and clipping, settings as in `wirebert train` |
| leave-out-bf16, leave-out-math | ours with one setting changed |
| whole, checkpointing, accumulating | ours at full length, kernel by kernel: the whole step at once; the same with gradient checkpointing; in four micro-batches |
| feeding | no model: one thread chooses, corrupts and packs the steps of leave-out, as it does while others are computed |

Rows are NSL-KDD's from the folder in WIREBERT_DATA (../shared/data without it), else generated traffic; WordPiece rows are
random ids of NSL-KDD's length, which are as fast. Warm-up steps are not counted: `once` says what of them is more than
these steps take later (compilation, above all). Rates are medians over windows of equally many steps, with the slowest and
the fastest; the device is waited for at the ends of windows only. `share` is the matrix products that a recipe computes,
padding included, over the speed of one large matrix product in the recipe's precision, measured right before; `useful`
leaves padding out. Both count a stock model's products; ours skips some in the last block, as only `[CLS]` is read.
`activations` is GPU memory at its peak less what rests between two steps.
"""

import argparse
import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU: Trainer would spread over all that it sees

import numpy as np
import torch
from encoded import Data, Rows, training_file
from meter import Meter, Speed, Work, peak_tflops
from rivals import WORDPIECE_VOCABULARY, Batch, MeanRow, loop, stock_loop, trainer_loop

from wirebert.encoding.store import EncodedFlows
from wirebert.evaluation.environment import hardware, versions
from wirebert.model.architecture import Architecture
from wirebert.training.feeding import micro_batches, steps, steps_per_epoch
from wirebert.training.loop import TrainState, train
from wirebert.training.precision import tf32_products
from wirebert.training.threads import computing_on

GENERATED_ROWS = 50_000
WIDTH = 14
LOSSLESS_EPOCHS = 1_000
"""More than any window needs."""

FULL = ("encoding.leave_out=false",)
LAUNCHED = (*FULL, "training.cuda_graphs=false")
"""The memory of a recorded step is the graph's own, and not among what is counted."""
OURS: dict[str, tuple[str, ...]] = {
    "leave-out": (),
    "full": FULL,
    "leave-out-bf16": ("training.precision=bf16",),
    "leave-out-math": ("model.attention=math",),
    "whole": (*LAUNCHED, "training.micro_batch_tokens=0"),
    "checkpointing": (*LAUNCHED, "training.micro_batch_tokens=0", "model.gradient_checkpointing=true"),
    "accumulating": LAUNCHED,
    "feeding": (),
}
RIVALS = (
    *("replaced", "transformers", "features", "features-compiled"),
    *("trainer", "trainer-compiled", "trainer-full"),
)
RECIPES = (*RIVALS, *OURS)
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
    """The loop of `wirebert train`, fed as there; validation and checkpoints are not part of it."""
    model, flows = data.model(), data.flows
    config = data.settings.training.settled(
        num_flows=len(flows), width=model.architecture.dim, is_pretrained=False
    )
    config = replace(config, epochs=options.epochs or LOSSLESS_EPOCHS)
    num_steps = steps_per_epoch(len(flows), config.batch_size) * config.epochs
    counts = np.bincount(flows.class_ids, minlength=len(data.classes))
    meter, mean_row = options.meter(num_steps if options.epochs else 0), MeanRow.of(flows)
    state = TrainState.start(model, config, seed=1, num_steps=num_steps, class_counts=counts)
    corruption = data.corruption(config)
    with tf32_products(config.precision == "tf32"), computing_on(config.threads):
        for step in train(state, steps(flows, config, seed=1, corruption=corruption)):
            if step.index % config.log_every == 0:
                state.check_finite()
                state.tally.read()
            # Corruption adds and takes away tokens: the step's own are counted, their squares are in proportion.
            row = MeanRow(
                step.num_tokens / step.num_flows,
                mean_row.squared * step.num_tokens / (step.num_flows * mean_row.tokens),
            )
            if not meter.step(row.work(model.architecture, step.num_flows)):
                break
    return meter.speed()


def feeding(data: Data, options: Options) -> Speed:
    """What is ready before a step begins: its rows, and nothing computed with them."""
    flows, pad_id = data.flows, data.tokenizer.pad_id
    config = replace(data.settings.training, epochs=LOSSLESS_EPOCHS)
    meter, max_tokens = options.meter(), config.micro_batch_tokens or 0
    for step in steps(flows, config, seed=1, corruption=data.corruption(config)):
        micro_batches(step, max_tokens, pad_id=pad_id, device=options.device, batch_size=config.batch_size)
        tokens = len(step.rows.ids)
        if not meter.step(Work(len(step.class_ids), tokens, tokens, 0.0, 0.0)):
            break
    return meter.speed()


def features(data: Data, options: Options, *, compiled: bool) -> Speed:
    """Our model in a plain loop on padded batches that lie on the device."""
    model, flows, meter = data.model().to(options.device).train(), data.flows, options.meter()
    length = int(np.diff(flows.offsets).max())
    batches = _padded_batches(flows, model.architecture, length, options)
    run = cast("Callable[..., torch.Tensor]", torch.compile(model)) if compiled else model
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    loop(
        lambda batch: run(batch.ids, batch.mask), parameters, batches, meter, dtype=options.dtype, fused=True
    )
    return meter.speed()


def _padded_batches(
    flows: EncodedFlows, architecture: Architecture, length: int, options: Options
) -> list[Batch]:
    mean_row, batches = MeanRow.of(flows), list[Batch]()
    size = min(options.batch_size, len(flows))
    for first in range(0, min(len(flows), 8 * size) - size + 1, size):
        lengths = np.diff(flows.offsets[first : first + size + 1])
        mask = np.arange(length) < lengths[:, None]
        ids = np.full(mask.shape, architecture.pad_id)
        ids[mask] = flows.ids[flows.offsets[first] : flows.offsets[first + size]]
        class_ids = np.array(flows.class_ids[first : first + size])
        tensors = [torch.from_numpy(values).to(options.device) for values in (ids, mask, class_ids)]
        is_padded = bool(lengths.min() < length)
        work = mean_row.work(architecture, size, length)
        batches.append(Batch(tensors[0], tensors[1] if is_padded else None, tensors[2], work))
    return batches


def rival(name: str, rows: Rows, options: Options) -> tuple[Speed, int]:
    """A recipe that is not ours; its speed and its batch size."""
    if name in ("replaced", "transformers"):
        batch_size, padded_to = (32, 512) if name == "replaced" else (256, 256)
        base = rows.data(options.assignments()).model().architecture
        architecture = replace(base, vocab_size=WORDPIECE_VOCABULARY, positions=True, num_columns=0)
        dtype = torch.float16 if name == "replaced" and options.device.type == "cuda" else options.dtype
        meter = options.meter()
        how = {"batch_size": batch_size, "padded_to": padded_to}
        stock_loop(architecture, meter, **how, dtype=dtype, fused=name == "transformers")
        return meter.speed(), batch_size
    if name.startswith("features"):
        return features(
            rows.data(options.assignments(FULL)), options, compiled=name.endswith("compiled")
        ), options.batch_size
    data = rows.data(options.assignments(FULL if name == "trainer-full" else ()))
    num_steps = steps_per_epoch(len(data.flows), options.batch_size) * options.epochs
    meter = options.meter(num_steps)
    trainer_loop(
        replace(data.model().architecture, num_columns=0),
        data.flows,
        meter,
        batch_size=options.batch_size,
        dtype=options.dtype,
        epochs=options.epochs,
        compiled=name.endswith("compiled"),
    )
    return meter.speed(), options.batch_size


def measure(name: str, rows: Rows, options: Options) -> Row:
    """Run one recipe; if it can not run here, say why."""
    changed = OURS.get(name, ())
    dtype = options.dtype
    if "training.precision=bf16" in (*changed, *options.overrides):
        dtype = torch.bfloat16
    if name == "replaced" and options.device.type == "cuda":
        dtype = torch.float16
    peak = peak_tflops(options.device, dtype)
    speed, batch_size, reason = None, options.batch_size, ""
    try:
        if name in OURS:
            data = rows.data(options.assignments(changed))
            if name == "accumulating":
                quarter = round(MeanRow.of(data.flows).tokens * options.batch_size / 4)
                data = rows.data(options.assignments((*changed, f"training.micro_batch_tokens={quarter}")))
            speed = (feeding if name == "feeding" else ours)(data, options)
        else:
            speed, batch_size = rival(name, rows, options)
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


def comparisons(rows: Sequence[Row]) -> Iterator[str]:
    """What cutting a step and computing it twice cost and save."""
    speeds = {row.recipe: row.speed for row in rows if row.speed is not None}
    whole = speeds.pop("whole", None)
    for name in ("checkpointing", "accumulating"):
        if whole is None or name not in speeds:
            continue
        speed = speeds[name]
        told = f"{name}: {speed.step_ms / whole.step_ms - 1:+.0%} time"
        activations = whole.peak_mb - whole.resting_mb
        if activations:
            told += f", {(speed.peak_mb - speed.resting_mb) / activations - 1:+.0%} activation memory"
        yield told


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
    with tempfile.TemporaryDirectory() as folder:
        path = training_file(Path(folder), GENERATED_ROWS)
        rows = Rows(path, given.rows)
        print(f"{path.name}, {options.size}, {options.device}, {json.dumps(versions())}", flush=True)
        print(header(), flush=True)
        for name in given.recipes or STANDARD[given.device]:
            lines.append(measure(name, rows, options))
            replaced = next((row.speed for row in lines if row.recipe == "replaced"), None)
            print(line(lines[-1], replaced), flush=True)
    for told in comparisons(lines):
        print(told)
    if options.epochs:
        print("; ".join(f"{row.recipe} {row.speed.total_s:.1f} s" for row in lines if row.speed))
    peaks = sorted(row.peak_tflops for row in lines)
    print(f"one large matrix product before each recipe: {peaks[0]:.3g} to {peaks[-1]:.3g} TFLOP/s")
    if given.out is not None:
        result = {
            "data": path.name,
            "size": options.size,
            "hardware": asdict(hardware()),
            "versions": versions(),
            "rows": [
                {**row._asdict(), "speed": None if row.speed is None else row.speed.to_dict()}
                for row in lines
            ],
        }
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
