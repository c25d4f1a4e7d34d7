"""How fast each attention kernel is, by row length and direction, at DistilBERT-base's shape (12 heads of 64).

    python benchmarks/attention.py [--device cuda] [--lengths 16 24 48 128 512] [--kernels tiles varlen] [--dropout 0.1] [--compile] [--out result.json]

Every kernel goes the whole way that a block does: from query, key and value side by side, one row of numbers a token, to
what each token gathered, so that splitting and reordering count. Padded kernels see rows of equal length with nothing to mask; packed ones
see the same rows end to end. Tokens a call are the same at every length (65,536 on a GPU in bf16; 4,096 on a CPU in fp32).
Times are medians of blocks of calls, the device waited for at their ends, after warm-up and compilation. `backward` is forward and backward.
TFLOP/s counts the products of queries with keys and of weights with values: 4 * tokens * length * width forward, and 2.5
times that backward, as for FlashAttention.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import numpy as np
import torch
from harness import timed, write_figures
from torch import Tensor

from wirebert.errors import UserError
from wirebert.model.attention import KERNELS, attend, attend_packed
from wirebert.model.config import WITHOUT_DROPOUT, AttentionKernel
from wirebert.model.packing import Packing, plan, tile_capacity

HEADS, HEAD_WIDTH = 12, 64
WIDTH = HEADS * HEAD_WIDTH
TOKENS = {"cuda": 65_536, "cpu": 4_096}
LENGTHS = (16, 24, 48, 128, 512)
DIRECTIONS = ("forward", "backward")
NAMES: dict[str, tuple[AttentionKernel, ...]] = {
    "cuda": tuple(name for name in get_args(AttentionKernel) if name != "auto"),
    "cpu": ("math", "sdpa"),  # what the others are there
}


class Timing(NamedTuple):
    """One cell of the table."""

    kernel: str
    layout: str
    length: int
    direction: str
    dropout: float
    reason: str = ""
    """Why there is no figure."""
    microseconds: float | None = None
    fastest: float | None = None
    slowest: float | None = None
    tokens_per_s: float | None = None
    tflops: float | None = None


class Options(NamedTuple):
    """What was asked for."""

    device: torch.device
    tokens: int
    dropout: float
    is_compiled: bool
    seconds: float
    kernels: Sequence[AttentionKernel]


def padded(kernel: AttentionKernel, length: int, dropout: float) -> Callable[[Tensor], Tensor]:
    """Rows of one length through a padded kernel, as a block of the model does it."""

    def run(projected: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in projected.view(-1, length, 3 * WIDTH).chunk(3, dim=-1)
        )
        gathered = attend(query, key, value, None, dropout=dropout, kernel=kernel)
        return gathered.transpose(1, 2).flatten(2).flatten(0, 1)

    return run


def packed(kernel: AttentionKernel, packing: Packing, dropout: float) -> Callable[[Tensor], Tensor]:
    """The same rows end to end."""

    def run(projected: Tensor) -> Tensor:
        return attend_packed(projected, None, packing, num_heads=HEADS, dropout=dropout, kernel=kernel)

    return run


def ways(
    length: int, options: Options
) -> Iterator[tuple[AttentionKernel, str, Callable[[Tensor], Tensor], float]]:
    """Every kernel in every layout that it takes, and the dropout that it can do."""
    rows = options.tokens // length
    room = tile_capacity(length)
    row_of, starts, tiles, tile_rows = (
        torch.from_numpy(part.astype(np.int32)).to(options.device)
        for part in plan(np.full(rows, length), room)
    )
    packing = Packing(row_of, starts, tiles, tile_rows, room)
    for kernel in options.kernels:
        dropout = 0.0 if kernel in WITHOUT_DROPOUT else options.dropout
        if kernel in KERNELS:
            yield kernel, "padded", padded(kernel, length, dropout), dropout
        yield kernel, "packed", packed(kernel, packing, dropout), dropout


def measure(length: int, options: Options) -> Iterator[Timing]:
    """All kernels at one length."""
    tokens = options.tokens // length * length
    dtype = torch.bfloat16 if options.device.type == "cuda" else torch.float32
    generator = torch.Generator(options.device).manual_seed(0)
    projected = torch.randn(
        tokens, 3 * WIDTH, device=options.device, dtype=dtype, generator=generator, requires_grad=True
    )
    grad = torch.randn(tokens, WIDTH, device=options.device, dtype=dtype, generator=generator)
    for kernel, layout, run, dropout in ways(length, options):
        torch.compiler.reset()
        chosen: Callable[[Tensor], Tensor] = torch.compile(run) if options.is_compiled else run
        for direction in DIRECTIONS:
            call = _forward(chosen, projected) if direction == "forward" else _both(chosen, projected, grad)
            start = (kernel, layout, length, direction)
            try:
                measurement = timed(call, options.seconds)
            except (RuntimeError, ImportError, NotImplementedError, ValueError, UserError) as error:
                yield Timing(*start, dropout, str(error).strip().splitlines()[0])
                continue
            median, seconds = measurement.median, measurement.times
            flop = 4 * tokens * length * WIDTH * (1 if direction == "forward" else 3.5)
            times = (median * 1e6, min(seconds) * 1e6, max(seconds) * 1e6)
            yield Timing(*start, dropout, "", *times, tokens / median, flop / median / 1e12)


def _forward(run: Callable[[Tensor], Tensor], projected: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return run(projected.detach())

    return call


def _both(run: Callable[[Tensor], Tensor], projected: Tensor, grad: Tensor) -> Callable[[], Tensor]:
    def call() -> Tensor:
        return torch.autograd.grad(run(projected), projected, grad)[0]

    return call


def line(one: Timing) -> str:
    """One cell, as soon as it is there."""
    told = f"{one.length:>4} tokens  {one.kernel:18} {one.layout:8} {one.direction:8}"
    if one.microseconds is None:
        return f"{told} not run: {one.reason[:80]}"
    return f"{told} {one.microseconds:>12,.0f} us ({one.fastest:,.0f} to {one.slowest:,.0f}) {one.tflops:8.3g} TFLOP/s"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="Speed of attention kernels.")
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if is_gpu else "cpu")
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--tokens", type=int, help="a call (default: 65,536, CPU 4,096)")
    parser.add_argument(
        "--dropout", type=float, default=0.0, help="of attention weights, for kernels that can"
    )
    parser.add_argument(
        "--kernels", nargs="+", choices=NAMES["cuda"], help="default: all that the device has"
    )
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--seconds", type=float, default=0.5, help="per cell, warm-up not counted")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    given = parser.parse_args()
    tokens = given.tokens or TOKENS[given.device]
    kernels = given.kernels or NAMES[given.device]
    options = Options(
        torch.device(given.device), tokens, given.dropout, given.compile, given.seconds, kernels
    )
    print(f"{tokens:,} tokens a call, {given.device}, dropout {given.dropout}, torch {torch.__version__}")
    timings: list[Timing] = []
    for length in given.lengths:
        for one in measure(length, options):
            timings.append(one)
            print(line(one), flush=True)
    write_figures(
        given.out, tokens=tokens, is_compiled=given.compile, timings=[one._asdict() for one in timings]
    )


if __name__ == "__main__":
    main()
