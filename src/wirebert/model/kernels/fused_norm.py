# Triton comes with PyTorch's CUDA builds only, and its kernels are not plain Python: types cannot be checked.
# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
"""The operations between two matrix products, fused into one Triton kernel for each direction.

`fused_add_norm` is bias, dropout, residual sum and LayerNorm; `fused_bias_gelu` is bias and GELU. Both take
the bias of the matrix product before them, so that its gradient, a sum over all tokens, needs no extra pass.

A program takes a few tokens at a time; sums are in single precision. The norm stores the sum (in its input
precision) and two numbers per token for the backward pass, which draws the dropout mask again from the seed.
Sums over tokens (the gradients of scale, shift and bias) stay apart for each row of a program's tile until
its last token, and `column_sums` adds up the programs, so that the order of additions is fixed.

Needs a CUDA GPU: Triton comes with PyTorch's CUDA builds.

Shape letters: T tokens, D model width, P programs.
"""

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from wirebert.model.kernels.gradients import with_gradients
from wirebert.model.kernels.tiles import dropout_mask

TOKENS_AT_ONCE: Final = 4
MOST_PROGRAMS: Final = 264
"""Programs of the norm's backward pass: two for each of an H200's 132 multiprocessors."""

GELU_TILE: Final = {"ROWS": 8, "COLUMNS": 512, "num_warps": 4}
GELU_PROGRAMS: Final = 66
"""Programs of GELU's backward pass for each block of columns."""

UNSPECIALIZED: Final = ["num_tokens"]
"""Arguments whose values change nothing in a kernel, so that one serves all."""

STAGES: Final = {"norm": 3, "gelu": 2}
"""Tiles that a backward pass loads ahead; launch shapes are measured (docs/experiments.md, 2026-11-29)."""


@triton.jit(do_not_specialize=UNSPECIALIZED)
def _forward_kernel(
    x_ptr, bias_ptr, residual_ptr, scale_ptr, shift_ptr, seed_ptr, out_ptr, sum_ptr, mean_ptr, rstd_ptr,
    num_tokens, dim, threshold,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, DROPS: tl.constexpr, ROWS: tl.constexpr,
    WIDTH: tl.constexpr, KEEP_SCALE: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, WIDTH)
    inside = (rows[:, None] < num_tokens) & (columns[None, :] < dim)
    places = rows[:, None] * dim + columns[None, :]
    x = tl.load(x_ptr + places, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        x += tl.load(bias_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)[None, :]
    if DROPS:
        x = tl.where(dropout_mask(tl.load(seed_ptr), places, threshold), x * KEEP_SCALE, 0.0)
    if HAS_RESIDUAL:
        x += tl.load(residual_ptr + places, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS or HAS_RESIDUAL or DROPS:
        tl.store(sum_ptr + places, x.to(sum_ptr.dtype.element_ty), mask=inside)
    mean = tl.sum(x, 1) / dim
    away = tl.where(inside, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(away * away, 1) / dim + EPS)
    scale = tl.load(scale_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)
    shift = tl.load(shift_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)
    out = away * rstd[:, None] * scale[None, :] + shift[None, :]
    tl.store(out_ptr + places, out.to(out_ptr.dtype.element_ty), mask=inside)
    tl.store(mean_ptr + rows, mean, mask=rows < num_tokens)
    tl.store(rstd_ptr + rows, rstd, mask=rows < num_tokens)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def _backward_kernel(
    grad_ptr, sum_ptr, scale_ptr, mean_ptr, rstd_ptr, seed_ptr,
    grad_sum_ptr, grad_x_ptr, parts_ptr,
    num_tokens, dim, threshold,
    DROPS: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, KEEP_SCALE: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    columns = tl.arange(0, WIDTH)
    scale = tl.load(scale_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)
    grad_scale = tl.zeros([ROWS, WIDTH], tl.float32)
    grad_shift = tl.zeros([ROWS, WIDTH], tl.float32)
    grad_bias = tl.zeros([ROWS, WIDTH], tl.float32)
    for first in tl.range(program * ROWS, num_tokens, tl.num_programs(0) * ROWS, num_stages=STAGES):
        rows = first + tl.arange(0, ROWS)
        inside = (rows[:, None] < num_tokens) & (columns[None, :] < dim)
        places = rows[:, None] * dim + columns[None, :]
        grad = tl.load(grad_ptr + places, mask=inside, other=0.0).to(tl.float32)
        total = tl.load(sum_ptr + places, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_ptr + rows, mask=rows < num_tokens, other=0.0)
        rstd = tl.load(rstd_ptr + rows, mask=rows < num_tokens, other=0.0)
        normal = tl.where(inside, (total - mean[:, None]) * rstd[:, None], 0.0)
        grad_scale += grad * normal
        grad_shift += grad
        scaled = grad * scale[None, :]
        along = tl.sum(scaled * normal, 1) / dim
        middle = tl.sum(scaled, 1) / dim
        grad_sum = (scaled - middle[:, None] - normal * along[:, None]) * rstd[:, None]
        tl.store(grad_sum_ptr + places, grad_sum.to(grad_sum_ptr.dtype.element_ty), mask=inside)
        if DROPS:
            grad_x = tl.where(dropout_mask(tl.load(seed_ptr), places, threshold), grad_sum * KEEP_SCALE, 0.0)
            tl.store(grad_x_ptr + places, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
            grad_bias += tl.where(inside, grad_x, 0.0)
        else:
            grad_bias += tl.where(inside, grad_sum, 0.0)
    parts = parts_ptr + program * 3 * dim + columns
    tl.store(parts, tl.sum(grad_scale, 0), mask=columns < dim)
    tl.store(parts + dim, tl.sum(grad_shift, 0), mask=columns < dim)
    tl.store(parts + 2 * dim, tl.sum(grad_bias, 0), mask=columns < dim)


@triton.jit(do_not_specialize=["num_parts"])
def _column_sums_kernel(
    parts_ptr, first_ptr, second_ptr, third_ptr, num_parts, dim, NUM_OUT: tl.constexpr,
    PARTS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    at = tl.program_id(1)
    total = tl.zeros([PARTS, COLUMNS], tl.float32)
    for first in range(0, num_parts, PARTS):
        rows = first + tl.arange(0, PARTS)
        inside = (rows[:, None] < num_parts) & (columns[None, :] < dim)
        places = (rows[:, None] * NUM_OUT + at) * dim + columns[None, :]
        total += tl.load(parts_ptr + places, mask=inside, other=0.0)
    sums = tl.sum(total, 0)
    tl.store(first_ptr + columns, sums, mask=(columns < dim) & (at == 0))
    if NUM_OUT == 3:
        tl.store(second_ptr + columns, sums, mask=(columns < dim) & (at == 1))
        tl.store(third_ptr + columns, sums, mask=(columns < dim) & (at == 2))


def column_sums(parts: Tensor) -> list[Tensor]:
    """The sums over programs of their parts, "P K D" with K one or three: K tensors "D"."""
    programs, num_out, dim = parts.shape
    sums = [torch.empty(dim, dtype=torch.float32, device=parts.device) for _ in range(num_out)]
    _column_sums_kernel[(triton.cdiv(dim, 16), num_out)](
        parts, sums[0], sums[num_out // 2], sums[-1], programs, dim,
        NUM_OUT=num_out, PARTS=128, COLUMNS=16, num_warps=8,
    )  # fmt: skip
    return sums


def _launch(dim: int, dropout: float) -> dict[str, object]:
    return {
        "threshold": int(dropout * 2**32),
        "KEEP_SCALE": 1.0 / (1.0 - dropout),  # a constant: torch.compile passes numbers on as double
        "DROPS": dropout > 0,
        "ROWS": TOKENS_AT_ONCE,
        "WIDTH": triton.next_power_of_2(dim),
        "num_warps": 4,
    }


def _add_norm(
    x: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    seed: Tensor,
    eps: float,
    dropout: float,
    out_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """LayerNorm(dropout(x + bias) + residual), "T D" in `out_dtype`; then values for the backward pass.

    Args:
        x: "T D", contiguous; `residual` likewise, or None.
        bias: "D", or None.
        scale: LayerNorm's weight, "D"; `shift` its bias.
        seed: seed of dropout, one int64 on the device.
        dropout: probability of dropping a value of `x + bias`, in [0, 1).
    """
    num_tokens, dim = x.shape
    out = torch.empty((num_tokens, dim), dtype=out_dtype, device=x.device)
    has_sum = bias is not None or residual is not None or dropout > 0
    total = torch.empty_like(x) if has_sum else x.new_empty(0)
    mean = torch.empty(num_tokens, dtype=torch.float32, device=x.device)
    rstd = torch.empty_like(mean)
    _forward_kernel[(triton.cdiv(num_tokens, TOKENS_AT_ONCE),)](
        x, x if bias is None else bias, x if residual is None else residual,
        scale, shift, seed, out, total, mean, rstd, num_tokens, dim,
        HAS_BIAS=bias is not None, HAS_RESIDUAL=residual is not None, EPS=eps, **_launch(dim, dropout),
    )  # fmt: skip
    return out, total, mean, rstd


def add_norm_backward(
    grad: Tensor,
    total: Tensor,
    scale: Tensor,
    mean: Tensor,
    rstd: Tensor,
    seed: Tensor,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of residual, x (empty without dropout, where both are equal), scale, shift and bias."""
    num_tokens, dim = total.shape
    grad = grad.contiguous()
    grad_sum = torch.empty_like(total)
    grad_x = torch.empty_like(total) if dropout > 0 else total.new_empty(0)
    programs = min(MOST_PROGRAMS, triton.cdiv(num_tokens, TOKENS_AT_ONCE))
    parts = torch.empty((programs, 3, dim), dtype=torch.float32, device=total.device)
    _backward_kernel[(programs,)](
        grad, total, scale, mean, rstd, seed, grad_sum, grad_x, parts,
        num_tokens, dim, STAGES=STAGES["norm"], **_launch(dim, dropout),
    )  # fmt: skip
    grad_scale, grad_shift, grad_bias = column_sums(parts)
    return grad_sum, grad_x, grad_scale, grad_shift, grad_bias


def _keep_for_norm(ctx, inputs, output) -> None:
    x, bias, residual, scale, _, seed, _, ctx.dropout, _ = inputs
    _, total, mean, rstd = output
    ctx.has_bias, ctx.has_residual = bias is not None, residual is not None
    ctx.save_for_backward(total if len(total) else x, scale, mean, rstd, seed)
    ctx.mark_non_differentiable(total, mean, rstd)
    ctx.set_materialize_grads(False)  # or three tensors of zeros would be written for the other outputs


def _norm_backward(ctx, grad, *_):
    total, scale, mean, rstd, seed = ctx.saved_tensors
    grad_sum, grad_x, grad_scale, grad_shift, grad_bias = add_norm_backward(
        grad, total, scale, mean, rstd, seed, ctx.dropout
    )
    into_x = grad_x if ctx.dropout > 0 else grad_sum
    into_residual = grad_sum if ctx.has_residual else None
    return into_x, grad_bias if ctx.has_bias else None, into_residual, grad_scale, grad_shift, *[None] * 4


fused_add_norm = with_gradients(_add_norm, _keep_for_norm, _norm_backward)
"""`_add_norm` with gradients."""


@triton.jit(do_not_specialize=UNSPECIALIZED)
def _gelu_kernel(
    x_ptr, bias_ptr, out_ptr, num_tokens, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (rows[:, None] < num_tokens) & (columns[None, :] < dim)
    places = rows[:, None] * dim + columns[None, :]
    bias = tl.load(bias_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + places, mask=inside, other=0.0).to(tl.float32) + bias[None, :]
    out = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    tl.store(out_ptr + places, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=UNSPECIALIZED)
def _gelu_backward_kernel(
    grad_ptr, x_ptr, bias_ptr, grad_x_ptr, parts_ptr, num_tokens, dim,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    bias = tl.load(bias_ptr + columns, mask=columns < dim, other=0.0).to(tl.float32)
    grad_bias = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in tl.range(program * ROWS, num_tokens, tl.num_programs(0) * ROWS, num_stages=STAGES):
        rows = first + tl.arange(0, ROWS)
        inside = (rows[:, None] < num_tokens) & (columns[None, :] < dim)
        places = rows[:, None] * dim + columns[None, :]
        x = tl.load(x_ptr + places, mask=inside, other=0.0).to(tl.float32) + bias[None, :]
        grad = tl.load(grad_ptr + places, mask=inside, other=0.0).to(tl.float32)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
        grad_x = grad * slope
        grad_bias += grad_x
        tl.store(grad_x_ptr + places, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)
    tl.store(parts_ptr + program * dim + columns, tl.sum(grad_bias, 0), mask=columns < dim)


def _bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """GELU(x + bias), exact: `x` "T D" and contiguous, `bias` "D"."""
    (num_tokens, dim), out = x.shape, torch.empty_like(x)
    tiles = triton.cdiv(num_tokens, GELU_TILE["ROWS"]), triton.cdiv(dim, GELU_TILE["COLUMNS"])
    _gelu_kernel[tiles](x, bias, out, num_tokens, dim, **GELU_TILE)
    return out


def bias_gelu_backward(grad: Tensor, x: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of bias."""
    num_tokens, dim = x.shape
    grad, grad_x = grad.contiguous(), torch.empty_like(x)
    programs = min(GELU_PROGRAMS, triton.cdiv(num_tokens, GELU_TILE["ROWS"]))
    parts = torch.empty((programs, 1, dim), dtype=torch.float32, device=x.device)
    _gelu_backward_kernel[(programs, triton.cdiv(dim, GELU_TILE["COLUMNS"]))](
        grad, x, bias, grad_x, parts, num_tokens, dim, STAGES=STAGES["gelu"], **GELU_TILE
    )
    (grad_bias,) = column_sums(parts)
    return grad_x, grad_bias


def _keep_for_gelu(ctx, inputs, output) -> None:  # noqa: ARG001 - torch names the arguments
    ctx.save_for_backward(*inputs)


def _gelu_backward(ctx, grad):
    return bias_gelu_backward(grad, *ctx.saved_tensors)


fused_bias_gelu = with_gradients(_bias_gelu, _keep_for_gelu, _gelu_backward)
"""`_bias_gelu` with gradients."""
