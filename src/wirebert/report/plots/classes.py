"""Charts of the classes of a split: confusion matrix, metrics per class and class distribution."""

from collections.abc import Sequence

import numpy as np

from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.plots.chart import (
    ACCENT,
    BARE,
    FEW_CLASSES,
    INK,
    SECOND,
    Chart,
    Spec,
    Switch,
    bars,
    beside_bars,
    names,
    short_count,
    specification,
    ticks,
)
from wirebert.shapes import Float64

METRICS = {"f1": "F1", "precision": "precision", "recall": "recall"}
"""Field of `ClassMetrics` -> its title."""

_LETTER = 8
"""Mean width of a letter of a label in a wide font, in pixels."""

_SHADES = {
    "counts": "flows",
    "row": "% of true class",
    "column": "% of predicted class",
}


def confusion(metrics: SplitMetrics, title: str) -> Chart:
    """Confusion matrix: counts or percentages of the true or predicted class, by switch."""
    labels = metrics.confusion.labels
    matrix = np.array(metrics.confusion.matrix, dtype=np.int64).reshape(len(labels), len(labels))
    of_row = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    of_column = matrix / np.maximum(matrix.sum(axis=0, keepdims=True), 1)
    small = len(labels) <= FEW_CLASSES
    step = min(64, max(46, 330 // max(1, len(labels)))) if small else 28
    level = small and max(map(len, labels), default=0) * _LETTER <= step
    switch = Switch("shown", "Cells", _SHADES)
    # With many classes most cells are empty; they are left out, and grid lines guide the eye instead.
    cells = [
        cell
        for cell in _cells(labels, matrix.tolist(), of_row, of_column)
        if small or cell["flows"] or cell["right"]
    ]
    place: Spec = {"type": "nominal", "sort": None, "scale": {"domain": list(labels)}}
    lines: Spec = {"grid": not small, "gridOpacity": 0.5, "tickBand": "extent"}
    below: Spec = {"labelAngle": 0 if level else -90, "domain": False, "ticks": False, "labelPadding": 6}
    x: Spec = {"field": "predicted", "title": "predicted", **place, "axis": below | lines}
    y: Spec = {"field": "true", "title": "true", **place, "axis": BARE | lines}
    body: Spec = {
        "data": {"values": cells},
        "params": [switch.to_spec()],
        "transform": [
            {"calculate": "shown == 'column' ? datum.column : datum.row", "as": "share"},
            {"calculate": "shown == 'counts' ? datum.text : datum.flows ? format(datum.share, '.0%') : "
                "''", "as": "label"},
        ],
        "width": {"step": step},
        "height": {"step": min(step, 44)},
        "encoding": {"x": x, "y": y},
        "layer": [_shade(small=small), _cell_label(small=small)],
    }  # fmt: skip
    note = "Shade: fraction of the true or predicted class; blue: correct, orange: wrong"
    return Chart(
        spec=specification(title, note, body),
        words=f"{title}: {_largest_confusions(labels, matrix.tolist())}.",
        head=("true \\ predicted", *labels),
        rows=tuple(
            (label, *(f"{count:,}" for count in row))
            for label, row in zip(labels, matrix.tolist(), strict=True)
        ),
        switches=(switch,),
        size="wide" if len(labels) > FEW_CLASSES else "cells",
    )


def class_metrics(metrics: SplitMetrics, title: str, trees: SplitMetrics | None = None) -> Chart:
    """F1, precision or recall of every class as bars, with interval, number of flows and the baseline."""
    switch = Switch("metric", "Metric", METRICS)
    axis: Spec = {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f"}
    x: Spec = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": None, "axis": axis}
    tooltip: list[Spec] = [
        {"field": "label", "title": "class"},
        {"field": "name", "title": "metric"},
        {"field": "value", "title": "wirebert", "format": ".3f"},
        *([{"field": "trees", "title": "boosted trees", "format": ".3f"}] if trees else []),
        {"field": "flows", "title": "flows", "format": ","},
    ]
    spread: Spec = {
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
        "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
    }
    value = beside_bars({"field": "value", "format": ".3f"})
    level = f"; thin line: {100 * metrics.intervals.level:.0f} % CI" if metrics.intervals else ""
    note = f"Flows in brackets{level}{'; orange: boosted trees' if trees else ''}"
    body: Spec = {
        "data": {"values": _bars(metrics, trees)},
        "params": [switch.to_spec()],
        "transform": [{"filter": "datum.metric == metric"}],
        "width": 280,
        "height": {"step": 28 if len(metrics.per_class) <= FEW_CLASSES else 20},
        "encoding": {"y": names("label")},
        "layer": [bars(x, "value", tooltip), spread, ticks(x, "trees"), value],
    }
    return Chart(
        spec=specification(title, note, body),
        words=f"{title}: F1 of each class, {_extremes(metrics)}.",
        switches=(switch,),
    )


def class_shares(shares: dict[str, dict[str, float]], title: str) -> Chart:
    """Class distribution of a split as bars, and of the training flows as ticks.

    Args:
        shares: Split -> class -> fraction; the first split is drawn as bars, the second one as ticks.
    """
    first, *others = shares
    rows: list[Spec] = []
    for name in dict.fromkeys(name for split in shares.values() for name in split):
        values = {f"s{place}": split.get(name, 0.0) for place, split in enumerate(shares.values())}
        rows.append({"label": name, "text": f"{values['s0']:.2%}", **values})
    # On a square-root scale a class with one flow in ten thousand is still visible.
    x: Spec = {
        "type": "quantitative", "title": None, "scale": {"type": "sqrt", "domain": [0, 1]},
        "axis": {"format": ".0~%", "values": [0, 0.01, 0.1, 0.25, 0.5, 1]},
    }  # fmt: skip
    tooltip = [{"field": "label", "title": "class"}] + [
        {"field": f"s{place}", "title": split, "format": ".2%"} for place, split in enumerate(shares)
    ]
    layers = [bars(x, "s0", tooltip), beside_bars({"field": "text"})]
    layers += [ticks(x, "s1")] if others else []
    body: Spec = {
        "data": {"values": rows},
        "width": 280,
        "height": {"step": 24 if len(rows) <= FEW_CLASSES else 18},
        "encoding": {"y": names("label")},
        "layer": layers,
    }
    listed = ", ".join(f"{name} {share:.1%}" for name, share in list(shares[first].items())[:5])
    note = f"Bars: {first}{f'; orange: {others[0]}' if others else ''}; square-root scale"
    return Chart(spec=specification(title, note, body), words=f"{title}, {first}: {listed}.")


def _cells(
    labels: Sequence[str],
    matrix: list[list[int]],
    of_row: Float64[np.ndarray, "labels labels"],
    of_column: Float64[np.ndarray, "labels labels"],
) -> list[Spec]:
    return [
        {
            "true": true,
            "predicted": predicted,
            "flows": matrix[i][j],
            "text": short_count(matrix[i][j]),
            "row": round(float(of_row[i, j]), 4),
            "column": round(float(of_column[i, j]), 4),
            "right": i == j,
        }
        for i, true in enumerate(labels)
        for j, predicted in enumerate(labels)
    ]


def _shade(*, small: bool) -> Spec:
    shade: Spec = {"domain": [0, 1], "range": [0.05, 1]}
    return {
        "mark": {
            "type": "rect",
            "cornerRadius": 3 if small else 0,
            "width": {"band": 0.96},
            "height": {"band": 0.94},
        },
        "encoding": {
            "color": {"condition": {"test": "datum.right", "value": ACCENT}, "value": SECOND},
            "opacity": {"field": "share", "type": "quantitative", "scale": shade, "legend": None},
            "tooltip": [
                {"field": "true", "title": "true class"},
                {"field": "predicted", "title": "predicted class"},
                {"field": "flows", "title": "flows", "format": ","},
                {"field": "row", "title": "% of true class", "format": ".2%"},
                {"field": "column", "title": "% of predicted class", "format": ".2%"},
            ],
        },
    }


def _cell_label(*, small: bool) -> Spec:
    # White is easier to read than ink on nearly full shades only.
    ink: Spec = {"condition": {"test": "datum.share > 0.9", "value": "#ffffff"}, "value": INK}
    return {
        # Text without a tooltip does not hide the tooltip of its cell.
        "mark": {"type": "text", "fontSize": 12 if small else 11, "tooltip": None},
        "transform": [{"filter": "datum.flows > 0"}],
        "encoding": {"text": {"field": "label"}, "color": ink},
    }


def _bars(metrics: SplitMetrics, trees: SplitMetrics | None) -> list[Spec]:
    intervals = metrics.intervals.per_class if metrics.intervals else {}
    rows: list[Spec] = []
    for metric, name in METRICS.items():
        for label, own in metrics.per_class.items():
            value = float(getattr(own, metric))
            low, high = intervals[label][metric] if label in intervals else (value, value)
            row: Spec = {
                "metric": metric, "name": name, "label": f"{label} ({own.support:,})", "flows": own.support,
                "value": round(value, 4), "low": round(low, 4), "high": round(high, 4),
            }  # fmt: skip
            if trees is not None and label in trees.per_class:
                row["trees"] = round(float(getattr(trees.per_class[label], metric)), 4)
            rows.append(row)
    return rows


def _largest_confusions(labels: Sequence[str], matrix: list[list[int]]) -> str:
    wrong = [
        (count, true, predicted)
        for true, row in zip(labels, matrix, strict=True)
        for predicted, count in zip(labels, row, strict=True)
        if count and true != predicted
    ]
    if not wrong:
        return "no flow is misclassified"
    listed = [
        f"{count:,} of {true} as {predicted}" for count, true, predicted in sorted(wrong, reverse=True)[:3]
    ]
    return "the most frequent confusions are " + ", ".join(listed)


def _extremes(metrics: SplitMetrics) -> str:
    present = {name: own.f1 for name, own in metrics.per_class.items() if own.support}
    if not present:
        return "no class has flows"
    best, worst = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    return f"from {present[worst]:.3f} ({worst}) to {present[best]:.3f} ({best})"
