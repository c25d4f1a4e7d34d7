"""Every chart of a run, by the name of its file in `plots/`."""

from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.plots.chart import Chart
from wirebert.report.plots.classes import class_metrics, class_shares, confusion
from wirebert.report.plots.scores import calibration, large_bins, precision_recall, roc, scores
from wirebert.report.plots.training import resource_charts, training_charts
from wirebert.report.report import Report
from wirebert.telemetry.history import History

TRAINING = {
    "loss": "loss",
    "quality": "accuracy and macro F1",
    "learning_rates": "learning rates",
    "gradient_norm": "gradient norm",
    "throughput": "throughput",
    "token_throughput": "tokens",
}
"""Charts of the training, and their titles."""

RESOURCE = "resource_"
"""Prefix of the names of resource charts."""


def run_charts(report: Report, history: History | None = None) -> dict[str, Chart]:
    """Class distribution, training charts, then the charts of each split as `<kind>_<split>`, the last split
    first."""
    charts: dict[str, Chart] = {}
    shares = {
        name: {own.name: own.fraction for own in report.data.distribution[name]}
        for name in [*list(report.splits)[-1:], "train"]
        if name in report.data.distribution
    }
    if shares:
        charts["classes"] = class_shares(shares, "Classes")
    if history is not None:
        charts |= training_charts(history) | resource_charts(history)
    for name, metrics in reversed(list(report.splits.items())):
        for kind, chart in split_charts(name, metrics, report.trees(name)).items():
            charts[f"{kind}_{name}"] = chart
    return charts


def split_charts(name: str, metrics: SplitMetrics, trees: SplitMetrics | None = None) -> dict[str, Chart]:
    """Charts of one split by kind; charts without data in the report are left out."""
    charts = {
        "f1": class_metrics(metrics, f"Classes on {name}", trees),
        "confusion": confusion(metrics, f"Confusion on {name}"),
    }
    if metrics.curves is not None and any(
        curve.auroc is not None for curve in metrics.curves.classes.values()
    ):
        charts["roc"] = roc(metrics, f"ROC on {name}", trees)
        charts["precision_recall"] = precision_recall(metrics, f"Precision and recall on {name}", trees)
    if metrics.score_histogram is not None and metrics.num_flows:
        charts["scores"] = scores(metrics.score_histogram, f"Attack scores on {name}")
    if metrics.calibration is not None and any(
        large_bins(diagram)
        for diagram in (metrics.calibration.verdict, metrics.calibration.attack)
        if diagram is not None
    ):
        charts["calibration"] = calibration(metrics, f"Calibration on {name}")
    return charts
