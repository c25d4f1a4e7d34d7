# Triton comes with PyTorch's CUDA builds only, and its kernels are not plain Python: types cannot be checked.
# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
"""AdamW over all weights of a model: norm of the gradients, clipping, update and half-precision copies.

Three launches, whatever the number of tensors: each reads or writes every number once. The tensors are found
through a table of addresses on the device; a program takes a chunk of one tensor.

Needs a CUDA GPU: Triton comes with PyTorch's CUDA builds.

Shape letters: N tensors, K chunks.
"""

from math import inf, log
from typing import Final, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK: Final = 4096
"""Numbers of one program."""


@triton.jit
def _tensor(table_ptr, row, at, num_tensors, dtype: tl.constexpr, ALIGN: tl.constexpr):
    address = tl.load(table_ptr + row * num_tensors + at)
    return tl.multiple_of(address.to(tl.pointer_type(dtype)), ALIGN)


@triton.jit
def _squares(grads, places, inside):
    grad = tl.load(grads + places, mask=inside, other=None if inside is None else 0.0)
    return tl.sum(grad * grad, 0)


@triton.jit(do_not_specialize=["num_tensors"])
def _squares_kernel(
    grads_ptr, sizes_ptr, tensor_ptr, first_ptr, sums_ptr, num_tensors,
    CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    at = tl.load(tensor_ptr + chunk)
    size = tl.load(sizes_ptr + at)
    first = tl.multiple_of(tl.load(first_ptr + chunk), CHUNK)
    places = first + tl.arange(0, CHUNK)
    grads = _tensor(grads_ptr, 0, at, num_tensors, tl.float32, ALIGN)
    if tl.load(grads_ptr + at) == 0:
        tl.store(sums_ptr + chunk, 0.0)
    elif first + CHUNK <= size:  # without a mask, so that 16 bytes are read at once
        tl.store(sums_ptr + chunk, _squares(grads, places, None))
    else:
        tl.store(sums_ptr + chunk, _squares(grads, places, places < size))


@triton.jit(do_not_specialize=["num_chunks"])
def _factors_kernel(
    sums_ptr, step_ptr, norm_ptr, factors_ptr, num_chunks, limit, log_beta1, log_beta2, BLOCK: tl.constexpr
):
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, num_chunks, BLOCK):
        places = first + tl.arange(0, BLOCK)
        total += tl.load(sums_ptr + places, mask=places < num_chunks, other=0.0).to(tl.float64)
    norm = tl.sqrt(tl.sum(total, 0)).to(tl.float32)
    step = tl.load(step_ptr) + 1.0
    tl.store(step_ptr, step)
    tl.store(norm_ptr, norm)
    # Not tl.minimum, which would replace a norm that is not a number.
    tl.store(factors_ptr, tl.where(norm > limit, limit / (norm + 1e-6), norm * 0.0 + 1.0))
    tl.store(factors_ptr + 1, (1.0 - tl.exp(step.to(tl.float64) * log_beta1)).to(tl.float32))
    tl.store(factors_ptr + 2, tl.sqrt(1.0 - tl.exp(step.to(tl.float64) * log_beta2)).to(tl.float32))


@triton.jit
def _update(
    grads, weights, means, squares, halves, has_half, places, inside, factor, rate, decay, rise, spread_rise,
    BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    grad = tl.load(grads + places, mask=inside) * factor
    mean = tl.load(means + places, mask=inside)
    square = tl.load(squares + places, mask=inside)
    weight = tl.load(weights + places, mask=inside) * (1.0 - rate * decay)
    mean += (1.0 - BETA1) * (grad - mean)
    square = BETA2 * square + (1.0 - BETA2) * grad * grad
    weight -= rate / rise * mean / (tl.sqrt(square) / spread_rise + EPS)
    tl.store(means + places, mean, mask=inside)
    tl.store(squares + places, square, mask=inside)
    tl.store(weights + places, weight, mask=inside)
    if has_half:
        tl.store(halves + places, weight.to(halves.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["num_tensors"])
def _update_kernel(
    grads_ptr, tensors_ptr, sizes_ptr, tensor_ptr, first_ptr, rates_ptr, decays_ptr, groups_ptr, factors_ptr,
    num_tensors, BETA1: tl.constexpr, BETA2: tl.constexpr, EPS: tl.constexpr,
    HALF: tl.constexpr, CHUNK: tl.constexpr, ALIGN: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    at = tl.load(tensor_ptr + chunk)
    if tl.load(grads_ptr + at) == 0:
        return
    size = tl.load(sizes_ptr + at)
    first = tl.multiple_of(tl.load(first_ptr + chunk), CHUNK)
    places = first + tl.arange(0, CHUNK)
    group = tl.load(groups_ptr + at)
    rate = tl.load(tl.load(rates_ptr + group).to(tl.pointer_type(tl.float32)))
    decay, factor = tl.load(decays_ptr + group), tl.load(factors_ptr)
    rise, spread_rise = tl.load(factors_ptr + 1), tl.load(factors_ptr + 2)
    grads = _tensor(grads_ptr, 0, at, num_tensors, tl.float32, ALIGN)
    weights = _tensor(tensors_ptr, 0, at, num_tensors, tl.float32, 16)
    means = _tensor(tensors_ptr, 1, at, num_tensors, tl.float32, 16)
    squares = _tensor(tensors_ptr, 2, at, num_tensors, tl.float32, 16)
    halves = _tensor(tensors_ptr, 3, at, num_tensors, HALF, 16)
    has_half = tl.load(tensors_ptr + 3 * num_tensors + at) != 0
    if first + CHUNK <= size:  # without a mask, so that 16 bytes are read at once
        _update(
            grads, weights, means, squares, halves, has_half, places, None, factor, rate, decay,
            rise, spread_rise, BETA1, BETA2, EPS,
        )  # fmt: skip
    else:
        _update(
            grads, weights, means, squares, halves, has_half, places, places < size, factor, rate, decay,
            rise, spread_rise, BETA1, BETA2, EPS,
        )  # fmt: skip


class Moments(NamedTuple):
    """One weight with what AdamW keeps of it."""

    weight: Tensor
    mean: Tensor
    square: Tensor
    half: Tensor | None
    """The copy of the weight in half precision, if there is one."""

    group: int
    """The weight's place among the rates and decays."""


class Tables:
    """Where the tensors of an update lie, on the device; they must be contiguous and stay where they are."""

    def __init__(self, moments: list[Moments], step: Tensor, decays: Tensor, rates: list[Tensor]) -> None:
        """`step` counts updates; `decays` and `rates` are the groups' weight decays and learning rates."""
        device = step.device
        self.moments, self.step, self.decays, self._kept = moments, step, decays.to(device), rates
        self.half_dtype = next((m.half.dtype for m in moments if m.half is not None), torch.bfloat16)
        addresses = [
            [0 if tensor is None else tensor.data_ptr() for tensor in row]
            for row in zip(*(m[:4] for m in moments), strict=True)
        ]
        self.tensors = torch.tensor(addresses, device=device)
        self.rates = torch.tensor([rate.data_ptr() for rate in rates], device=device)
        sizes = torch.tensor([m.weight.numel() for m in moments])
        self.tensor = torch.repeat_interleave((sizes + CHUNK - 1) // CHUNK).int().to(device)
        self.first = torch.cat([torch.arange(0, size, CHUNK) for size in sizes.tolist()]).int().to(device)
        self.sizes = sizes.int().to(device)
        self.groups = torch.tensor([m.group for m in moments], dtype=torch.int32, device=device)
        self.sums = torch.empty(len(self.first), device=device)
        self.factors = torch.empty(3, device=device)


def clip_and_update(
    tables: Tables,
    gradients: Tensor,
    *,
    limit: float,
    betas: tuple[float, float],
    eps: float,
    is_aligned: bool,
) -> Tensor:
    """One step of AdamW in place, with gradients scaled down to the norm `limit`; returns their norm before.

    Args:
        gradients: address of each weight's gradient (float32, contiguous), "N" int64; 0: the weight rests.
        is_aligned: whether the addresses of all gradients are multiples of 16.
    """
    norm = torch.empty((), device=gradients.device)
    log_betas = [log(beta) if beta else -inf for beta in betas]
    num_chunks, num_tensors = len(tables.first), len(tables.moments)
    chunked = {"CHUNK": CHUNK, "ALIGN": 16 if is_aligned else 4, "num_warps": 8}
    _squares_kernel[(num_chunks,)](
        gradients, tables.sizes, tables.tensor, tables.first, tables.sums, num_tensors, **chunked
    )
    _factors_kernel[(1,)](
        tables.sums, tables.step, norm, tables.factors, num_chunks, limit, *log_betas, BLOCK=4096, num_warps=8
    )
    _update_kernel[(num_chunks,)](
        gradients, tables.tensors, tables.sizes, tables.tensor, tables.first, tables.rates, tables.decays,
        tables.groups, tables.factors, num_tensors, BETA1=betas[0], BETA2=betas[1], EPS=eps,
        HALF=tl.float16 if tables.half_dtype == torch.float16 else tl.bfloat16, **chunked,
    )  # fmt: skip
    return norm
