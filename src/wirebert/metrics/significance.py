"""Paired significance tests of methods on the same flows.

All methods share the same resamples, so that the difficulty of a resample cancels in the difference. Three
sources of variation, reported separately:

- *rows*: resampled flows; too narrow for traffic, where flows come in bursts of the same attack;
- *clusters*: resampled attacks (or captures, hosts, ...);
- *seeds*: the same flows, trained again.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16; Holm, A Simple
Sequentially Rejective Multiple Test Procedure (1979).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wirebert.metrics.confusion import class_metrics
from wirebert.metrics.intervals import ALONE, Interval
from wirebert.metrics.registry import TPR_AT_1PCT_FPR, headline_metrics
from wirebert.shapes import Bool, Float64, Int64

TPR_TARGET_FPR = 0.01
"""False positive rate of the resampled detection rate."""

_CHUNK_VALUES = 8_000_000
_MAX_PERMUTATIONS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelledRows:
    """The true classes of flows, and the clusters that they belong to."""

    true_ids: Int64[np.ndarray, " flows"]
    num_labels: int
    benign: int | None
    """Id of the benign class; None: there are no binary metrics."""
    clusters: Int64[np.ndarray, " flows"] | None = None
    """Cluster id of each flow, `ALONE` for flows resampled by themselves; None: rows only."""

    @property
    def has_clusters(self) -> bool:
        """Whether there are clusters to resample: at least two, since one has only one resample."""
        return self.clusters is not None and len(np.unique(self.clusters[self.clusters != ALONE])) > 1


@dataclass(frozen=True, slots=True)
class DifferenceInterval:
    """A difference under one way of resampling."""

    interval: Interval
    """95 % percentile interval of the difference."""
    p: float
    """Two-sided p-value of no difference."""
    p_holm: float
    """The p-value, Holm-adjusted for the number of differences."""


def f1_of(label: int) -> str:
    """Name of the metric: F1 of the class with this id.

    >>> f1_of(3)
    'f1_of_3'
    """
    return f"f1_of_{label}"


def paired_metrics(
    labelled: LabelledRows,
    predicted: Int64[np.ndarray, "verdicts flows"],
    scores: Float64[np.ndarray, "verdicts flows"] | None = None,
    *,
    per_class: bool = False,
) -> dict[str, Float64[np.ndarray, " verdicts"]]:
    """Headline metrics of each method's verdicts on all flows; with attack scores also `TPR_AT_1PCT_FPR`.

    Args:
        per_class: Also return the F1 of every class, under its name from `f1_of`.
    """
    weights = np.ones((1, len(labelled.true_ids)))
    per_row = [_weighted_metrics(labelled, row, weights, per_class=per_class) for row in predicted]
    values = {
        name: np.concatenate([one[name] for one in per_row]) for name in (per_row[0] if per_row else {})
    }
    if scores is not None and labelled.benign is not None:
        is_attack = labelled.true_ids != labelled.benign
        values[TPR_AT_1PCT_FPR] = tpr_at_fpr(scores, is_attack, weights)[:, 0]
    return values


def resample(
    labelled: LabelledRows,
    predicted: Int64[np.ndarray, "verdicts flows"],
    scores: Float64[np.ndarray, "verdicts flows"] | None = None,
    *,
    by_cluster: bool,
    seed: int,
    num_resamples: int = 1000,
    per_class: bool = False,
) -> dict[str, Float64[np.ndarray, "verdicts resamples"]]:
    """Metrics on resamples that all rows of `predicted` share; a row is one method trained with one seed.

    Args:
        by_cluster: Resample whole clusters, and the flows without one, instead of single flows.
        per_class: Also return the F1 of every class, under its name from `f1_of`.
    """
    clusters = labelled.clusters if by_cluster and labelled.clusters is not None else None
    rng = np.random.default_rng([seed, by_cluster])
    # Flows with equal verdicts in every row are drawn together: a few thousand kinds instead of all flows.
    units, counts, first = _units(labelled, predicted, clusters, None if labelled.benign is None else scores)
    chunks: list[dict[str, Float64[np.ndarray, "verdicts chunk"]]] = []
    kinds = LabelledRows(
        true_ids=labelled.true_ids[first], num_labels=labelled.num_labels, benign=labelled.benign
    )
    is_attack = kinds.true_ids != labelled.benign
    for weights in _draws(counts, units, num_resamples, rng):
        per_row = [_weighted_metrics(kinds, row[first], weights, per_class=per_class) for row in predicted]
        chunk = {name: np.stack([one[name] for one in per_row]) for name in per_row[0]}
        if scores is not None and labelled.benign is not None:
            chunk[TPR_AT_1PCT_FPR] = tpr_at_fpr(scores[:, first], is_attack, weights)
        chunks.append(chunk)
    return {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in chunks[0]}


def bootstrap_p_value(differences: Float64[np.ndarray, " resamples"]) -> float:
    """Two-sided p-value of no difference: twice the fraction of resamples on the rarer side of 0, never 0.

    >>> bootstrap_p_value(np.array([0.1, 0.2, 0.3]))
    0.5
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (1 + rarer) / (1 + len(differences)))


def seed_interval(
    first: Float64[np.ndarray, " seeds"],
    second: Float64[np.ndarray, " others"] | None = None,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Interval:
    """Interval of the mean over seeds, or of the difference of two such means, by resampling seeds."""
    from scipy.stats import bootstrap  # here, since scoring imports this module and must stay light

    def mean_gap(
        *samples: Float64[np.ndarray, "*shape"], axis: int = -1
    ) -> Float64[np.ndarray, "*means"] | np.float64:
        means = [sample.mean(axis=axis) for sample in samples]
        return means[0] if len(means) == 1 else means[0] - means[1]

    samples = (first,) if second is None else (first, second)
    result = bootstrap(
        samples,
        mean_gap,
        n_resamples=num_resamples,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def permutation_p_value(
    first: Float64[np.ndarray, " seeds"], second: Float64[np.ndarray, " others"], *, seed: int = 0
) -> float:
    """Two-sided p-value of no difference between two methods' seeds, by swapping seeds between the methods.

    Exact where there are few enough ways to swap (252 for five seeds each), else from random swaps.

    >>> permutation_p_value(np.array([0.9, 0.8]), np.array([0.1, 0.2]))  # 2 of the 6 ways are as far apart
    0.333...
    """
    from scipy.stats import permutation_test  # here, since scoring imports this module and must stay light

    def gap(
        first: Float64[np.ndarray, "*one"], second: Float64[np.ndarray, "*two"], axis: int
    ) -> Float64[np.ndarray, "*gaps"] | np.float64:
        return np.abs(first.mean(axis=axis) - second.mean(axis=axis))

    result = permutation_test(
        (first, second),
        gap,
        vectorized=True,
        n_resamples=_MAX_PERMUTATIONS,
        alternative="greater",
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm-adjusted p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def _units(
    labelled: LabelledRows,
    predicted: Int64[np.ndarray, "verdicts flows"],
    clusters: Int64[np.ndarray, " flows"] | None,
    scores: Float64[np.ndarray, "verdicts flows"] | None,
) -> tuple[Int64[np.ndarray, " units"], Float64[np.ndarray, " units"], Int64[np.ndarray, " units"]]:
    """Cluster, count and first flow of each kind of flow; with scores every flow is a separate kind."""
    num_flows = len(labelled.true_ids)
    cluster_of = np.full(num_flows, ALONE, dtype=np.int64) if clusters is None else clusters
    if scores is not None:
        return cluster_of, np.ones(num_flows), np.arange(num_flows, dtype=np.int64)
    kinds = np.vstack([cluster_of, labelled.true_ids, predicted]).T
    _, first, counts = np.unique(kinds, axis=0, return_index=True, return_counts=True)
    return cluster_of[first], counts.astype(np.float64), first.astype(np.int64)


def _draws(
    counts: Float64[np.ndarray, " units"],
    cluster_of: Int64[np.ndarray, " units"],
    num_resamples: int,
    rng: np.random.Generator,
) -> Iterator[Float64[np.ndarray, "chunk units"]]:
    """Number of flows of each kind in each resample, in chunks of resamples."""
    alone = cluster_of == ALONE
    names, positions = np.unique(cluster_of[~alone], return_inverse=True)
    num_alone = int(counts[alone].sum())
    size = max(1, _CHUNK_VALUES // max(1, len(counts)))
    for start in range(0, num_resamples, size):
        chunk = min(size, num_resamples - start)
        weights = np.empty((chunk, len(counts)))
        if num_alone:
            weights[:, alone] = rng.multinomial(num_alone, counts[alone] / num_alone, size=chunk)
        if len(names):
            drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=chunk)
            weights[:, ~alone] = drawn[:, positions] * counts[~alone]
        yield weights


def _weighted_metrics(
    labelled: LabelledRows,
    predicted: Int64[np.ndarray, " units"],
    weights: Float64[np.ndarray, "resamples units"],
    *,
    per_class: bool,
) -> dict[str, Float64[np.ndarray, " resamples"]]:
    cells, cell_of = np.unique(labelled.true_ids * labelled.num_labels + predicted, return_inverse=True)
    is_cell = (cell_of[:, np.newaxis] == np.arange(len(cells))).astype(np.float64)
    matrices = np.zeros((len(weights), labelled.num_labels**2))
    matrices[:, cells] = weights @ is_cell
    matrices = matrices.reshape(-1, labelled.num_labels, labelled.num_labels)
    metrics = headline_metrics(matrices, labelled.benign)
    if per_class:
        metrics |= {f1_of(label): values for label, values in enumerate(class_metrics(matrices)["f1"].T)}
    return metrics


def tpr_at_fpr(
    scores: Float64[np.ndarray, "verdicts units"],
    is_attack: Bool[np.ndarray, " units"],
    weights: Float64[np.ndarray, "resamples units"],
) -> Float64[np.ndarray, "verdicts resamples"]:
    """Detection rate at the lowest threshold that at most 1 % of the benign flows exceed; 0 without attacks.

    Args:
        weights: Number of flows of each unit in each resample.
    """
    by_unit = np.ascontiguousarray(weights.T)
    num_attacks, num_benign = by_unit[is_attack].sum(axis=0), by_unit[~is_attack].sum(axis=0)
    num_detected = np.stack([_num_found(row, is_attack, by_unit, num_attacks, num_benign) for row in scores])
    return np.divide(num_detected, num_attacks, out=np.zeros_like(num_detected), where=num_attacks > 0)


def _num_found(
    scores: Float64[np.ndarray, " units"],
    is_attack: Bool[np.ndarray, " units"],
    weights: Float64[np.ndarray, "units resamples"],
    num_attacks: Float64[np.ndarray, " resamples"],
    num_benign: Float64[np.ndarray, " resamples"],
) -> Float64[np.ndarray, " resamples"]:
    """Attacks above the benign flow that raises the FPR over 1 %; all attacks if there is no such flow."""
    levels = np.unique(scores[~is_attack])
    # Levels from the highest benign score down: 0 for that score and for attacks above it.
    level_of = len(levels) - np.where(
        is_attack, np.searchsorted(levels, scores), np.searchsorted(levels, scores, side="right")
    )
    num_detected, is_open = num_attacks.copy(), num_benign > 0
    if not is_open.any():
        return num_detected
    # The first few levels nearly always suffice; the others are read only if a resample needs them.
    guide = np.bincount(level_of[~is_attack], weights[~is_attack].mean(axis=1), len(levels)).cumsum()
    few = int(np.searchsorted(guide, 4 * TPR_TARGET_FPR * guide[-1])) + 1
    for num in (min(few, len(levels)), len(levels)):
        alerts, hits = (
            np.cumsum(_summed(level_of, (level_of < num) & side, weights, num), axis=0)
            for side in (~is_attack, is_attack)
        )
        exceeds = alerts > TPR_TARGET_FPR * num_benign
        is_met = is_open & exceeds[-1]
        num_detected[is_met] = hits[exceeds.argmax(axis=0), np.arange(len(num_detected))][is_met]
        is_open &= ~is_met
        if not is_open.any():
            break
    return num_detected


def _summed(
    level_of: Int64[np.ndarray, " units"],
    chosen: Bool[np.ndarray, " units"],
    weights: Float64[np.ndarray, "units resamples"],
    num_levels: int,
) -> Float64[np.ndarray, "levels resamples"]:
    """Total weight of the chosen units at each level."""
    sums = np.zeros((num_levels, weights.shape[1]))
    units = np.flatnonzero(chosen)
    if len(units):
        units = units[np.argsort(level_of[units], kind="stable")]
        names, starts = np.unique(level_of[units], return_index=True)
        sums[names] = np.add.reduceat(weights[units], starts, axis=0)
    return sums
