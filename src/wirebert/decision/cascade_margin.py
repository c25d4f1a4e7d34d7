"""The margin of a cascade: from which gap between its two best classes on the small model answers."""

from typing import Final, NamedTuple

import numpy as np

from wirebert.metrics.confusion import macro_f1
from wirebert.shapes import Float, Float64

LEAST_AGREEMENT: Final = 0.998
"""Macro-F1 that the cascade must reach, the classes of the big model taken as true: a mean over classes, as
traffic that is nearly all benign agrees anyway. Other traffic agrees less than that of the choice, so it is
closer to 1 than the loss of macro-F1 that is accepted (0.003)."""
LEAST_SHARE: Final = 0.1
"""Fraction of the flows that the big model answers at least. Two models that agree on traffic like that of
training need not agree on other traffic; the small one is less sure there, so more flows fall below this
quantile."""


class CascadeMargin(NamedTuple):
    """A margin, and what it does on the flows that it was chosen on."""

    margin: float
    """Gap of log-probabilities (nats) from which on the small model answers."""
    share: float
    """Fraction of the flows that the big model answers."""
    agreement: float
    """Macro-F1 of the cascade, the classes of the big model taken as true."""


def class_gaps(logits: Float[np.ndarray, "flows classes"]) -> Float64[np.ndarray, " flows"]:
    """How far apart the log-probabilities of the two most probable classes are, in nats.

    Not the gap of their probabilities: near 1 these are alike in single precision, and most flows lie there.

    >>> class_gaps(np.array([[4.0, 1.0, 3.5], [0.0, 9.0, 1.0]]))
    array([0.5, 8. ])
    """
    highest = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return highest[:, 1] - highest[:, 0]


def choose_margin(
    small: Float[np.ndarray, "flows classes"], big: Float[np.ndarray, "flows classes"]
) -> CascadeMargin:
    """The smallest margin with `LEAST_AGREEMENT` that leaves `LEAST_SHARE` of the flows to the big model.

    No labels are needed, but at least one flow.

    Args:
        small: Calibrated logits or log-probabilities of the small model.
        big: Those of the big model.
    """
    gaps, found, expected = class_gaps(small), small.argmax(axis=1), big.argmax(axis=1)

    def agreement(margin: float) -> float:
        return macro_f1(expected, np.where(gaps < margin, expected, found))

    # No class loses agreement when more flows go to the big model, so bisection finds the smallest margin.
    margins = np.nextafter([-np.inf, *np.unique(gaps[found != expected])], np.inf)
    low, high = 0, len(margins) - 1
    while low < high:
        middle = (low + high) // 2
        is_enough = agreement(float(margins[middle])) >= LEAST_AGREEMENT
        low, high = (low, middle) if is_enough else (middle + 1, high)
    margin = max(float(margins[low]), float(np.quantile(gaps, LEAST_SHARE)))
    return CascadeMargin(margin, float((gaps < margin).mean()), agreement(margin))
