# Triton comes with PyTorch's CUDA builds only, and its kernels are not plain Python: types cannot be checked.
# pyright: basic, reportMissingImports=false, reportGeneralTypeIssues=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
"""Attention over packed rows: one Triton program computes a tile of several rows on the chip.

Rows of a dozen tokens are too short for FlashAttention's blocks and too many for batched products, whose
scores go through GPU memory. Here a tile is a run of neighbouring rows with at most `block` tokens in total.
Its block x block scores are computed, masked to pairs within a row, normalised and used without leaving the
chip, and computed again in the backward pass, so that only the projections are stored.

Needs a CUDA GPU: Triton comes with PyTorch's CUDA builds. The dropout mask of a weight is a hash of its index
and the seed (Wellons, "Prospecting for hash functions", 2018, `lowbias32`): a tenth of the work of a Philox
draw, and drawn again in the backward pass.

Shape letters: T tokens of all rows, R rows, N tiles, H heads, E width of one head, D = H * E.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from wirebert.model.kernels.gradients import with_gradients


@triton.jit
def dropout_mask(seed, place, threshold):
    """Whether the value at `place` survives dropout: a 32-bit hash against the threshold."""
    x = place.to(tl.uint32) * 0x9E3779B1 + seed.to(tl.uint32)
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return (x ^ (x >> 16)) >= threshold


@triton.jit
def _weighted(
    query_ptr, kv_ptr, rows_q_ptr, rows_k_ptr, seed_ptr, tile, head, at_q, at_k, is_q, is_k, columns,
    query_stride, kv_stride, key_at, value_at, threshold,
    NUM_HEADS: tl.constexpr, BLOCK: tl.constexpr, DROPS: tl.constexpr, KEEP_SCALE: tl.constexpr,
    PRECISION: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    """Query, key and value of a tile, its attention weights, and their dropout factors.

    The caller computes the addresses: otherwise `torch.compile` would treat all inputs as written to.
    """
    query = tl.load(
        query_ptr + at_q[:, None] * query_stride + columns[None, :], mask=is_q[:, None], other=0.0
    )
    kv = at_k[:, None] * kv_stride + columns[None, :]
    key = tl.load(kv_ptr + key_at + kv, mask=is_k[:, None], other=0.0)
    value = tl.load(kv_ptr + value_at + kv, mask=is_k[:, None], other=0.0)

    rows_q = tl.load(rows_q_ptr + at_q, mask=is_q, other=-1)
    rows_k = tl.load(rows_k_ptr + at_k, mask=is_k, other=-2)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
    scores = tl.where(rows_q[:, None] == rows_k[None, :], scores, float("-inf"))
    highest = tl.max(scores, 1)
    highest = tl.where(highest == float("-inf"), 0.0, highest)  # slots beyond the tile have no key
    weights = tl.exp(scores - highest[:, None])
    total = tl.sum(weights, 1)
    weights = weights / tl.where(total == 0.0, 1.0, total)[:, None]
    factors = tl.full([BLOCK, BLOCK], 1.0, tl.float32)
    if DROPS:
        across = tl.arange(0, BLOCK)
        place = ((tile * NUM_HEADS + head) * BLOCK + across[:, None]) * BLOCK + across[None, :]
        factors = tl.where(dropout_mask(tl.load(seed_ptr), place, threshold), KEEP_SCALE, 0.0)
    return query, key, value, weights, factors


@triton.jit
def _forward_kernel(
    query_ptr, kv_ptr, out_ptr, tiles_q_ptr, tiles_k_ptr, rows_q_ptr, rows_k_ptr, seed_ptr,
    query_stride, kv_stride, out_stride, key_at, value_at, threshold,
    NUM_HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    DROPS: tl.constexpr, KEEP_SCALE: tl.constexpr, PRECISION: tl.constexpr, SCALE: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1)
    first_q, end_q = tl.load(tiles_q_ptr + tile), tl.load(tiles_q_ptr + tile + 1)
    if first_q == end_q:
        return
    at_q = first_q + tl.arange(0, BLOCK)
    at_k = tl.load(tiles_k_ptr + tile) + tl.arange(0, BLOCK)
    is_q, is_k = at_q < end_q, at_k < tl.load(tiles_k_ptr + tile + 1)
    columns = head * WIDTH + tl.arange(0, WIDTH)
    _, _, value, weights, factors = _weighted(
        query_ptr, kv_ptr, rows_q_ptr, rows_k_ptr, seed_ptr, tile, head, at_q, at_k, is_q, is_k, columns,
        query_stride, kv_stride, key_at, value_at, threshold,
        NUM_HEADS, BLOCK, DROPS, KEEP_SCALE, PRECISION, SCALE,
    )  # fmt: skip
    out = tl.dot((weights * factors).to(value.dtype), value, input_precision=PRECISION)
    at_out = at_q[:, None] * out_stride + columns[None, :]
    tl.store(out_ptr + at_out, out.to(out_ptr.dtype.element_ty), mask=is_q[:, None])


@triton.jit
def _backward_kernel(
    grad_ptr, query_ptr, kv_ptr, grad_query_ptr, grad_kv_ptr,
    tiles_q_ptr, tiles_k_ptr, rows_q_ptr, rows_k_ptr, seed_ptr,
    grad_stride, query_stride, kv_stride, grad_query_stride, grad_kv_stride, key_at, value_at, threshold,
    NUM_HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
    DROPS: tl.constexpr, KEEP_SCALE: tl.constexpr, PRECISION: tl.constexpr, SCALE: tl.constexpr,
    IS_APART: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1)
    first_q, end_q = tl.load(tiles_q_ptr + tile), tl.load(tiles_q_ptr + tile + 1)
    if first_q == end_q:
        return
    at_q = first_q + tl.arange(0, BLOCK)
    at_k = tl.load(tiles_k_ptr + tile) + tl.arange(0, BLOCK)
    is_q, is_k = at_q < end_q, at_k < tl.load(tiles_k_ptr + tile + 1)
    columns = head * WIDTH + tl.arange(0, WIDTH)
    query, key, value, weights, factors = _weighted(
        query_ptr, kv_ptr, rows_q_ptr, rows_k_ptr, seed_ptr, tile, head, at_q, at_k, is_q, is_k, columns,
        query_stride, kv_stride, key_at, value_at, threshold,
        NUM_HEADS, BLOCK, DROPS, KEEP_SCALE, PRECISION, SCALE,
    )  # fmt: skip
    grad = tl.load(grad_ptr + at_q[:, None] * grad_stride + columns[None, :], mask=is_q[:, None], other=0.0)
    grad_value = tl.dot(tl.trans((weights * factors).to(grad.dtype)), grad, input_precision=PRECISION)
    grad_weights = tl.dot(grad, tl.trans(value), input_precision=PRECISION) * factors
    mean = tl.sum(weights * grad_weights, 1)
    grad_scores = (weights * (grad_weights - mean[:, None]) * SCALE).to(query.dtype)
    grad_query = tl.dot(grad_scores, key, input_precision=PRECISION)
    grad_key = tl.dot(tl.trans(grad_scores), query, input_precision=PRECISION)
    out_type = grad_kv_ptr.dtype.element_ty
    at_grad_q = at_q[:, None] * grad_query_stride + columns[None, :]
    if IS_APART:
        tl.store(grad_query_ptr + at_grad_q, grad_query.to(out_type), mask=is_q[:, None])
    else:
        tl.store(grad_kv_ptr + at_grad_q, grad_query.to(out_type), mask=is_q[:, None])
    at_grad_k = at_k[:, None] * grad_kv_stride + columns[None, :]
    tl.store(grad_kv_ptr + key_at + at_grad_k, grad_key.to(out_type), mask=is_k[:, None])
    tl.store(grad_kv_ptr + value_at + at_grad_k, grad_value.to(out_type), mask=is_k[:, None])


def _constants(
    dtype: torch.dtype, num_heads: int, width: int, block: int, dropout: float
) -> dict[str, object]:
    is_tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32"
    return {
        "SCALE": width**-0.5,  # a constant: torch.compile passes numbers on as double
        "threshold": int(dropout * 2**32),
        "NUM_HEADS": num_heads,
        "WIDTH": width,
        "BLOCK": block,
        "DROPS": dropout > 0,
        "KEEP_SCALE": 1.0 / (1.0 - dropout),
        # Half precision ignores this; fp32 products stay fp32 unless PyTorch's own use TensorFloat-32.
        "PRECISION": "ieee" if dtype == torch.float32 and not is_tf32 else "tf32",
        "num_warps": 4 if block <= 64 else 8,
    }


def _attend(
    projected: Tensor,
    query: Tensor | None,
    tiles: Tensor,
    query_tiles: Tensor,
    row_of: Tensor,
    query_row_of: Tensor,
    seed: Tensor,
    num_heads: int,
    width: int,
    block: int,
    dropout: float,
) -> Tensor:
    """Attention of each query over the tokens of its row, "T D" or "R D".

    Args:
        projected: query, key and value of every token, concatenated, "T 3D"; key and value, "T 2D", if
            `query` is given.
        query: separate queries, "R D", for instance one per row; None: every token is a query.
        tiles: first token of each tile, then T, "N+1" int32; equal neighbours are an empty tile.
        query_tiles: the same for the queries.
        row_of: row of each token, int32; query_row_of: the same for the queries.
        seed: seed of dropout, one int64 on the device.
        width: width of one head; `num_heads` times it is D.
        block: maximum tokens of a tile: 16, 32, 64 or 128.
        dropout: probability of dropping a weight, in [0, 1).
    """
    dim = num_heads * width
    asking = projected if query is None else query
    out = torch.empty((asking.shape[0], dim), dtype=projected.dtype, device=projected.device)
    key_at = dim if query is None else 0
    _forward_kernel[(tiles.shape[0] - 1, num_heads)](
        asking, projected, out, query_tiles, tiles, query_row_of, row_of, seed,
        asking.stride(0), projected.stride(0), dim, key_at, key_at + dim,
        **_constants(projected.dtype, num_heads, width, block, dropout),
    )  # fmt: skip
    return out


def tile_attention_backward(
    grad: Tensor,
    projected: Tensor,
    query: Tensor | None,
    tiles: Tensor,
    query_tiles: Tensor,
    row_of: Tensor,
    query_row_of: Tensor,
    seed: Tensor,
    num_heads: int,
    width: int,
    block: int,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    """Gradients of `projected` and of `query` (empty without one)."""
    dim = num_heads * width
    asking = projected if query is None else query
    grad = grad.contiguous()
    grad_projected = torch.empty_like(projected, memory_format=torch.contiguous_format)
    grad_query = projected.new_empty((0, dim)) if query is None else torch.empty_like(query)
    # Never pass one tensor as two outputs: torch.compile would keep only one of the writes.
    grad_stride = grad_projected.stride(0) if query is None else grad_query.stride(0)
    key_at = dim if query is None else 0
    _backward_kernel[(tiles.shape[0] - 1, num_heads)](
        grad, asking, projected, grad_query, grad_projected,
        query_tiles, tiles, query_row_of, row_of, seed,
        dim, asking.stride(0), projected.stride(0), grad_stride, grad_projected.stride(0),
        key_at, key_at + dim, IS_APART=query is not None,
        **_constants(projected.dtype, num_heads, width, block, dropout),
    )  # fmt: skip
    return grad_projected, grad_query


def _keep_for_backward(ctx, inputs, output) -> None:  # noqa: ARG001 - torch names the arguments
    *tensors, num_heads, width, block, dropout = inputs
    ctx.save_for_backward(*tensors)
    ctx.settings = (num_heads, width, block, dropout)


def _backward(ctx, grad):
    tensors = ctx.saved_tensors  # once: gradient checkpointing computes them when they are asked for
    grad_projected, grad_query = tile_attention_backward(grad, *tensors, *ctx.settings)
    return grad_projected, None if tensors[1] is None else grad_query, *[None] * 9


tile_attention = with_gradients(_attend, _keep_for_backward, _backward)
"""`_attend` with gradients."""
