"""Scaled dot-product attention over short rows: one function, several kernels, padded or packed.

Every kernel equals the plain formula in `attend_math` up to rounding. `auto` chooses by `fastest_kernel`,
whose rules come from `benchmarks/attention.py` (results in docs/experiments.md).

| kernel | description |
|---|---|
| tiles | our Triton kernel for packed rows of at most 128 tokens, several rows on the chip at once; GPU |
| math | plain batched products: the reference |
| sdpa | PyTorch's own choice among its fused kernels |
| flash | FlashAttention-2 (Dao, 2023), half precision on a GPU: `varlen` for packed rows, else SDPA |
| | (it cannot mask: rows with padding take `memory_efficient`) |
| varlen | FlashAttention-2 over packed rows; GPU, half precision, no dropout of attention weights |
| memory_efficient | the memory-efficient kernel of SDPA (Rabe and Staats, 2021); GPU |
| flex | `flex_attention`, compiled on a GPU; no dropout of attention weights |

Shape letters: B flows in a batch, H heads, Q slots that ask, L slots that answer, E width of one head; for
packed rows T tokens of all rows, A tokens that ask (all T, or the first of each of R rows).
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from wirebert.errors import ConfigError
from wirebert.model.config import AttentionKernel
from wirebert.model.packing import Packing, padded_positions
from wirebert.shapes import Bool, Float

HAS_TRITON = find_spec("triton") is not None
"""Whether Triton is installed: it comes with PyTorch's CUDA builds."""

SHORT_ROW = 64
"""Below this row length the memory-efficient kernel is the fastest for padded rows in half precision."""


def attend(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B L"] | Bool[Tensor, "B Q L"] | None,
    *,
    dropout: float,
    kernel: AttentionKernel,
) -> Float[Tensor, "B H Q E"]:
    """Attention of each query over the slots where `mask` is True (None: all).

    Each row has at least one such slot, `[CLS]`; padded slots get a weight of exactly zero. `dropout` is the
    probability of dropping an attention weight (pass 0 outside training). Kernels that need packed rows, or a
    GPU that the machine lacks, are replaced by `sdpa`.
    """
    chosen = fastest_kernel(query, key) if kernel == "auto" else kernel
    if chosen not in KERNELS or (chosen != "math" and not query.is_cuda):
        chosen = "sdpa"
    mask_BxQL = None if mask is None else mask[:, None, None, :] if mask.dim() == 2 else mask[:, None]
    return KERNELS[chosen](query, key, value, mask_BxQL, dropout)


def fastest_kernel(query: Float[Tensor, "B H Q E"], key: Float[Tensor, "B H L E"]) -> AttentionKernel:
    """The kernel that `auto` selects for padded tensors like these."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    return "memory_efficient" if query.is_cuda and half and key.shape[2] < SHORT_ROW else "sdpa"


def attend_sdpa(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B 1 _ L"] | None,
    dropout: float,
    *,
    only: SDPBackend | None = None,
) -> Float[Tensor, "B H Q E"]:
    """PyTorch's fused kernel `only`, or its own choice; flash with a mask becomes memory-efficient."""
    if mask is not None and only is SDPBackend.FLASH_ATTENTION:
        only = SDPBackend.EFFICIENT_ATTENTION
    with nullcontext() if only is None else sdpa_kernel(only):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)


def attend_math(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B 1 _ L"] | None,
    dropout: float,
) -> Float[Tensor, "B H Q E"]:
    """Plain batched products: the reference."""
    scores_BHQL = (query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(2, 3)
    if mask is not None:
        scores_BHQL = scores_BHQL.masked_fill(~mask, -math.inf)
    weights_BHQL = scores_BHQL.softmax(dim=-1).to(value.dtype)  # autocast computes softmax in fp32
    return F.dropout(weights_BHQL, dropout) @ value


def attend_flex(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B 1 _ L"] | None,
    dropout: float,
) -> Float[Tensor, "B H Q E"]:
    """`flex_attention`, compiled on a GPU; without dropout, which `ModelConfig` refuses."""
    del dropout
    blocks = None if mask is None else flex_blocks(mask.expand(-1, -1, query.shape[2], -1))
    # Inside a compiled block it is compiled with it.
    is_apart = query.is_cuda and not torch.compiler.is_compiling()
    run = compiled_flex() if is_apart else flex_attention
    return run(query, key, value, block_mask=blocks)  # pyright: ignore[reportReturnType]  # a tensor unless asked for more


def flex_blocks(mask: Bool[Tensor, "B 1 Q L"]) -> BlockMask:
    """The mask for `flex_attention`; it is data, so one compiled function serves every pattern."""
    flows, _, asks, answers = mask.shape
    return create_block_mask(
        lambda flow, _, ask, answer: mask[flow, 0, ask, answer],
        *(flows, None, asks, answers),
        device=str(mask.device),
    )


@cache
def compiled_flex(backend: str = "inductor") -> Callable[..., Tensor]:
    """`flex_attention`, compiled once for all masks and sizes, and again for rows over 128 tokens."""
    return torch.compile(flex_attention, dynamic=True, backend=backend)  # pyright: ignore[reportReturnType]  # as above


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]] = {
    "sdpa": attend_sdpa,
    "math": attend_math,
    "flash": partial(attend_sdpa, only=SDPBackend.FLASH_ATTENTION),
    "memory_efficient": partial(attend_sdpa, only=SDPBackend.EFFICIENT_ATTENTION),
    "flex": attend_flex,
}
"""The kernels for padded rows."""


def attend_packed(
    projected: Float[Tensor, "T _"],
    query: Float[Tensor, "R D"] | None,
    packing: Packing,
    *,
    num_heads: int,
    dropout: float,
    kernel: AttentionKernel,
) -> Float[Tensor, "A D"]:
    """Attention of each query over the tokens of its row; packed rows never see each other.

    Args:
        projected: query, key and value of every token, concatenated; key and value if `query` is given.
        query: queries of the first token of each row; None: every token is a query.
    """
    chosen = fastest_packed_kernel(projected, packing, dropout) if kernel == "auto" else kernel
    if chosen == "tiles":
        return _attend_tiles(projected, query, packing, num_heads, dropout)
    parts = projected.unflatten(-1, (2 if query is not None else 3, num_heads, -1)).unbind(1)
    asking = parts[0] if query is None else query.unflatten(-1, (num_heads, -1))
    key, value = parts[-2], parts[-1]
    if chosen in ("varlen", "flash"):
        return _attend_varlen(asking, key, value, packing, is_first=query is not None).flatten(1)
    return _attend_padded(asking, key, value, packing, query is not None, dropout, chosen).flatten(1)


def fastest_packed_kernel(
    projected: Float[Tensor, "T _"], packing: Packing, dropout: float
) -> AttentionKernel:
    """The kernel that `auto` selects for packed rows like these."""
    if not projected.is_cuda or projected.dtype == torch.float32:
        return "sdpa"
    if packing.has_tiles and HAS_TRITON:
        return "tiles"
    return "sdpa" if dropout else "varlen"


def _attend_tiles(
    projected: Tensor, query: Tensor | None, packing: Packing, num_heads: int, dropout: float
) -> Tensor:
    from wirebert.model.kernels.tiles import tile_attention  # needs Triton, which CPU builds lack

    if not packing.has_tiles:
        raise ConfigError(
            f"model.attention=tiles takes rows of at most 128 tokens, got up to {packing.capacity}; use auto"
        )
    seed = torch.randint(2**31, (), device=projected.device) if dropout else packing.starts[0]
    rows = torch.arange(packing.starts.shape[0] - 1, dtype=torch.int32, device=projected.device)
    query_tiles, query_row_of = (
        (packing.tiles, packing.row_of) if query is None else (packing.tile_rows, rows)
    )
    return tile_attention(
        *(projected, query, packing.tiles, query_tiles, packing.row_of, query_row_of, seed),
        *(
            num_heads,
            projected.shape[1] // (num_heads * (3 if query is None else 2)),
            packing.capacity,
            dropout,
        ),
    )


def _attend_padded(
    query: Float[Tensor, "A H E"],
    key: Float[Tensor, "T H E"],
    value: Float[Tensor, "T H E"],
    packing: Packing,
    is_first: bool,
    dropout: float,
    kernel: AttentionKernel,
) -> Float[Tensor, "A H E"]:
    """Attention by a padded kernel: rows are padded only here."""
    token_indices, mask = padded_positions(packing)
    key, value = (part[token_indices].transpose(1, 2) for part in (key, value))
    if is_first:
        return attend(query[:, :, None], key, value, mask, dropout=dropout, kernel=kernel)[:, :, 0]
    gathered = attend(query[token_indices].transpose(1, 2), key, value, mask, dropout=dropout, kernel=kernel)
    slot = torch.arange(len(packing.row_of), device=mask.device) - packing.starts[packing.row_of.long()]
    return gathered.transpose(1, 2)[packing.row_of.long(), slot.long()]


def _attend_varlen(
    query: Float[Tensor, "A H E"],
    key: Float[Tensor, "T H E"],
    value: Float[Tensor, "T H E"],
    packing: Packing,
    *,
    is_first: bool,
) -> Float[Tensor, "A H E"]:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.10 and later

    rows = torch.arange(len(packing.starts), dtype=torch.int32, device=query.device)
    starts_q, longest_q = (rows, 1) if is_first else (packing.starts, packing.capacity)
    return varlen_attn(query, key, value, starts_q, packing.starts, longest_q, packing.capacity)  # pyright: ignore[reportReturnType]  # a tensor unless asked for more
