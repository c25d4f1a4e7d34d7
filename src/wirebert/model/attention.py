"""Scaled dot-product attention over short, padded rows: one function, several kernels.

Every kernel gives what the plain formula in `attend_math` gives, to rounding. A kernel is a function in `KERNELS`.

Shape letters: B flows in a batch, H heads, Q slots that ask, L slots that answer, E width of one head.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from jaxtyping import Bool, Float
from torch import Tensor

AttentionKernel = Literal["auto", "sdpa", "math"]
"""`auto` chooses by `fastest_kernel`."""

SHORT_ROW = 64
"""Slots below which plain products beat PyTorch's fused kernels on a GPU at half precision."""


def attend(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B L"] | None,
    *,
    dropout: float,
    kernel: AttentionKernel,
) -> Float[Tensor, "B H Q E"]:
    """What each asking slot gathers from the slots that `mask` calls real (None: all are).

    A row has at least one real slot, `[CLS]`; padded slots get a weight of exactly zero. `dropout` is the share of
    attention weights dropped now (pass 0 outside training).
    """
    chosen = fastest_kernel(query, key) if kernel == "auto" else kernel
    return KERNELS[chosen](query, key, value, mask, dropout)


def fastest_kernel(query: Float[Tensor, "B H Q E"], key: Float[Tensor, "B H L E"]) -> Literal["sdpa", "math"]:
    """The kernel that `auto` means for tensors like these."""
    half = query.dtype in (torch.bfloat16, torch.float16)
    return "math" if query.is_cuda and half and key.shape[2] < SHORT_ROW else "sdpa"


def attend_sdpa(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B L"] | None,
    dropout: float,
) -> Float[Tensor, "B H Q E"]:
    """PyTorch's own choice among its fused kernels."""
    mask_B11L = None if mask is None else mask[:, None, None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask_B11L, dropout_p=dropout)


def attend_math(
    query: Float[Tensor, "B H Q E"],
    key: Float[Tensor, "B H L E"],
    value: Float[Tensor, "B H L E"],
    mask: Bool[Tensor, "B L"] | None,
    dropout: float,
) -> Float[Tensor, "B H Q E"]:
    """Plain batched products: the reference, and the fastest for short rows at half precision."""
    scores_BHQL = (query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(2, 3)
    if mask is not None:
        scores_BHQL = scores_BHQL.masked_fill(~mask[:, None, None, :], -math.inf)
    weights_BHQL = scores_BHQL.softmax(dim=-1).to(value.dtype)  # autocast computes softmax in fp32
    return F.dropout(weights_BHQL, dropout) @ value


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]] = {
    "sdpa": attend_sdpa,
    "math": attend_math,
}
