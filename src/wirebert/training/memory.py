"""How many tokens fit a GPU at once: measured on the model itself before training, not guessed."""

from collections.abc import Callable
from typing import Final

import torch

SMALL: Final = 8_192
"""Tokens of the first of the two passes whose memory is compared."""

SHARE_OF_FREE: Final = 0.85
"""Share of the free memory that a micro-batch may fill: the rest is for fragments and for what other steps need."""


def fitting_tokens(
    measure: Callable[[int], int], free_bytes: int, *, wanted: int, smallest: int = SMALL
) -> int:
    """The most tokens, up to `wanted`, whose forward and backward pass fits `free_bytes`.

    Memory is a fixed part plus a part per token, so two small passes tell how it grows.

    Args:
        measure: peak bytes of a pass over this many tokens.
        wanted: tokens of a whole step; more are never needed.

    >>> fitting_tokens(lambda tokens: 1_000 + 10 * tokens, 500_000, wanted=100_000)
    42400
    >>> fitting_tokens(lambda tokens: 1_000 + 10 * tokens, 500_000, wanted=5_000)
    5000
    """
    if wanted <= 2 * smallest:
        return wanted  # memory that runs out is noticed in time
    few, many = measure(smallest), measure(2 * smallest)
    per_token = max(1, many - few) / smallest
    fixed = max(0.0, few - per_token * smallest)
    return max(1, min(wanted, int((SHARE_OF_FREE * free_bytes - fixed) / per_token)))


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that nobody uses, what PyTorch holds in reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
