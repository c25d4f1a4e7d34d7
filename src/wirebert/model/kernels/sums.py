# Triton comes with PyTorch's CUDA builds only, and its kernels are not plain Python: types cannot be checked.
# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
"""Sums over the tokens of a batch, in a fixed order: gradients of biases and of embeddings.

Needs a CUDA GPU: Triton comes with PyTorch's CUDA builds.

Shape letters: T tokens, V rows of a table, D width.
"""

from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
import triton
import triton.language as tl
from torch import Tensor

from wirebert.shapes import Int32, Int64

PROGRAMS: Final = 66
"""Programs for each block of columns: a half of an H200's 132 multiprocessors."""

TILE: Final = {"ROWS": 16, "COLUMNS": 256, "num_warps": 4}


@triton.jit(do_not_specialize=["num_rows", "step"])
def _sum_rows_kernel(
    x_ptr, out_ptr, num_rows, step, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for first in tl.range(program * ROWS, num_rows, step, num_stages=3):
        rows = first + tl.arange(0, ROWS)
        inside = (rows[:, None] < num_rows) & (columns[None, :] < dim)
        total += tl.load(x_ptr + rows[:, None] * dim + columns[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
    tl.store(out_ptr + program * dim + columns, tl.sum(total, 0), mask=columns < dim)


def sum_rows(x: Tensor) -> Tensor:
    """The sum over the rows of `x`, "T D" and contiguous, in single precision."""
    (num_rows, dim), rows = x.shape, TILE["ROWS"]
    programs = min(PROGRAMS, triton.cdiv(num_rows, rows))
    parts = torch.empty((programs, dim), dtype=torch.float32, device=x.device)
    blocks = triton.cdiv(dim, TILE["COLUMNS"])
    _sum_rows_kernel[(programs, blocks)](x, parts, num_rows, programs * rows, dim, **TILE)
    out = torch.empty(dim, dtype=torch.float32, device=x.device)
    _sum_rows_kernel[(1, triton.cdiv(dim, 32))](
        parts, out, programs, 64, dim, ROWS=64, COLUMNS=32, num_warps=4
    )
    return out


@triton.jit
def _scatter_kernel(
    x_ptr, order_ptr, starts_ptr, out_ptr, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first, end = tl.load(starts_ptr + row), tl.load(starts_ptr + row + 1)
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(first, end, ROWS):
        places = start + tl.arange(0, ROWS)
        rows = tl.load(order_ptr + places, mask=places < end, other=0)
        inside = (places[:, None] < end) & (columns[None, :] < dim)
        total += tl.load(x_ptr + rows[:, None] * dim + columns[None, :], mask=inside, other=0.0).to(
            tl.float32
        )
    tl.store(out_ptr + row * dim + columns, tl.sum(total, 0), mask=columns < dim)


class Places(NamedTuple):
    """Where each row of a table is asked for."""

    order: Int64[Tensor, " T"]
    """The tokens, ordered by the rows that they ask for."""

    starts: Int32[Tensor, " rows_and_end"]
    """The first token of each row in that order, then T."""

    @classmethod
    def of(cls, ids: Tensor, num_rows: int) -> "Places":
        """Those of these ids."""
        sorted_ids, order = ids.flatten().sort(stable=True)
        every = torch.arange(num_rows + 1, dtype=ids.dtype, device=ids.device)
        return cls(order, torch.searchsorted(sorted_ids, every, out_int32=True))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, padding: int | None, places: Places | None) -> Tensor:
        ctx.save_for_backward(ids, *(places or ()))
        ctx.padding, ctx.num_rows = padding, len(table)
        return F.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        ids, *places = ctx.saved_tensors
        order, starts = places or Places.of(ids, ctx.num_rows)
        dim = grads[0].shape[-1]
        grad = grads[0].reshape(-1, dim).contiguous()
        grad_table = torch.empty((ctx.num_rows, dim), dtype=torch.float32, device=ids.device)
        _scatter_kernel[(ctx.num_rows, triton.cdiv(dim, 64))](
            grad, order, starts, grad_table, dim, ROWS=128, COLUMNS=64, num_warps=8
        )
        if ctx.padding is not None:
            grad_table[ctx.padding].zero_()
        return None, grad_table, None, None


def lookup(ids: Tensor, table: Tensor, padding: int | None, places: Places | None = None) -> Tensor:
    """The rows of `table` ("V D", float32) at `ids`; the row `padding` receives no gradient.

    `places` are those of the ids; None: the backward pass sorts them.
    """
    return _Lookup.apply(ids, table, padding, places)
