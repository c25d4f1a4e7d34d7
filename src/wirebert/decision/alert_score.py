"""Several scores of a flow as one: how surprised one would be to see each of them on a benign flow, added up.

A score says nothing about another one's scale, but how rarely benign flows reach it does. Minus the logarithm
of that share is a surprise in nats, and the surprises of independent scores add up. Where one of them is
worth more, it counts more.

Source: Fisher, "Statistical methods for research workers", 4th edition, 1932, section 21.1.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

MAX_KNOTS = 500
"""Scores of benign flows that are kept of each kind."""

TAIL_FRACTION = 0.01
"""Highest scores of benign flows by which scores above all of them are distinguished."""

_LEAST = 2.0**-53
"""An attack score is never nearer to 0 or 1 than double precision can tell."""


def neg_log_p_value(
    known: Float64[np.ndarray, " benign"], scores: Float64[np.ndarray, " flows"]
) -> Float64[np.ndarray, " flows"]:
    """Minus the logarithm of the share of benign flows that score as high (nats), each flow counted among
    them.

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
    """`neg_log_p_value` from some of the benign flows' scores: exact at these, straight lines between them.

    Above all of them it goes on rising as if the highest were exponentially distributed, so that what no
    benign flow reaches is still put in order.
    """

    scores: tuple[float, ...]
    """Rising."""
    nats: tuple[float, ...]
    """Surprise at each of them; rising."""
    slope: float
    """Nats per unit of score above the last one."""

    @staticmethod
    def fit(known: Float64[np.ndarray, " benign"]) -> "NegLogPValue":
        """Of the scores of these benign flows, of which there is at least one.

        Of many flows the highest scores are all kept, and the fewer the lower: neighbours are a constant
        factor of the share apart.
        """
        falling = np.sort(known)[::-1]
        ranks = np.arange(1, len(falling) + 1)
        if len(ranks) > MAX_KNOTS:
            ranks = np.geomspace(1, len(falling), MAX_KNOTS).round().astype(np.int64)
        scores = np.unique(falling[ranks - 1])
        tail = falling[: max(2, round(TAIL_FRACTION * len(falling))) + 1]
        # One over the mean excess, with one more flow that is 1 above: there is a slope where the highest are
        # all equal.
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
    """Attack score and novelty as one score, the surprise of both added up (nats)."""

    attack: NegLogPValue
    """Of the log-odds of the attack score."""
    novelty: NegLogPValue
    novelty_weight: float = 1.0
    """What a nat of novelty counts, above 0; a nat of the attack score counts 1."""

    @staticmethod
    def fit(
        attack_scores: Float64[np.ndarray, " benign"],
        novelty: Float64[np.ndarray, " benign"],
        novelty_weight: float = 1.0,
    ) -> "CombinedAlertScore":
        """Of both scores of the same benign flows, of which there is at least one."""
        return CombinedAlertScore(
            attack=NegLogPValue.fit(log_odds(attack_scores)),
            novelty=NegLogPValue.fit(novelty),
            novelty_weight=novelty_weight,
        )

    def scores(
        self, attack_scores: Float64[np.ndarray, " flows"], novelty: Float64[np.ndarray, " flows"]
    ) -> Float64[np.ndarray, " flows"]:
        """The alert score of each flow; it falls with neither of the two."""
        return self.attack.of(log_odds(attack_scores)) + self.novelty_weight * self.novelty.of(novelty)

    def goes_by_novelty(
        self, attack_scores: Float64[np.ndarray, " flows"], novelty: Float64[np.ndarray, " flows"]
    ) -> Bool[np.ndarray, " flows"]:
        """Whether the novelty counts more than the attack score."""
        return self.novelty_weight * self.novelty.of(novelty) > self.attack.of(log_odds(attack_scores))

    def shifted(self, by: float) -> "CombinedAlertScore":
        """The same where the log-odds of all attack scores are so much higher."""
        moved = tuple(score + by for score in self.attack.scores)
        return replace(self, attack=replace(self.attack, scores=moved))
