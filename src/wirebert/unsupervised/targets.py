"""From the surprisal of features to a score per flow, and to the probabilities that a model is trained on.

Columns differ in how surprising they always are: an ephemeral port is, a protocol is not. So each surprisal
is standardised on training flows before the sum.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from wirebert.decision.alert_score import NegLogPValue
from wirebert.shapes import Bool, Float, Float64

UNUSUAL_SHARE: Final = 0.01
"""Fraction of normal flows whose target is at least one half."""

LEAST_SPREAD: Final = 0.1
"""Added to the spread of each column's surprisal (nats), so that a constant one cannot drown others."""

MAX_NATS: Final = 30.0
"""Higher ones are no target: single precision tells no probabilities apart beyond."""


def most_surprising(scores: Float[np.ndarray, " flows"], fraction: float) -> Bool[np.ndarray, " flows"]:
    """True for this fraction of the flows, those with the highest scores, rounded down.

    >>> most_surprising(np.array([3.0, 9.0, 1.0, 2.0]), 0.25)
    array([False,  True, False, False])
    """
    is_out = np.zeros(len(scores), bool)
    num_out = int(fraction * len(scores) + 1e-9)
    is_out[np.argsort(-scores, kind="stable")[:num_out]] = True
    return is_out


@dataclass(frozen=True, slots=True)
class UnusualTarget:
    """The score of a flow, and P(unusual): one half where 1 % of normal flows score as high.

    The log-odds are minus the logarithm of the fraction of normal flows with as high a score, plus the
    logarithm of `UNUSUAL_SHARE`. They go on rising beyond all of these flows.
    """

    means: Float64[np.ndarray, " features"]
    spreads: Float64[np.ndarray, " features"]
    p_value: NegLogPValue

    @staticmethod
    def fit(surprisals: Float[np.ndarray, "flows features"], left_out_fraction: float) -> "UnusualTarget":
        """Fit to training flows, at least one; then once more without those that score highest."""
        first = UnusualTarget._of(surprisals)
        if not left_out_fraction:
            return first
        return UnusualTarget._of(surprisals[~most_surprising(first.scores(surprisals), left_out_fraction)])

    @staticmethod
    def _of(surprisals: Float[np.ndarray, "flows features"]) -> "UnusualTarget":
        wide = surprisals.astype(np.float64)
        means, spreads = wide.mean(axis=0), wide.std(axis=0) + LEAST_SPREAD
        return UnusualTarget(means, spreads, NegLogPValue.fit(((wide - means) / spreads).sum(axis=1)))

    def scores(self, surprisals: Float[np.ndarray, "flows features"]) -> Float64[np.ndarray, " flows"]:
        """The sum of the standardised surprisals of each flow's features."""
        return ((surprisals.astype(np.float64) - self.means) / self.spreads).sum(axis=1)

    def probabilities(
        self, surprisals: Float[np.ndarray, "flows features"]
    ) -> Float64[np.ndarray, "flows 2"]:
        """The probabilities of the classes normal and unusual."""
        odds = np.exp(self.p_value.of(self.scores(surprisals)).clip(max=MAX_NATS)) * UNUSUAL_SHARE
        return np.stack([1 / (1 + odds), odds / (1 + odds)], axis=1)
