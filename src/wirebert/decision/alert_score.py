"""Combine several scores of a flow into one: the sum of their negative log p-values on benign flows.

Scores on different scales cannot be added, but the fraction of benign flows that reach each score can be
compared. Minus its logarithm is a surprise in nats; the surprises of independent scores add up. A weight
makes one score count more.

Source: Fisher, "Statistical methods for research workers", 4th edition, 1932, section 21.1.
"""

from dataclasses import dataclass, replace

import numpy as np

from wirebert.shapes import Bool, Float64

MAX_KNOTS = 500
"""Benign scores kept per kind of score."""

TAIL_FRACTION = 0.01
"""Fraction of the benign flows, the highest scores, from which scores beyond all of them are extrapolated."""

_LEAST = 2.0**-53
"""Attack scores keep this distance from 0 and 1: the resolution of double precision."""


def neg_log_p_value(
    known: Float64[np.ndarray, " benign"], scores: Float64[np.ndarray, " flows"]
) -> Float64[np.ndarray, " flows"]:
    """Minus the logarithm of the fraction of benign flows that score as high (nats).

    Each flow counts as one of them, so that the fraction is never 0.

    >>> neg_log_p_value(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 9.0])).round(3)
    array([-0.   ,  0.288,  1.386])
    """
    above = len(known) - np.searchsorted(np.sort(known), scores, side="left")
    return -np.log((above + 1) / (len(known) + 1))


def log_odds(shares: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """log(p / (1 - p)), finite everywhere."""
    inside = shares.clip(_LEAST, 1 - _LEAST)
    return np.log(inside) - np.log1p(-inside)


@dataclass(frozen=True, kw_only=True, slots=True)
class NegLogPValue:
    """`neg_log_p_value` from some of the benign scores: exact at these, linear between them.

    Beyond the highest benign score it keeps rising as if the tail were exponential, so that scores that no
    benign flow reaches are still ranked.
    """

    scores: tuple[float, ...]
    """Rising."""
    nats: tuple[float, ...]
    """Surprise at each of them; rising."""
    slope: float
    """Nats per unit of score above the last one."""

    @staticmethod
    def fit(known: Float64[np.ndarray, " benign"]) -> "NegLogPValue":
        """Fit to the scores of benign flows, at least one.

        If there are many, all of the highest scores are kept and ever fewer of the lower ones: the p-values
        of neighbours differ by a constant factor.
        """
        falling = np.sort(known)[::-1]
        ranks = np.arange(1, len(falling) + 1)
        if len(ranks) > MAX_KNOTS:
            ranks = np.geomspace(1, len(falling), MAX_KNOTS).round().astype(np.int64)
        scores = np.unique(falling[ranks - 1])
        tail = falling[: max(2, round(TAIL_FRACTION * len(falling))) + 1]
        # One over the mean excess, plus one flow that is 1 above: so the slope is finite even where the
        # highest scores are all equal.
        slope = len(tail) / (1 + float((tail - tail[-1]).sum()))
        return NegLogPValue(
            scores=tuple(scores.tolist()), nats=tuple(neg_log_p_value(known, scores).tolist()), slope=slope
        )

    def of(self, scores: Float64[np.ndarray, " flows"]) -> Float64[np.ndarray, " flows"]:
        """The surprise of these scores; 0 at the lowest benign score and below."""
        within = np.interp(scores, self.scores, self.nats).astype(np.float64)
        return within + self.slope * (scores - self.scores[-1]).clip(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class CombinedAlertScore:
    """Attack score and novelty as one score: the sum of their surprises (nats)."""

    attack: NegLogPValue
    """Of the log-odds of the attack score."""
    novelty: NegLogPValue
    novelty_weight: float = 1.0
    """Weight of a nat of novelty, above 0; a nat of the attack score has weight 1."""

    @staticmethod
    def fit(
        attack_scores: Float64[np.ndarray, " benign"],
        novelty: Float64[np.ndarray, " benign"],
        novelty_weight: float = 1.0,
    ) -> "CombinedAlertScore":
        """Fit to both scores of the same benign flows, at least one."""
        return CombinedAlertScore(
            attack=NegLogPValue.fit(log_odds(attack_scores)),
            novelty=NegLogPValue.fit(novelty),
            novelty_weight=novelty_weight,
        )

    def scores(
        self, attack_scores: Float64[np.ndarray, " flows"], novelty: Float64[np.ndarray, " flows"]
    ) -> Float64[np.ndarray, " flows"]:
        """The alert score of each flow; it never falls when either score rises."""
        return self.attack.of(log_odds(attack_scores)) + self.novelty_weight * self.novelty.of(novelty)

    def goes_by_novelty(
        self, attack_scores: Float64[np.ndarray, " flows"], novelty: Float64[np.ndarray, " flows"]
    ) -> Bool[np.ndarray, " flows"]:
        """Whether the novelty counts more than the attack score."""
        return self.novelty_weight * self.novelty.of(novelty) > self.attack.of(log_odds(attack_scores))

    def shifted(self, by: float) -> "CombinedAlertScore":
        """The same score after the log-odds of all attack scores have risen by `by`."""
        moved = tuple(score + by for score in self.attack.scores)
        return replace(self, attack=replace(self.attack, scores=moved))
