"""The section of the report page on one evaluated split."""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from wirebert.metrics.registry import headline_titles
from wirebert.metrics.split_metrics import Mistake, SplitMetrics
from wirebert.metrics.student_gap import GAP_HEAD, TeacherGap, gap_remarks, gap_rows
from wirebert.metrics.thresholds import ThresholdMetrics
from wirebert.report.columns import Columns
from wirebert.report.html.incidents import incident_part
from wirebert.report.html.mistakes import explorer
from wirebert.report.html.parts import (
    charts,
    disclosure,
    heading,
    join,
    paragraph,
    table,
    with_range,
)
from wirebert.report.html.slider import slider
from wirebert.report.report import GBDT, baseline_title
from wirebert.report.terminal import f1_of, interval, loss_row, metric_rows, split_remarks

_PREVALENCES = {"0.01": "1 %", "0.001": "0.1 %"}
"""Key of `ThresholdMetrics.precision_at_prevalence` -> how people write it."""

_OPEN_ERRORS = 3
_MOST_STILL = 20
"""Errors in the list of pages without script."""
_CURVES = {
    "roc": "ROC curve",
    "precision_recall": "precision and recall curve",
    "scores": "attack scores",
    "calibration": "calibration",
}
_TEACHER = "Student and teacher"


def split_section(
    name: str,
    metrics: SplitMetrics,
    baselines: Mapping[str, SplitMetrics],
    figures: Mapping[str, Markup],
    gap: TeacherGap | None = None,
    columns: Columns | None = None,
) -> Markup:
    """Metrics, classes, errors and scores of one split.

    Args:
        baselines: Baseline -> its metrics of this split.
        figures: Kind of chart -> the chart, as `plots.run` names them.
        gap: Differences from the teacher, if there was one.
        columns: Usual values; with them the errors can be chosen and have values beside what is usual.
    """
    classes = [figures[kind] for kind in ("f1", "confusion") if kind in figures]
    curves = [figures[kind] for kind in _CURVES if kind in figures]
    lacking = [title for kind, title in _CURVES.items() if kind not in figures and kind != "scores"]
    parts = [
        headline_table(name, metrics, baselines),
        *(paragraph(remark, "faint") for remark in split_remarks(metrics)),
        heading("Classes"),
        charts(classes),
        class_table(name, metrics, baselines.get(GBDT)),
        *([] if gap is None else [heading(_TEACHER), teacher_section(name, gap)]),
        *([heading("Misclassified flows"), _errors(name, metrics, columns)] if metrics.mistakes else []),
        *([heading("Scores and probabilities"), charts(curves)] if curves else []),
        *incident_part(name, metrics.incidents),
        paragraph(f"Left out, for want of flows: {', '.join(lacking)}.", "faint") if lacking else "",
    ]
    return join(*parts)


def deployment_section(name: str, metrics: SplitMetrics) -> Markup:
    """What each alert threshold means for who works with the alerts."""
    if not metrics.operating_points:
        return Markup("")
    return join(slider(name, metrics), heading("Alert thresholds"), alert_table(name, metrics))


def _errors(name: str, metrics: SplitMetrics, columns: Columns | None) -> Markup:
    still = Markup(f'<div class="still-errors">{error_list(metrics.mistakes[:_MOST_STILL])}</div>')
    return still if columns is None else join(explorer(name, metrics, columns), still)


def teacher_section(name: str, gap: TeacherGap) -> Markup:
    """Student and teacher side by side."""
    return join(
        table(
            f"{_TEACHER} on {name}",
            GAP_HEAD,
            gap_rows(gap.splits[name], headline_titles()),
            hide_caption=True,
        ),
        *(paragraph(remark, "faint") for remark in gap_remarks(gap, name)),
    )


def headline_table(name: str, metrics: SplitMetrics, baselines: Mapping[str, SplitMetrics]) -> Markup:
    """Every headline metric with its interval, beside those of the baselines."""
    methods = [metrics, *baselines.values()]
    # Left-aligned: every value is 0.xxx, followed by its interval or, on narrow screens, above it.
    return table(
        f"{name}: {metrics.num_flows:,} flows",
        ["metric", "wirebert", *map(baseline_title, baselines)],
        [*metric_rows(methods, with_range), loss_row(methods)],
        text=range(1, 1 + len(methods)),
    )


def class_table(name: str, metrics: SplitMetrics, trees: SplitMetrics | None) -> Markup:
    """Precision, recall, F1 and support of every class."""
    intervals = metrics.intervals.per_class if metrics.intervals else {}
    head = ["class", "flows", "precision", "recall", "F1", *(["F1 of trees"] if trees else []), "accuracy"]
    rows = [
        [
            label,
            f"{own.support:,}",
            *(
                with_range(
                    f"{getattr(own, name):.3f}",
                    interval(intervals[label][name]) if label in intervals else "",
                )
                for name in ("precision", "recall", "f1")
            ),
            *([f1_of(trees, label)] if trees else []),
            f"{own.accuracy:.3f}",
        ]
        for label, own in metrics.per_class.items()
    ]
    return table(f"Classes of {name}, one against the rest", head, rows)


def alert_table(name: str, metrics: SplitMetrics) -> Markup:
    """Detection rate, precision and number of alerts at the thresholds of each target false positive rate."""
    origin = metrics.thresholds_from
    scores = (
        "the attack score" if metrics.alert_score == "attack" else "the attack score and novelty combined"
    )
    source = (
        f"Thresholds of {scores}, fitted on the benign flows of {origin}."
        if origin
        else f"Thresholds of {scores}, fitted on the same flows of {name}: the best result that is possible "
        "here."
    )
    note = (
        "Test files contain a far larger fraction of attacks than real traffic, so precision and alerts are "
        "also given for "
        "traffic with few attacks. A dash: no false positives here, so this file is too small to estimate "
        "the value."
    )
    points, has_best = metrics.operating_points, origin is not None and metrics.binary is not None
    best = metrics.binary.tpr_at_fpr if has_best and metrics.binary is not None else {}
    rows = {
        "threshold": [f"{point.threshold:.6g}" for point in points],
        "measured FPR": [with_range(_percent(point.fpr, 3), _fpr_ends(point)) for point in points],
        "detection rate (TPR)": [_percent(point.tpr, 1) for point in points],
    }
    if has_best:
        keys = [np.format_float_positional(point.target_fpr) for point in points]
        rows["TPR at the best threshold for this file"] = [_percent(best.get(key), 1) for key in keys]
    rows["precision"] = [_percent(point.precision, 1) for point in points]
    rows["alerts per 10,000 flows"] = [f"{point.alerts_per_10000:,.1f}" for point in points]
    for key, prevalence in _PREVALENCES.items():
        precisions = [_percent(point.precision_at_prevalence.get(key), 1) for point in points]
        rows[f"precision if {prevalence} of the flows are attacks"] = precisions
    for key, prevalence in _PREVALENCES.items():
        alerts = [_alerts(point, float(key)) for point in points]
        rows[f"alerts per 10,000 flows if {prevalence} are attacks"] = alerts
    head = ("target FPR", *(f"{100 * point.target_fpr:.4g} %" for point in points))
    listed = [(title, *cells) for title, cells in rows.items()]
    caption = f"Alert thresholds on {name}"
    return join(paragraph(source), table(caption, head, listed, hide_caption=True), paragraph(note, "faint"))


def error_list(errors: Sequence[Mistake]) -> Markup:
    """Each misclassified flow; the features with the most evidence for the predicted class come first."""
    note = "Misclassified flows with the highest predicted probability; similar flows are shown once."
    shown = [_error(error, is_open=index < _OPEN_ERRORS) for index, error in enumerate(errors)]
    return join(paragraph(note, "faint"), Markup(f'<div class="errors">{join(*shown)}</div>'))


def _fpr_ends(point: ThresholdMetrics) -> str:
    ends = point.fpr_interval
    return "" if ends is None else f"[{_percent(ends[0], 3)}, {_percent(ends[1], 3)}]"


def _alerts(point: ThresholdMetrics, prevalence: float) -> str:
    """Alerts per 10,000 flows of traffic with this fraction of attacks."""
    if point.tpr is None or not point.fpr:
        return "-"
    return f"{10_000 * (prevalence * point.tpr + (1 - prevalence) * point.fpr):,.1f}"


def _percent(fraction: float | None, digits: int) -> str:
    return "-" if fraction is None else f"{100 * fraction:.{digits}f} %"


def _error(error: Mistake, *, is_open: bool) -> Markup:
    drops = {name: drop for name, drop in error.top_features.items() if drop > 0}
    highest = max(drops.values(), default=0.0)
    pairs = [
        _pair(column, value, (drops.get(column, 0.0) / highest) ** 0.5 if highest else 0.0)
        for column, value in sorted(error.flow.items(), key=lambda item: -drops.get(item[0], 0.0))
    ]
    label = f", label {error.label}" if error.label != error.true_class else ""
    summary = Markup(
        f"<b>{escape(error.true_class)}</b> classified as <b>{escape(error.predicted_class)}</b> "
        f'<span class="range">probability {_percent(error.probability, 2)}, row '
        f"{error.row:,}{escape(label)}</span>"
    )
    evidence = ""
    if drops:
        listed = ", ".join(f"{name} {drop:.2f}" for name, drop in drops.items())
        evidence = paragraph(f"Main evidence (drop in log-odds when removed): {listed}.", "faint")
    return disclosure(
        summary, join(evidence, Markup(f'<dl class="pairs">{join(*pairs)}</dl>')), is_open=is_open
    )


def _pair(column: str, value: str, strength: float) -> Markup:
    shade = f' style="--strength: {strength:.2f}"' if strength else ""
    return Markup(f"<div{shade}><dt>{escape(column)}</dt><dd>{escape(value)}</dd></div>")
