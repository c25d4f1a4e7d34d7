"""The headline metrics: every page, table, settings check and significance test reads this list.

A new metric is one entry in `METRICS`. It then appears in the terminal, on the pages, in report.json, on the
model card, with its intervals, and as a choice of `evaluation.primary_metric`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from wirebert.metrics.confusion import binary_matrices, class_metrics, mean_f1, ratio
from wirebert.shapes import Float64

ClassArrays = Mapping[str, Float64[np.ndarray, "matrices _"]]


@dataclass(frozen=True, slots=True)
class ConfusionStack:
    """Confusion matrices, and the per-class metrics that several headline metrics share."""

    matrices: Float64[np.ndarray, "matrices labels labels"]
    classes: ClassArrays
    """The result of `class_metrics`."""
    binary: ClassArrays | None
    """The same for two classes, benign (0) and attack (1); None without a benign class."""

    @staticmethod
    def of(matrices: Float64[np.ndarray, "matrices labels labels"], benign: int | None) -> "ConfusionStack":
        """The stack of these matrices; `benign` is the id of the benign class."""
        binary = None if benign is None else class_metrics(binary_matrices(matrices, benign))
        return ConfusionStack(matrices, class_metrics(matrices), binary)


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One headline metric."""

    key: str
    """Name in report.json, compare.json and settings."""
    title: str
    """Name in texts and tables."""
    of_confusion: Callable[[ConfusionStack], Float64[np.ndarray, " matrices"]] | None = None
    """Value for each matrix; None: computed from attack scores, not from predicted classes."""
    needs_benign: bool = False
    """Whether it exists only with a benign class."""
    hub_type: str | None = None
    """Name on model hubs; None: not in the header of the model card."""
    is_compared: bool = True
    """Whether comparisons of methods show it."""


def _accuracy(stack: ConfusionStack) -> Float64[np.ndarray, " matrices"]:
    return ratio(np.trace(stack.matrices, axis1=-2, axis2=-1), stack.matrices.sum(axis=(-2, -1)))


def _macro_f1(stack: ConfusionStack) -> Float64[np.ndarray, " matrices"]:
    hits = np.diagonal(stack.matrices, axis1=-2, axis2=-1)
    return mean_f1(hits, stack.classes["support"], stack.matrices.sum(axis=-2))


def _weighted_f1(stack: ConfusionStack) -> Float64[np.ndarray, " matrices"]:
    support = stack.classes["support"]
    return ratio((stack.classes["f1"] * support).sum(axis=-1), support.sum(axis=-1))


def _binary_accuracy(stack: ConfusionStack) -> Float64[np.ndarray, " matrices"]:
    assert stack.binary is not None, "needs a benign class"
    return stack.binary["accuracy"][:, 1]


MACRO_F1: Final = "macro_f1"
BINARY_ACCURACY: Final = "binary_accuracy"
TPR_AT_1PCT_FPR: Final = "tpr_at_1pct_fpr"

METRICS: Final[dict[str, Metric]] = {
    metric.key: metric
    for metric in (
        Metric(key="accuracy", title="accuracy", of_confusion=_accuracy, hub_type="accuracy"),
        Metric(key=MACRO_F1, title="macro F1", of_confusion=_macro_f1, hub_type="f1"),
        Metric(
            key="weighted_f1",
            title="weighted F1",
            of_confusion=_weighted_f1,
            hub_type="f1",
            is_compared=False,
        ),
        Metric(
            key=BINARY_ACCURACY,
            title="binary accuracy (attack vs benign)",
            of_confusion=_binary_accuracy,
            needs_benign=True,
            hub_type="accuracy",
        ),
        Metric(key=TPR_AT_1PCT_FPR, title="TPR at 1 % FPR", needs_benign=True),
    )
}
"""Key -> metric, in the order in which tables show them."""


def headline_titles() -> dict[str, str]:
    """Key -> title of the metrics that follow from predicted classes: the head of every report."""
    return {metric.key: metric.title for metric in METRICS.values() if metric.of_confusion is not None}


def compared_titles() -> dict[str, str]:
    """Key -> title of the metrics that comparisons show."""
    return {metric.key: metric.title for metric in METRICS.values() if metric.is_compared}


def primary_choices(*, has_benign: bool = True) -> tuple[str, ...]:
    """Allowed values of `evaluation.primary_metric`; without a benign class, those that need none."""
    compared = [metric for metric in METRICS.values() if metric.is_compared]
    return tuple(metric.key for metric in compared if has_benign or not metric.needs_benign)


def headline_metrics(
    matrices: Float64[np.ndarray, "matrices labels labels"], benign: int | None
) -> dict[str, Float64[np.ndarray, " matrices"]]:
    """Metrics of `METRICS` computed from predicted classes; with a benign class also the other `binary_*`.

    The macro mean is over classes that occur or are predicted, in each matrix separately.
    """
    stack = ConfusionStack.of(matrices, benign)
    values = {
        metric.key: metric.of_confusion(stack)
        for metric in METRICS.values()
        if metric.of_confusion is not None and (benign is not None or not metric.needs_benign)
    }
    if stack.binary is None:
        return values
    attack = stack.binary
    false_positive_rate = 1 - attack["recall"][:, 0]
    return values | {
        "binary_precision": attack["precision"][:, 1],
        "binary_recall": attack["recall"][:, 1],
        "binary_f1": attack["f1"][:, 1],
        "binary_false_positive_rate": np.where(attack["support"][:, 0] > 0, false_positive_rate, 0.0),
    }
