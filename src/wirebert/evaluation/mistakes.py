"""The mistakes that a reader learns most from: those the model was surest of, one of each kind of flow."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64, UInt64

NUM_MISTAKES = 20
PER_CONFUSION = 4
"""At most so many mistakes of one true class taken for one other: the rest would say the same again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A flow with a wrong verdict."""

    row: int
    """Row number in its file, as in `predictions`."""
    label: str
    """As in the file."""
    true_class: str
    predicted_class: str
    probability: float
    """Of the predicted class."""
    flow: Mapping[str, str]
    """Column -> value, in the order of the file; missing values are left out."""
    carried_by: Mapping[str, float] = field(default_factory=dict)
    """Feature -> its share in the verdict, the strongest first; empty where it is not known."""


def surest_mistakes(
    probabilities: Float64[np.ndarray, " wrong"],
    confusions: Int64[np.ndarray, " wrong"],
    row_hashes: UInt64[np.ndarray, " wrong"],
) -> Int64[np.ndarray, " chosen"]:
    """Positions of the mistakes to show, the surest first; of equally sure ones the first comes first.

    Flows that look alike to the model are shown once, and of each confusion at most `PER_CONFUSION`.

    Args:
        confusions: A number for each pair of true class and verdict.
    """
    order = np.argsort(-probabilities, kind="stable")
    _, first = np.unique(
        np.stack([confusions.astype(np.uint64), row_hashes])[:, order], axis=1, return_index=True
    )
    order = order[np.sort(first)]
    grouped = np.argsort(confusions[order], kind="stable")
    _, starts, sizes = np.unique(confusions[order][grouped], return_index=True, return_counts=True)
    rank = np.empty(len(order), dtype=np.int64)
    rank[grouped] = np.arange(len(order)) - np.repeat(starts, sizes)
    return order[rank < PER_CONFUSION][:NUM_MISTAKES]
