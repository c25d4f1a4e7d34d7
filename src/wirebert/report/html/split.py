"""The part of the report page that is about one evaluated split."""

from collections.abc import Mapping, Sequence

import numpy as np

from wirebert.metrics.registry import headline_titles
from wirebert.metrics.split_metrics import Mistake, SplitMetrics
from wirebert.metrics.student_gap import GAP_HEAD, TeacherGap, gap_remarks, gap_rows
from wirebert.metrics.thresholds import ThresholdMetrics
from wirebert.report.html.parts import (
    Markup,
    charts,
    disclosure,
    heading,
    join,
    markup,
    paragraph,
    table,
    with_range,
)
from wirebert.report.report import TREES
from wirebert.report.terminal import interval, metric_title, split_remarks, tpr_rows

_PREVALENCES = {"0.01": "1%", "0.001": "0.1%"}
"""Key of `ThresholdMetrics.precision_at_prevalence` -> how a reader would write it."""

_OPEN_MISTAKES = 3
_TEACHER = "Student and teacher"


def split_section(
    name: str,
    metrics: SplitMetrics,
    rivals: Mapping[str, SplitMetrics],
    figures: Mapping[str, Markup],
    taught: TeacherGap | None = None,
) -> Markup:
    """Figures, classes, scores, alarms and mistakes of one split.

    Args:
        rivals: Baseline -> its metrics of this split.
        figures: Kind of chart -> the chart, as `run_charts.split_charts` names them.
        taught: How far the model is from its teacher, if it had one.
    """
    classes = [figures[kind] for kind in ("f1", "confusion") if kind in figures]
    curves = [
        figures[kind] for kind in ("roc", "precision_recall", "scores", "calibration") if kind in figures
    ]
    parts = [
        headline_table(name, metrics, rivals),
        *(paragraph(remark, "faint") for remark in split_remarks(metrics)),
        heading("Classes"),
        charts(classes),
        class_table(name, metrics, rivals.get(TREES)),
        *([] if taught is None else [heading(_TEACHER), teacher_part(name, taught)]),
        *([heading("Scores and probabilities"), charts(curves)] if curves else []),
        *([heading("Alarms"), alarms(name, metrics)] if metrics.operating_points else []),
        *([heading("The surest mistakes"), mistakes(metrics.mistakes)] if metrics.mistakes else []),
    ]
    return join(*parts)


def teacher_part(name: str, gap: TeacherGap) -> Markup:
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


def headline_table(name: str, metrics: SplitMetrics, rivals: Mapping[str, SplitMetrics]) -> Markup:
    """Every headline figure with its interval, beside the baseline's."""
    columns = [_headline(shown) | tpr_rows(shown) for shown in (metrics, *rivals.values())]
    rows = [[metric_title(figure), *(column.get(figure, "-") for column in columns)] for figure in columns[0]]
    losses = [shown.loss for shown in (metrics, *rivals.values())]
    rows.append(["loss (nats)", *("-" if loss is None else f"{loss:.3f}" for loss in losses)])
    # Left-aligned: every figure is 0.xxx, and the intervals stand behind or, on narrow screens, below.
    text = range(1, len(columns) + 1)
    return table(f"{name}: {metrics.num_flows:,} flows", ["figure", "wirebert", *rivals], rows, text=text)


def class_table(name: str, metrics: SplitMetrics, trees: SplitMetrics | None) -> Markup:
    """Precision, recall, F1 and support of every class."""
    intervals = metrics.intervals.per_class if metrics.intervals else {}
    head = ["class", "flows", "precision", "recall", "F1", *(["trees' F1"] if trees else []), "accuracy"]
    rows = [
        [
            label,
            f"{own.support:,}",
            *(
                with_range(f"{getattr(own, figure):.3f}", interval(intervals[label][figure]) if label in intervals else "")
                for figure in ("precision", "recall", "f1")
            ),
            *([f"{trees.per_class[label].f1:.3f}" if label in trees.per_class else "-"] if trees else []),
            f"{own.accuracy:.3f}",
        ]
        for label, own in metrics.per_class.items()
    ]  # fmt: skip
    return table(f"Each class of {name} against the rest; accuracy is one-against-rest", head, rows)


def alarms(name: str, metrics: SplitMetrics) -> Markup:
    """What thresholds that aim at few false alarms find, and what they ask of the people who look at alarms."""
    origin = metrics.thresholds_from
    scores = (
        "the attack score" if metrics.alert_score == "attack" else "the attack score and the novelty joined"
    )
    told = (
        f"Thresholds of {scores}, fitted on the benign flows of {origin} and judged here."
        if origin
        else f"Thresholds of {scores}, fitted on these very flows of {name}: the best that could be reached here."
    )
    why = (
        "Test files hold far more attacks than a network does, so precision and alerts are restated for traffic with few. "
        "A dash: no false alarm was seen, so this file is too small to tell."
    )
    head = (
        "false positive rate aimed at",
        *(f"{100 * point.target_fpr:.4g}%" for point in metrics.operating_points),
    )
    rows = list(zip(*(_alarm_column(point, metrics) for point in metrics.operating_points), strict=True))
    names = [
        "threshold",
        "false positive rate here",
        "attacks found",
        *(["attacks found by the best threshold for this file"] if origin and metrics.binary else []),
        "precision here",
        "alerts in 10,000 flows here",
        *(f"precision where {share} of the flows are attacks" for share in _PREVALENCES.values()),
        *(f"alerts in 10,000 flows where {share} are attacks" for share in _PREVALENCES.values()),
    ]
    told_rows = [(name, *row) for name, row in zip(names, rows, strict=True)]
    caption = f"Alarms on {name}"
    return join(paragraph(told), table(caption, head, told_rows, hide_caption=True), paragraph(why, "faint"))


def mistakes(found: Sequence[Mistake]) -> Markup:
    """Each mistake with its flow; what the verdict leaned on comes first."""
    note = "Flows with a wrong verdict that the model was surest of; alike ones are shown once."
    shown = [_mistake(mistake, is_open=place < _OPEN_MISTAKES) for place, mistake in enumerate(found)]
    return join(paragraph(note, "faint"), Markup(f'<div class="mistakes">{join(*shown)}</div>'))


def _headline(metrics: SplitMetrics) -> dict[str, str]:
    cells: dict[str, str] = {}
    for key, value in metrics.headline.items():
        ends = interval(metrics.intervals.rows[key]) if metrics.intervals else ""
        cells[key] = with_range(f"{value:.3f}", ends)
    return cells


def _alarm_column(point: ThresholdMetrics, metrics: SplitMetrics) -> list[str]:
    here = f"[{point.fpr_interval[0]:.3%}, {point.fpr_interval[1]:.3%}]" if point.fpr_interval else ""
    best: list[str] = []
    if metrics.thresholds_from is not None and metrics.binary is not None:
        key = np.format_float_positional(point.target_fpr)
        best = [_percent(metrics.binary.tpr_at_fpr.get(key), 1)]
    return [
        f"{point.threshold:.6g}",
        with_range(_percent(point.fpr, 3), here),
        _percent(point.tpr, 1),
        *best,
        _percent(point.precision, 1),
        f"{point.alerts_per_10000:,.1f}",
        *(_percent(point.precision_at_prevalence.get(key), 1) for key in _PREVALENCES),
        *(_alerts(point, float(key)) for key in _PREVALENCES),
    ]


def _alerts(point: ThresholdMetrics, prevalence: float) -> str:
    """Alerts in 10,000 flows of traffic with this share of attacks."""
    if point.tpr is None or not point.fpr:
        return "-"
    return f"{10_000 * (prevalence * point.tpr + (1 - prevalence) * point.fpr):,.1f}"


def _percent(share: float | None, digits: int) -> str:
    return "-" if share is None else f"{share:.{digits}%}"


def _mistake(mistake: Mistake, *, is_open: bool) -> Markup:
    carried = {name: share for name, share in mistake.top_features.items() if share > 0}
    highest = max(carried.values(), default=0.0)
    pairs = [
        _pair(column, value, (carried.get(column, 0.0) / highest) ** 0.5 if highest else 0.0)
        for column, value in sorted(mistake.flow.items(), key=lambda item: -carried.get(item[0], 0.0))
    ]
    label = f", labelled {mistake.label}" if mistake.label != mistake.true_class else ""
    summary = Markup(
        f"<b>{markup(mistake.true_class)}</b> taken for <b>{markup(mistake.predicted_class)}</b> "
        f'<span class="range">{mistake.probability:.2%} sure, row {mistake.row:,}{markup(label)}</span>'
    )
    led = ""
    if carried:
        named = ", ".join(f"{name} {fall:.2f}" for name, fall in carried.items())
        led = paragraph(f"Carried by {named} (fall of the verdict's log-odds without it, nats).", "faint")
    return disclosure(summary, join(led, Markup(f'<dl class="pairs">{join(*pairs)}</dl>')), is_open=is_open)


def _pair(column: str, value: str, strength: float) -> Markup:
    shade = f' style="--strength: {strength:.2f}"' if strength else ""
    return Markup(f"<div{shade}><dt>{markup(column)}</dt><dd>{markup(value)}</dd></div>")
