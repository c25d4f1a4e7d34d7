"""The quick baseline of a report: boosted trees on the training rows of the model, on the same parts.

Imports no PyTorch: beside a GPU another process does all of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

from wirebert.baselines.fitted import fit_columns
from wirebert.companion_process import Receive
from wirebert.config import RunConfig
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.evaluation.evaluate import evaluate_baseline_on
from wirebert.metrics.intervals import Interval
from wirebert.metrics.split_metrics import SplitMetrics


class QuickTrees(NamedTuple):
    """The evaluated baseline."""

    summary: Mapping[str, object]
    splits: dict[str, SplitMetrics]
    differences: dict[str, dict[str, Interval]]


class TreeRows(NamedTuple):
    """The first message: what the trees are fitted on."""

    run: RunConfig
    train: FlowSubset
    classes: ClassMap
    validation: Sequence[FlowSubset]
    """Rows that they are judged on while the model trains; then come its predictions files of them."""


class LastParts(NamedTuple):
    """The second message: rows that are read last of all; then come the model's predictions files of those
    without classes of their own."""

    parts: Sequence[FlowSubset]
    part_classes: Mapping[str, ClassMap]
    """The classes of a part's labels, if others than the model's."""


def evaluate_trees(receive: Receive) -> QuickTrees:
    """Fit the trees, then judge them on the same parts as the model, once that has judged them."""
    import_module("sklearn.ensemble")  # takes seconds; another process has them before the first message
    rows: TreeRows = receive()
    run, label = rows.run, rows.train.flows.require_label()
    fitted = fit_columns(
        "gbdt",
        {},
        ((table, rows.classes.encode(table.column(label))) for table in rows.train.tables()),
        rows.train.flows.schema,
        len(rows.classes.classes),
        seed=run.seed,
        max_rows=run.evaluation.baseline_rows,
    )
    part_classes: dict[str, ClassMap] = {}

    def parts() -> Iterator[FlowSubset]:
        yield from rows.validation
        last: LastParts = receive()
        part_classes.update(last.part_classes)
        yield from last.parts

    splits, differences = evaluate_baseline_on(
        fitted,
        rows.classes,
        parts(),
        lambda _: receive(),
        seed=run.seed,
        num_resamples=run.evaluation.num_resamples,
        part_classes=part_classes,
    )
    return QuickTrees(fitted.summary, splits, differences)
