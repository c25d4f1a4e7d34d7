"""The micro-batch that fits a GPU's memory, measured on the model before training."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.batches import pack
from wirebert.training.loop import TrainState, gradients

LENGTH_TRIED: Final = 64
"""Tokens per row in the measurement; memory depends on the number of tokens, hardly on their rows."""

SMALL: Final = 8_192
"""Tokens of the smaller of the two measured passes."""

SHARE_OF_FREE: Final = 0.85
"""Fraction of the free memory that a micro-batch may fill; the rest covers fragmentation and larger steps."""


def fit_into_memory(state: TrainState, mean_length: float) -> None:
    """Set the micro-batch that fills a GPU's memory at this mean flow length, unless the settings do."""
    if state.device.type != "cuda" or state.config.micro_batch_tokens is not None:
        return
    wanted = round(state.config.batch_size * mean_length / state.communicator.size)
    fitting = fitting_tokens(
        lambda tokens: _peak_bytes(state, tokens), free_bytes(state.device), wanted=wanted
    )
    fitting = state.strategy.agree_on_tokens(fitting)
    state.micro_batch_tokens = 0 if fitting == wanted else fitting


def _peak_bytes(state: TrainState, num_tokens: int) -> int:
    """Peak memory of a forward and backward pass over this many tokens."""
    length = min(LENGTH_TRIED, state.model.architecture.max_positions)
    ids = np.zeros(num_tokens // length * length, dtype=np.uint16)
    rows = JaggedRows(ids, np.arange(0, len(ids) + 1, length))
    class_ids = np.zeros(len(rows.offsets) - 1, dtype=np.int64)
    pad_id = state.model.architecture.pad_id
    batch = pack(rows, np.arange(len(class_ids)), class_ids, pad_id=pad_id)
    before = torch.cuda.memory_allocated(state.device)
    torch.cuda.reset_peak_memory_stats(state.device)
    state.model.train()
    gradients(state, batch)
    state.optimizer.zero_grad()
    return torch.cuda.max_memory_allocated(state.device) - before


def fitting_tokens(
    measure: Callable[[int], int], free_bytes: int, *, wanted: int, smallest: int = SMALL
) -> int:
    """The maximum number of tokens, up to `wanted`, whose forward and backward pass fits `free_bytes`.

    Memory is a fixed part plus a part per token, so two small passes determine both.

    Args:
        measure: peak bytes of a pass over this many tokens.
        wanted: tokens of a whole step; more are never needed.

    >>> fitting_tokens(lambda tokens: 1_000 + 10 * tokens, 500_000, wanted=100_000)
    42400
    >>> fitting_tokens(lambda tokens: 1_000 + 10 * tokens, 500_000, wanted=5_000)
    5000
    """
    if wanted <= 2 * smallest:
        return wanted  # if memory runs out, the step is repeated with smaller micro-batches
    few, many = measure(smallest), measure(2 * smallest)
    per_token = max(1, many - few) / smallest
    fixed = max(0.0, few - per_token * smallest)
    return max(1, min(wanted, int((SHARE_OF_FREE * free_bytes - fixed) / per_token)))


def free_bytes(device: torch.device) -> int:
    """Free memory of a GPU, including PyTorch's unused reserve."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
