"""Metrics of a pretrained model on masked features, per column, against always predicting the mode."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from wirebert.shapes import Float, Int

SUBWORDS: Final = "(pieces of text)"
"""Name for all text columns together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskedMetrics:
    """Metrics over some masked features."""

    num_masked: int
    loss: float
    """Mean of -log P(masked value), in nats."""
    accuracy: float
    """Fraction of masked features where the model's first choice is right."""
    frequent_accuracy: float
    """The same for always predicting the column's most frequent value in training."""

    @property
    def gain(self) -> float:
        """Accuracy of the model minus that of the most frequent value."""
        return self.accuracy - self.frequent_accuracy


def masked_metrics(
    tokens: Int[np.ndarray, " answers"],
    guessed: Int[np.ndarray, " answers"],
    losses: Float[np.ndarray, " answers"],
    default_ids: Int[np.ndarray, " slots"],
    token_slots: Int[np.ndarray, " tokens"],
) -> MaskedMetrics:
    """The metrics of these answers. Pieces of text have no most frequent value, so it is never right there.

    Args:
        default_ids: the most frequent token of each slot.
        token_slots: slot of each token; -1 for pieces of text.
    """
    frequent = np.append(default_ids, -1)[token_slots[tokens]]
    return MaskedMetrics(
        num_masked=len(tokens),
        loss=float(np.mean(losses, dtype=np.float64)),
        accuracy=float(np.mean(guessed == tokens)),
        frequent_accuracy=float(np.mean(frequent == tokens)),
    )


def column_metrics(
    tokens: Int[np.ndarray, " answers"],
    guessed: Int[np.ndarray, " answers"],
    losses: Float[np.ndarray, " answers"],
    default_ids: Int[np.ndarray, " slots"],
    token_slots: Int[np.ndarray, " tokens"],
    slot_names: Sequence[str],
) -> dict[str, MaskedMetrics]:
    """The metrics of each masked slot, in schema order; all pieces of text together are the last entry."""
    slots = token_slots[tokens]
    names = [*slot_names, SUBWORDS]
    metrics: dict[str, MaskedMetrics] = {}
    for slot in [*range(len(slot_names)), -1]:
        chosen = slots == slot
        if chosen.any():
            answers = tokens[chosen], guessed[chosen], losses[chosen]
            metrics[names[slot]] = masked_metrics(*answers, default_ids, token_slots)
    return metrics
