"""Where the attack scores of each class lie."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

NUM_BINS = 40


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """Flows of each true class by attack score, in bins of equal width from 0 to 1; a score of 1 is in the last."""

    num_bins: int
    benign: str
    """The class that means no attack."""
    counts: Mapping[str, tuple[int, ...]]
    """True class -> flows in each bin; classes that the file lacks are left out."""


def score_histogram(
    scores: Float64[np.ndarray, " flows"],
    true_ids: Int64[np.ndarray, " flows"],
    labels: tuple[str, ...],
    benign: str,
) -> ScoreHistogram:
    """The histogram of these scores.

    >>> score_histogram(np.array([0.0, 1.0, 1.0]), np.array([0, 1, 1]), ("ok", "scan", "dos"), "ok").counts["scan"][-1]
    2
    """
    place = np.minimum((scores * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    flat = np.bincount(true_ids * NUM_BINS + place, minlength=len(labels) * NUM_BINS)
    counts = dict(zip(labels, flat.reshape(len(labels), NUM_BINS).tolist(), strict=True))
    return ScoreHistogram(NUM_BINS, benign, {name: tuple(row) for name, row in counts.items() if any(row)})
