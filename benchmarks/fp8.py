"""Whether eight bits would be faster: the linear layers of a DistilBERT-base block in FP8 against bf16, and what FP8 loses.

    python benchmarks/fp8.py [--device cuda] [--tokens 8192 16384 32768 65536] [--fast-gradients] [--out result.json]

A layer is its three products: output, gradient of the input, gradient of the weight; biases are left out. All ways start from
the same bf16 operands and end in bf16:
`bf16` multiplies them; `fp8 products` multiplies operands that were quantised before, a bound that no training reaches; `fp8` does all
that a step does: the largest magnitude of each operand, its scale, the cast (inputs and weights e4m3, gradients e5m2), and the transposed
copies of all three that the products of the backward pass need, because `torch._scaled_mm` takes rows by columns only.
Scales are one a tensor and of this step. Products of the backward pass add up in full precision, unless `--fast-gradients`.
On a GPU each way is recorded as a CUDA graph and replayed, as in the training: launches do not count, kernels do. Times are
medians of seven windows of calls on the same operands (small ones stay in the cache). Errors are relative (Frobenius norms), against fp32 products of operands that were never rounded: normal
numbers, six columns of the input 30 times as large (as a pretrained BERT's are) and rows of the gradient of log-normal size.
Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning", section 3.
"""

import argparse
import itertools
import json
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

import torch
from meter import seconds_of
from torch import Tensor

from wirebert.evaluation.environment import hardware, versions

LAYERS = {"qkv": (768, 2304), "attention out": (768, 768), "up": (768, 3072), "down": (3072, 768)}
"""Inputs and outputs of a block's linear layers, each there once."""
TOKENS = {"cuda": (8_192, 16_384, 32_768, 65_536), "cpu": (256,)}
Products = tuple[Tensor, Tensor, Tensor]
"""Output, gradient of the input, gradient of the weight."""


class Eight(NamedTuple):
    """An operand in eight bits, in both layouts that products ask for."""

    rows: Tensor
    columns: Tensor
    """The same numbers, columns one after another in memory."""
    scale: Tensor
    """What to multiply them by."""


class Timing(NamedTuple):
    """One cell of the table."""

    tokens: int
    layer: str
    way: str
    is_compiled: bool
    microseconds: float
    fastest: float
    slowest: float
    errors: list[float]


def eight(tensor: Tensor, dtype: torch.dtype) -> Eight:
    """Scaled so that its largest magnitude is the largest one of `dtype`: nothing overflows."""
    largest = torch.linalg.vector_norm(tensor, ord=float("inf")).float().clamp(min=1e-12)
    quantised = (tensor * (torch.finfo(dtype).max / largest)).to(dtype)
    return Eight(quantised, quantised.t().contiguous().t(), largest / torch.finfo(dtype).max)


def bf16(inputs: Tensor, weight: Tensor, grad: Tensor) -> Products:
    """The three products as autograd makes them."""
    return inputs @ weight.t(), grad @ weight, grad.t() @ inputs


def quantised(inputs: Tensor, weight: Tensor, grad: Tensor) -> tuple[Eight, Eight, Eight]:
    """Operands as the FP8 products take them."""
    e4m3 = torch.float8_e4m3fn
    return eight(inputs, e4m3), eight(weight, e4m3), eight(grad, torch.float8_e5m2)


def product(one: Tensor, other: Tensor, scale: Tensor, other_scale: Tensor, is_fast: bool) -> Tensor:
    """Of a matrix by rows and one by columns, in bf16."""
    multiply = torch._scaled_mm  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
    return multiply(one, other, scale, other_scale, out_dtype=torch.bfloat16, use_fast_accum=is_fast)


def fp8(inputs: Eight, weight: Eight, grad: Eight, is_fast: bool) -> Products:
    """The three products of quantised operands."""
    return (
        product(inputs.rows, weight.rows.t(), inputs.scale, weight.scale, True),
        product(grad.rows, weight.columns, grad.scale, weight.scale, is_fast),
        product(grad.columns.t(), inputs.columns, grad.scale, inputs.scale, is_fast),
    )


def operands(layer: str, tokens: int, device: torch.device) -> Products:
    """Inputs, weight and gradient of the output, in fp32."""
    generator = torch.Generator(device).manual_seed(0)
    width, outputs = LAYERS[layer]
    shapes = ((tokens, width), (outputs, width), (tokens, outputs), (tokens, 1))
    inputs, weight, grad, size = (torch.randn(s, device=device, generator=generator) for s in shapes)
    inputs[:, :6] *= 30
    return inputs, weight / width**0.5, grad * torch.exp(2 * size) * 1e-4


def recorded(
    run: Callable[[], Products], device: torch.device
) -> tuple[Callable[[], Tensor | None], Products]:
    """`run` as a CUDA graph, and the tensors that it writes to; on a CPU as it is."""
    if device.type == "cpu":
        return lambda: run()[0], run()
    for _ in range(3):  # compiles, and makes buffers, which can not be recorded
        run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        products = run()
    graph.replay()
    return graph.replay, products


def measure(layer: str, tokens: int, device: torch.device, seconds: float, is_fast: bool) -> Iterator[Timing]:
    """Every way through one layer, eager and compiled."""
    exact = operands(layer, tokens, device)
    truth = bf16(*exact)
    inputs, weight, grad = (tensor.bfloat16() for tensor in exact)
    before = quantised(inputs, weight, grad)
    ways: dict[str, Callable[[], Products]] = {
        "bf16": lambda: bf16(inputs, weight, grad),
        "fp8 products": lambda: fp8(*before, is_fast),
        "fp8": lambda: fp8(*quantised(inputs, weight, grad), is_fast),
    }
    for (way, run), is_compiled in itertools.product(ways.items(), (False, True)):
        torch.compiler.reset()
        try:
            call, products = recorded(torch.compile(run, dynamic=False) if is_compiled else run, device)
            times = seconds_of(call, device, num_windows=7, window_s=seconds / 7)
        except (RuntimeError, NotImplementedError) as error:
            print(f"{layer} {way} {is_compiled=} not run: {str(error).strip().splitlines()[0]}", flush=True)
            continue
        pairs = zip(products, truth, strict=True)
        errors = [float((one.float() - true).norm() / true.norm()) for one, true in pairs]
        figures = (statistics.median(times) * 1e6, min(times) * 1e6, max(times) * 1e6)
        yield Timing(tokens, layer, way, is_compiled, *figures, errors)


def table(timings: Sequence[Timing]) -> Iterator[str]:
    """A line a layer and way: microseconds, how many times as fast as eager bf16, and errors; then the block."""
    for tokens, way, is_compiled in dict.fromkeys((one.tokens, one.way, one.is_compiled) for one in timings):
        base = {
            one.layer: one.microseconds for one in timings if one[:4] == (tokens, one.layer, "bf16", False)
        }
        layers = [one for one in timings if one[:4] == (tokens, one.layer, way, is_compiled)]
        name = f"{tokens:<8,}{way}{' compiled' if is_compiled else ''}"
        for one in layers:
            errors = "".join(f"{error:>12.2e}" for error in one.errors)
            times = f"{one.microseconds:>10,.1f}{base[one.layer] / one.microseconds:>8.2f}"
            yield f"{name:31}{one.layer:14}{times}{errors}"
        block = sum(one.microseconds for one in layers)
        yield f"{name:31}{'block':14}{block:>10,.1f}{sum(base[one.layer] for one in layers) / block:>8.2f}"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description="Speed and error of linear layers in FP8.")
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--device", choices=tuple(TOKENS), default="cuda" if is_gpu else "cpu")
    parser.add_argument("--tokens", nargs="+", type=int, help="a step, multiples of 16")
    parser.add_argument("--fast-gradients", action="store_true", help="add up roughly there, too")
    parser.add_argument("--seconds", type=float, default=0.5, help="per cell, warm-up not counted")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    given = parser.parse_args()
    device, tokens = torch.device(given.device), given.tokens or TOKENS[given.device]
    print(f"linear layers of a block, {given.device}, torch {torch.__version__}", flush=True)
    timings: list[Timing] = []
    for count, layer in itertools.product(tokens, LAYERS):
        timings += measure(layer, count, device, given.seconds, given.fast_gradients)
    print(f"{'tokens  way':45}{'us':>10}{'x bf16':>8}{'output off':>12}{'d input':>12}{'d weight':>12}")
    print(*table(timings), sep="\n")
    if given.out is not None:
        result = {"is_fast": given.fast_gradients, "hardware": asdict(hardware()), "versions": versions()}
        result["timings"] = [one._asdict() for one in timings]
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
