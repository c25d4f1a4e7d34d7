"""Every kernel of a training step beside its own bound: what is left to gain, and where.

    python benchmarks/kernels.py [--batch 256 2048] [--size base] [--rows 25] [--set SECTION.NAME=VALUE] [--out result.json]

Rows are NSL-KDD's as in `train.py`, settings those of `wirebert train`. The steps are launched kernel by kernel, since a
recorded step does not tell the shapes of its tensors; a kernel takes as long either way. Of each kernel the table has calls
and time a step, the bytes or operations that its shapes ask for (each input read once, each output written once; of an
operation with several kernels the longest gets them), its bound (bytes at the rate of a large copy, or operations at
that of a large matrix product, both measured right before), the share of the bound that it reaches, and what a step
would save if it reached 80 % of it.

A bound that counts device memory may be passed where tensors stay in the cache between two kernels (small batches).
"""

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import torch
from harness import Rows, peak_tflops, timed, traffic, training_steps, write_figures
from torch.profiler import ProfilerActivity, profile

WARM_UP: Final = 12
STEPS: Final = 8
REACHABLE: Final = 0.8
"""Share of its bound that a good kernel reaches."""

SIZES: Final = {"float": 4, "int": 4, "long int": 8, "double": 8, "bool": 1, "unsigned char": 1}
"""Bytes of a number, by its name in PyTorch's trace; half precision is what is not here."""

WRITES: Final = {
    **{
        f"aten::{name}": 0.0 for name in ("sum", "copy_", "fill_", "zero_", "_foreach_norm", "_foreach_copy_")
    },
    "aten::add_": 0.5,
    "aten::native_dropout": 1.5,
    "aten::_fused_adamw_": 3.0,
    "aten::_foreach_mul_": 1.0,
    "wirebert::add_norm": 2.0,
    "wirebert::add_norm_backward": 2.0,
    "wirebert::tile_attention": 1 / 3,
}
"""What an operation writes, in tensors as large as its largest input; 1 where it is not here."""

PRODUCTS: Final = {"aten::mm": 0, "aten::addmm": 1}
"""Matrix products: the place of the left factor among the inputs."""


@dataclass
class Kernel:
    """One kernel, summed over the steps."""

    calls: int = 0
    time_us: float = 0.0
    moved: float = 0.0
    flop: float = 0.0
    seen: set[str] = field(default_factory=set)


def trace_of(rows: Rows, overrides: list[str], folder: Path) -> list[dict[str, Any]]:
    """The trace of `STEPS` training steps."""
    data = rows.data([*overrides, "training.cuda_graphs=false", "training.log_every=1000"])
    recorder = profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True)
    for _, step, _ in training_steps(data, epochs=5):
        if step.index == WARM_UP:
            torch.cuda.synchronize()
            recorder.start()
        if step.index == WARM_UP + STEPS:
            torch.cuda.synchronize()
            recorder.stop()
            break
    recorder.export_chrome_trace(str(folder / "trace.json"))
    return json.loads((folder / "trace.json").read_text(encoding="utf-8"))["traceEvents"]


def tensors(arguments: Mapping[str, Any]) -> list[tuple[list[int], int]]:
    """Shape and bytes of a number of every input of an operation; inputs that are no tensors have the shape []."""
    found: list[tuple[list[int], int]] = []
    kinds = arguments.get("Input type", [])
    for shape, kind in zip(arguments.get("Input Dims", []), kinds, strict=False):
        if shape and isinstance(
            shape[0], list
        ):  # a list of tensors, whose number format the trace leaves out
            found.append(([sum(prod(part) for part in shape)], 4))
        else:
            found.append((shape, SIZES.get(kind, 2)))
    return found


def work_of(operation: str, arguments: Mapping[str, Any]) -> tuple[float, float]:
    """Bytes that an operation must move, and multiplications and additions of a matrix product."""
    given = tensors(arguments)
    if operation in PRODUCTS:
        (left, size), (right, _) = given[PRODUCTS[operation] :][:2]
        numbers = left[0] * left[1] + right[0] * right[1] + left[0] * right[1]
        return size * numbers, 2.0 * left[0] * left[1] * right[1]
    sizes = [prod(shape) * size if shape else 0 for shape, size in given]
    return sum(sizes) + WRITES.get(operation, 1.0) * max(sizes, default=0), 0.0


def ledger(events: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Kernel]:
    """The kernels of a trace by operation and kernel; matrix products by their shapes."""
    operations: dict[int, dict[str, Any]] = {}
    launched: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        number = event.get("args", {}).get("External id")
        if event.get("cat") == "cpu_op":
            operations[number] = event
        elif event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            launched[number].append(event)
    found: defaultdict[tuple[str, str], Kernel] = defaultdict(Kernel)
    for number, kernels in launched.items():
        operation = operations.get(number, {"name": "", "args": {}})
        longest = max(kernels, key=lambda event: event["dur"])
        for event in kernels:
            name = event["name"].removeprefix("void ").split("<")[0].split("(")[0][:44]
            if operation["name"] in PRODUCTS:
                left, right = operation["args"]["Input Dims"][PRODUCTS[operation["name"]] :][:2]
                name = f"{left[0]} x {left[1]} x {right[1]}"
            kernel = found[operation["name"], name]
            kernel.calls += 1
            kernel.time_us += event["dur"]
            kernel.seen.add(event["name"])
            if event is longest:
                moved, flop = work_of(operation["name"], operation["args"])
                kernel.moved += moved
                kernel.flop += flop
    return dict(found)


def copy_rate() -> float:
    """Bytes a second that a large copy on the device reads and writes."""
    one = torch.randn(1 << 29, device="cuda")
    other = torch.empty_like(one)
    return 2 * one.nbytes / timed(lambda: other.copy_(one), 0.2).median


def table(found: Mapping[tuple[str, str], Kernel], bandwidth: float, rate: float) -> list[dict[str, Any]]:
    """One row per kernel, the most time first; times in microseconds a step."""
    lines: list[dict[str, Any]] = []
    for (operation, name), kernel in found.items():
        time_us = kernel.time_us / STEPS
        bound_us = max(kernel.moved / bandwidth, kernel.flop / rate) * 1e6 / STEPS
        lines.append(
            {
                "operation": operation,
                "kernel": name,
                "calls": kernel.calls / STEPS,
                "us": time_us,
                "MB": kernel.moved / STEPS / 1e6,
                "GFLOP": kernel.flop / STEPS / 1e9,
                "share": bound_us / time_us,
                "saves_us": max(0.0, time_us - bound_us / REACHABLE),
            }
        )
    return sorted(lines, key=lambda line: -line["us"])


def show(lines: list[dict[str, Any]], most: int) -> None:
    """Print the table; what is below `most` rows becomes one."""
    print(
        f"{'operation':32} {'kernel':44} {'calls':>6} {'us':>7} {'MB':>7} {'GFLOP':>6} {'share':>6} {'saves us':>8}"
    )
    for line in lines[:most]:
        print(
            f"{line['operation'][-32:]:32} {line['kernel']:44} {line['calls']:6.1f} {line['us']:7.1f} "
            f"{line['MB']:7.1f} {line['GFLOP']:6.0f} {line['share']:6.0%} {line['saves_us']:8.1f}"
        )
    rest, names = lines[most:], ("calls", "us", "saves_us")
    for title, part in (("the rest", rest), ("all", lines)):
        calls, time_us, saves_us = (sum(line[name] for line in part) for name in names)
        print(f"{title:32} {'':44} {calls:6.1f} {time_us:7.1f} {'':22} {saves_us:8.1f}")


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="Every kernel of a training step beside its bound.")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--size", default="base", help="base or mini (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=25, help="rows of the table (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.NAME=VALUE")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    given = parser.parse_args()
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        rows = Rows(traffic(Path(name), 50_000)[0])
        for batch in given.batch:
            bandwidth, rate = copy_rate(), peak_tflops(torch.device("cuda"), torch.bfloat16) * 1e12
            overrides = [f"model.size={given.size}", f"training.batch_size={batch}", *given.set]
            lines = table(ledger(trace_of(rows, overrides, Path(name))), bandwidth, rate)
            print(f"\nbatch {batch}: {bandwidth / 1e12:.2f} TB/s, {rate / 1e12:.0f} TFLOP/s")
            show(lines, given.rows)
            figures[str(batch)] = {"bandwidth": bandwidth, "rate": rate, "kernels": lines}
    write_figures(given.out, **figures)


if __name__ == "__main__":
    main()
