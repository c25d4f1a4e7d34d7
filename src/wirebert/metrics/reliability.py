"""Reliability diagrams and calibration error: is a verdict with probability 80 % right 80 % of the time?"""

from dataclasses import dataclass

import numpy as np

from wirebert.shapes import Bool, Float64

RELIABILITY_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Flows whose probability is in one interval."""

    num_flows: int
    probability: float
    """Mean predicted probability."""
    observed_frequency: float
    """Fraction of the flows for which it came true."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """A reliability diagram."""

    expected_error: float
    """Mean distance of `probability` and `observed_frequency`, each bin weighted by its flows."""
    bins: tuple[ReliabilityBin, ...]
    """The bins from low to high, without empty ones."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of the probabilities on a split."""

    verdict: Reliability
    """The probability of the most probable class, against whether it is the right one."""
    attack: Reliability | None
    """The attack score, against whether the flow is an attack; None where no class means benign."""


def reliability(
    probabilities: Float64[np.ndarray, " flows"], came_true: Bool[np.ndarray, " flows"]
) -> Reliability:
    """The diagram of these probabilities, in 15 bins of equal width; the last includes 1.

    >>> reliability(np.array([0.9, 0.9, 0.1]), np.array([True, False, False])).expected_error
    0.3...
    """
    bin_ids = np.minimum((probabilities * RELIABILITY_BINS).astype(np.int64), RELIABILITY_BINS - 1)
    counts = np.bincount(bin_ids, minlength=RELIABILITY_BINS)
    probability_sums = np.bincount(bin_ids, probabilities, RELIABILITY_BINS)
    true_counts = np.bincount(bin_ids, came_true, RELIABILITY_BINS)
    bins = [
        ReliabilityBin(
            int(counts[i]), float(probability_sums[i] / counts[i]), float(true_counts[i] / counts[i])
        )
        for i in np.flatnonzero(counts).tolist()
    ]
    return Reliability(calibration_error(probabilities, came_true, RELIABILITY_BINS), tuple(bins))


def calibration_error(
    confidence: Float64[np.ndarray, " flows"], is_right: Bool[np.ndarray, " flows"], num_bins: int = 15
) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over bins of equal width.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.

    >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.array([True, True, True, False]))
    0.15...
    """
    bins = np.minimum((confidence * num_bins).astype(np.int64), num_bins - 1)
    apart = np.bincount(bins, weights=confidence - is_right, minlength=num_bins)
    return float(np.abs(apart).sum() / max(1, len(confidence)))
