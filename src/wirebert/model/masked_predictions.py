"""The predictions of a masked language model for many flows, token by token.

Shape letters: A targets, V vocabulary.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor

from wirebert.encoding.token_rows import TokenRows, by_length
from wirebert.model.batches import (
    SCORE_WINDOW,
    autocast,
    by_tokens,
    class_logits,
    masked_logits,
    scoring_batch,
)
from wirebert.model.config import Precision
from wirebert.model.distilbert import DistilBert
from wirebert.model.masked_lm import NO_TOKEN
from wirebert.shapes import Float32, Int64

MAX_TOKENS = 16_384
"""Tokens of one forward pass, whose masked tokens' logits are in memory at once."""


class MaskedPredictions(NamedTuple):
    """One entry per masked token of some flows, in no particular order."""

    tokens: Int64[np.ndarray, " A"]
    """The masked token."""

    predicted: Int64[np.ndarray, " A"]
    """The model's most probable token."""

    losses: Float32[np.ndarray, " A"]
    """Cross entropy: -log of the model's probability of the masked token."""


def predict_masked(
    model: DistilBert, flows: TokenRows, *, device: str = "cpu", precision: Precision = "fp32"
) -> MaskedPredictions:
    """The model's prediction of every masked token of the flows, without dropout."""
    choose = by_tokens if torch.device(device).type == "cuda" else by_length
    was_training = model.training
    model.to(device).eval()
    outputs: list[Tensor] = []
    try:
        with torch.inference_mode(), autocast(device, precision):
            for first in range(0, len(flows.offsets) - 1, SCORE_WINDOW):
                lengths = np.diff(flows.offsets[first : first + SCORE_WINDOW + 1])
                batches = choose(lengths, MAX_TOKENS)
                outputs += [_predict_batch(model, flows, first + rows, device) for rows in batches]
    finally:
        model.train(was_training)
    table = torch.cat(outputs).cpu().numpy() if outputs else np.empty((0, 3))
    tokens, predicted, losses = table[table[:, 0] != NO_TOKEN].T
    return MaskedPredictions(tokens.astype(np.int64), predicted.astype(np.int64), losses.astype(np.float32))


def _predict_batch(model: DistilBert, flows: TokenRows, rows: Int64[np.ndarray, " B"], device: str) -> Tensor:
    """Token, most probable token and loss at every masked position, as columns of doubles (exact)."""
    batch = scoring_batch(model, flows, rows, device)
    tokens_A, logits_AV = masked_logits(model, batch), class_logits(model, batch).float()
    losses_A = F.cross_entropy(logits_AV, tokens_A, reduction="none")
    return torch.stack([tokens_A.double(), logits_AV.argmax(1).double(), losses_A.double()], dim=1)
