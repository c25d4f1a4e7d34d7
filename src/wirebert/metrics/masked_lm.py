"""Metrics of a pretrained model on masked features, per column, against always predicting the mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.shapes import Float, Int

SUBWORDS: Final = "(pieces of text)"
"""Name for all text columns together."""

COLUMNS_SHOWN: Final = 15
HEAD: Final = ("column", "masked", "loss", "accuracy", "most frequent", "gain")


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


def print_masked(overall: MaskedMetrics, columns: Mapping[str, MaskedMetrics], console: Console) -> None:
    """Print the overall metrics in one line, then the columns with the largest gain."""
    console.print(
        f"masked features of held-out rows: loss {overall.loss:.3f}, accuracy {overall.accuracy:.3f}; "
        f"the most frequent value of each column: {overall.frequent_accuracy:.3f} "
        f"({overall.num_masked:,} masked)",
        highlight=False,
        soft_wrap=True,
    )
    plain = not console.is_terminal
    table = Table(box=box.ASCII2 if plain else box.SIMPLE_HEAD)
    for index, title in enumerate(HEAD):
        table.add_column(title, justify="right" if index else "left", overflow="fold")
    best = sorted(columns, key=lambda name: -columns[name].gain)
    for name in best[:COLUMNS_SHOWN]:
        metrics = columns[name]
        rates = metrics.accuracy, metrics.frequent_accuracy
        cells = f"{metrics.loss:.3f}", *(f"{rate:.3f}" for rate in rates), f"{metrics.gain:+.3f}"
        table.add_row(Text(name), f"{metrics.num_masked:,}", *cells)
    console.print(table)
    if len(best) > COLUMNS_SHOWN:
        console.print(
            f"{len(best) - COLUMNS_SHOWN} columns with a smaller gain are in the report", highlight=False
        )
