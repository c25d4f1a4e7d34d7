"""Percentile bootstrap confidence intervals of metrics.

There are two kinds. *Rows* resamples single flows; this is too narrow for traffic, where flows come in bursts
of the same attack. *Clusters* resamples whole attacks (or captures, hosts, ...).

Both need confusion matrices only: drawing n flows with replacement gives the confusion cells multinomial
counts, so the cost of a resample depends on the number of cells, not of flows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from wirebert.metrics.confusion import class_metrics
from wirebert.metrics.registry import headline_metrics
from wirebert.shapes import Float64, Int64

Interval = tuple[float, float]
"""Lower and upper end."""

ALONE = -1
"""Cluster id of a flow that belongs to no cluster and is resampled by itself."""

_CHUNK_CELLS = 4_000_000
_CLASS_METRICS = ("precision", "recall", "f1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Intervals:
    """The intervals of one evaluated split."""

    level: float
    """Fraction of resamples inside each interval, in (0, 1)."""
    num_resamples: int
    seed: int
    rows: Mapping[str, Interval]
    """Metric -> interval, flows resampled."""
    per_class: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """Class -> precision, recall, f1 -> interval, flows resampled."""
    clusters: Mapping[str, Interval] | None = None
    """Metric -> interval, clusters resampled; None with fewer than two clusters."""
    num_clusters: int = 0


def bootstrap(
    true_ids: Int64[np.ndarray, " flows"],
    predicted_ids: Int64[np.ndarray, " flows"],
    labels: tuple[str, ...],
    benign: int | None,
    *,
    clusters: Int64[np.ndarray, " flows"] | None = None,
    seed: int = 0,
    level: float = 0.95,
    num_resamples: int = 1000,
) -> Intervals:
    """Intervals of every metric that follows from the confusion matrix.

    Args:
        clusters: Cluster id of each flow, `ALONE` (-1) for flows resampled by themselves. With attack names
            as clusters, give benign flows -1: a single cluster of all benign flows would be missing from
            every third resample.
    """
    rows_rng, clusters_rng = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    no_cluster = np.full(len(true_ids), ALONE, dtype=np.int64)
    cells = _Cells.count(true_ids, predicted_ids, no_cluster, len(labels))
    resampled, classes = _resampled_metrics(cells, benign, num_resamples, rows_rng)
    per_class = {
        label: {name: percentile_interval(classes[name][:, position], level) for name in _CLASS_METRICS}
        for position, label in enumerate(labels)
    }
    by_cluster, num_clusters = None, 0
    if clusters is not None:
        cells = _Cells.count(true_ids, predicted_ids, clusters, len(labels))
        num_clusters = len(cells.clusters)
        # A single cluster has only one resample: an interval of width zero would mislead.
        if num_clusters > 1:
            drawn, _ = _resampled_metrics(cells, benign, num_resamples, clusters_rng)
            by_cluster = {name: percentile_interval(values, level) for name, values in drawn.items()}
    return Intervals(
        level=level,
        num_resamples=num_resamples,
        seed=seed,
        rows={name: percentile_interval(values, level) for name, values in resampled.items()},
        per_class=per_class,
        clusters=by_cluster,
        num_clusters=num_clusters,
    )


@dataclass(frozen=True, slots=True)
class _Cells:
    """Counts of the non-empty confusion cells, per cluster and of the flows without one."""

    num_labels: int
    index: Int64[np.ndarray, " cells"]
    """Position of each cell in the flattened matrix."""
    alone: Float64[np.ndarray, " cells"]
    clusters: Float64[np.ndarray, "clusters cells"]

    @staticmethod
    def count(
        true_ids: Int64[np.ndarray, " flows"],
        predicted_ids: Int64[np.ndarray, " flows"],
        clusters: Int64[np.ndarray, " flows"],
        num_labels: int,
    ) -> "_Cells":
        index, cell_of_flow = np.unique(true_ids * num_labels + predicted_ids, return_inverse=True)
        names, cluster_of_flow = np.unique(clusters, return_inverse=True)
        flat = np.bincount(cluster_of_flow * len(index) + cell_of_flow, minlength=len(names) * len(index))
        counts = flat.reshape(len(names), len(index)).astype(np.float64)
        return _Cells(num_labels, index, counts[names == ALONE].sum(axis=0), counts[names != ALONE])

    def draw(
        self, num_resamples: int, rng: np.random.Generator
    ) -> Float64[np.ndarray, "resamples labels labels"]:
        """Confusion matrices of resamples: as many clusters, and as many other flows, as there are."""
        cells = np.zeros((num_resamples, len(self.index)))
        num_alone = int(self.alone.sum())
        if num_alone:
            cells += rng.multinomial(num_alone, self.alone / num_alone, size=num_resamples)
        num_clusters = len(self.clusters)
        if num_clusters:
            times_drawn = rng.multinomial(
                num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_resamples
            )
            cells += times_drawn.astype(np.float64) @ self.clusters
        matrices = np.zeros((num_resamples, self.num_labels * self.num_labels))
        matrices[:, self.index] = cells
        return matrices.reshape(num_resamples, self.num_labels, self.num_labels)

    def chunks(self, num_resamples: int) -> Iterator[int]:
        """Sizes of chunks of resamples with bounded memory, whatever the number of classes and clusters."""
        size = max(1, _CHUNK_CELLS // max(1, self.num_labels * self.num_labels, len(self.clusters)))
        for start in range(0, num_resamples, size):
            yield min(size, num_resamples - start)


def _resampled_metrics(
    cells: _Cells, benign: int | None, num_resamples: int, rng: np.random.Generator
) -> tuple[dict[str, Float64[np.ndarray, " resamples"]], dict[str, Float64[np.ndarray, "resamples labels"]]]:
    headlines: list[dict[str, Float64[np.ndarray, " chunk"]]] = []
    classes: list[dict[str, Float64[np.ndarray, "chunk labels"]]] = []
    for size in cells.chunks(num_resamples):
        matrices = cells.draw(size, rng)
        headlines.append(headline_metrics(matrices, benign))
        classes.append(class_metrics(matrices))
    return (
        {name: np.concatenate([part[name] for part in headlines]) for name in headlines[0]},
        {name: np.concatenate([part[name] for part in classes]) for name in classes[0]},
    )


def percentile_interval(values: Float64[np.ndarray, " resamples"], level: float = 0.95) -> Interval:
    """The middle `level` of the values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
