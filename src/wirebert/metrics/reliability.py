"""Whether a probability means what it says: of the flows called 80 % likely, are 80 % what they are
called?"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

RELIABILITY_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Flows whose probability lies in one stretch."""

    num_flows: int
    probability: float
    """Mean of what the model says."""
    observed_frequency: float
    """Share of the flows for which it came true."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram."""

    expected_error: float
    """Mean distance of `probability` and `observed_frequency`, each bin weighted by its flows."""
    bins: tuple[ReliabilityBin, ...]
    """From low to high; empty ones are left out."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far the probabilities of a split can be taken at their word."""

    verdict: Reliability
    """The probability of the most probable class, against whether it is the right one."""
    attack: Reliability | None
    """The attack score, against whether the flow is an attack; None where no class means benign."""


def reliability(
    probabilities: Float64[np.ndarray, " flows"], came_true: Bool[np.ndarray, " flows"]
) -> Reliability:
    """The diagram of these probabilities, in 15 bins of equal width; 1 belongs to the last.

    >>> reliability(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])).expected_error
    0.3...
    """
    place = np.minimum((probabilities * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(place, minlength=RELIABILITY_BINS)
    said = np.bincount(place, probabilities, RELIABILITY_BINS)
    true = np.bincount(place, came_true, RELIABILITY_BINS)
    bins = [
        ReliabilityBin(int(counts[i]), float(said[i] / counts[i]), float(true[i] / counts[i]))
        for i in np.flatnonzero(counts).tolist()
    ]
    return Reliability(calibration_error(probabilities, came_true, RELIABILITY_BINS), tuple(bins))


def calibration_error(
    confidence: Float64[np.ndarray, " flows"], is_right: Bool[np.ndarray, " flows"], num_bins: int = 15
) -> float:
    """Expected calibration error: how far confidence and share of right verdicts lie apart, over bins of
    equal width.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.

    >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15...
    """
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    apart = np.bincount(bins, weights=confidence - is_right, minlength=num_bins)
    return float(np.abs(apart).sum() / max(1, len(confidence)))
