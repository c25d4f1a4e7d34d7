"""Charts as Vega-Lite specifications (plain dictionaries), and their rendering to SVG and PNG without a network.

One specification serves every output. Colours are chosen to read on white and on dark; text and rules use the three
`INK` colours, which the page restyles in dark mode.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import vl_convert
from jaxtyping import Float64

from wirebert.evaluation.history import Curve, History
from wirebert.evaluation.metrics import SplitMetrics

Spec = dict[str, object]
"""A Vega-Lite specification."""

INK, FAINT_INK, RULE = "#1b1f24", "#57606a", "#d8dee4"
ACCENT, SECOND, THIRD = "#2f6fde", "#c9600c", "#8a929b"

WIDTH, HEIGHT = 400, 210
"""Inner size of a line chart in pixels: two fit side by side on a desk, one on a telephone without shrinking much."""

_SMALL_MATRIX = 12
"""Up to this many classes the confusion matrix has large cells."""

_FEW_POINTS = 40
"""Up to this many points of a curve are marked one by one."""

_BARE: Spec = {"labelColor": INK, "domain": False, "ticks": False}

_THEME: Spec = {
    "aria": False,  # a description per mark would make up most of the file; the page describes a chart as a whole
    "background": "transparent",
    "font": "Helvetica Neue, Helvetica, Arial, sans-serif",
    "padding": 8,
    "title": {
        "anchor": "start", "color": INK, "fontSize": 14, "fontWeight": 600, "offset": 10,
        "subtitleColor": FAINT_INK, "subtitleFontSize": 12, "subtitlePadding": 4,
    },
    "axis": {
        "labelColor": FAINT_INK, "titleColor": FAINT_INK, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": RULE, "domainColor": RULE, "tickColor": RULE, "labelLimit": 220,
    },
    "legend": {
        "orient": "top", "direction": "horizontal", "title": None, "labelColor": INK, "labelFontSize": 12,
        "symbolStrokeWidth": 3, "offset": 4,
    },
    "view": {"stroke": None},
}  # fmt: skip


def charts(
    splits: Mapping[str, SplitMetrics],
    history: History | None = None,
    trees: Mapping[str, SplitMetrics] | None = None,
) -> dict[str, Spec]:
    """Every chart of a run by file name: those of the training, then two for each evaluated split.

    Args:
        trees: The baseline's metrics of the same splits, to stand beside the model's.
    """
    specs: dict[str, Spec] = {}
    if history is not None:
        specs |= {
            "loss": loss(history),
            "quality": quality(history),
            "learning_rates": learning_rates(history),
        }
    for name, metrics in splits.items():
        specs[f"confusion_{name}"] = confusion(metrics, f"Confusion on {name}")
        specs[f"f1_{name}"] = class_f1(metrics, f"F1 per class on {name}", (trees or {}).get(name))
    return specs


def loss(history: History) -> Spec:
    """Training and validation loss over steps."""
    values = np.concatenate([history.train_loss.values, history.valid_loss.values])
    positive = values[values > 0]
    # Losses fall by orders of magnitude; on a linear scale the end of training would be one flat line.
    wide = len(positive) > 0 and len(positive) == len(values) and positive.max() > 30 * positive.min()
    spec = _lines("Loss", "cross-entropy, nats", [history.train_loss, history.valid_loss], log=bool(wide))
    return _with_best_step(spec, history.best_step)


def quality(history: History) -> Spec:
    """Accuracy and macro F1 on the validation flows over steps."""
    spec = _lines("Validation", "share", [history.valid_accuracy, history.valid_macro_f1], log=False)
    return _with_best_step(spec, history.best_step)


def learning_rates(history: History) -> Spec:
    """Both learning rates over steps, on a scale that shows the small one too."""
    curves = [_above(curve, 1e-2) for curve in (history.backbone_rate, history.classifier_rate)]
    return _lines("Learning rates", "learning rate", curves, log=True)


def confusion(metrics: SplitMetrics, title: str) -> Spec:
    """Counts as text, shaded by the share of the true class."""
    labels = metrics.confusion.labels
    matrix = np.array(metrics.confusion.matrix, dtype=np.int64).reshape(len(labels), len(labels))
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    cells = [
        {
            "true": true,
            "predicted": predicted,
            "text": _count(int(matrix[i, j])),
            "share": round(float(shares[i, j]), 4),
            "right": i == j,
        }
        for i, true in enumerate(labels)
        for j, predicted in enumerate(labels)
    ]
    small = len(labels) <= _SMALL_MATRIX
    step = min(64, max(46, 330 // max(1, len(labels)))) if small else 24
    level = small and max(map(len, labels)) * len(labels) <= 50
    x_axis: Spec = {"labelAngle": 0 if level else -90, "domain": False, "ticks": False, "labelPadding": 6}
    shade: Spec = {"domain": [0, 1], "range": [0.05, 1]}
    cell: Spec = {
        "mark": {"type": "rect", "cornerRadius": 3, "width": {"band": 0.96}, "height": {"band": 0.94}},
        "encoding": {
            "color": {"condition": {"test": "datum.right", "value": ACCENT}, "value": SECOND},
            "opacity": {"field": "share", "type": "quantitative", "scale": shade, "legend": None},
        },
    }
    # White reads better than ink only on nearly full shades.
    ink: Spec = {"condition": {"test": "datum.share > 0.9", "value": "#ffffff"}, "value": INK}
    number: Spec = {
        "mark": {"type": "text", "fontSize": 12 if small else 8},
        "encoding": {"text": {"field": "text"}, "color": ink},
    }
    return _chart(
        [title, "Flows; shade: share of the true class; blue right, orange wrong"],
        {
            "data": {"values": cells},
            "width": {"step": step},
            "height": {"step": min(step, 44)},
            "encoding": {
                "x": {
                    "field": "predicted",
                    "type": "nominal",
                    "sort": None,
                    "title": "predicted",
                    "axis": x_axis,
                },
                "y": {"field": "true", "type": "nominal", "sort": None, "title": "true", "axis": _BARE},
            },
            "layer": [cell, number],
        },
    )


def class_f1(metrics: SplitMetrics, title: str, trees: SplitMetrics | None = None) -> Spec:
    """F1 of every class as bars, with its interval, its support, and what the baseline reaches."""
    intervals = metrics.intervals.per_class if metrics.intervals else {}
    rows: list[Spec] = []
    for label, figures in metrics.per_class.items():
        low, high = intervals[label]["f1"] if label in intervals else (figures.f1, figures.f1)
        row: Spec = {"label": f"{label} ({figures.support:,})", "f1": figures.f1, "low": low, "high": high}
        if trees is not None and label in trees.per_class:
            row["trees"] = trees.per_class[label].f1
        rows.append(row | {"text": f"{figures.f1:.3f}"})
    axis: Spec = {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f"}
    x: Spec = {"type": "quantitative", "scale": {"domain": [0, 1]}, "title": "F1", "axis": axis}
    bar: Spec = {
        "mark": {"type": "bar", "color": ACCENT, "cornerRadiusEnd": 3, "height": {"band": 0.66}},
        "encoding": {"x": {"field": "f1", **x}},
    }
    spread: Spec = {
        "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
        "encoding": {"x": {"field": "low", **x}, "x2": {"field": "high"}},
    }
    rival: Spec = {
        "mark": {"type": "tick", "color": SECOND, "thickness": 3, "opacity": 1, "height": {"band": 0.9}},
        "transform": [{"filter": "isValid(datum.trees)"}],
        "encoding": {"x": {"field": "trees", **x}},
    }
    # The figures stand in a column of their own, right of the plot, where no bar or interval can cross them.
    text: Spec = {
        "mark": {"type": "text", "align": "left", "color": INK, "fontSize": 12},
        "encoding": {"x": {"value": 288}, "text": {"field": "text"}},
    }
    level = f"; thin line: {metrics.intervals.level:.0%} interval" if metrics.intervals else ""
    note = f"Flows in brackets{level}{'; orange: boosted trees' if trees else ''}"
    return _chart(
        [title, note],
        {
            "data": {"values": rows},
            "width": 280,
            "height": {"step": 28 if len(rows) <= _SMALL_MATRIX else 20},
            "encoding": {
                "y": {"field": "label", "type": "nominal", "sort": None, "title": None, "axis": _BARE}
            },
            "layer": [bar, spread, rival, text],
        },
    )


def to_svg(spec: Spec) -> str:
    """The chart as SVG text."""
    return vl_convert.vegalite_to_svg(spec, show_warnings=False)


def write_charts(specs: Mapping[str, Spec], folder: Path) -> None:
    """Each chart as `<name>.svg` and `<name>.png` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, spec in specs.items():
        (folder / f"{name}.svg").write_text(to_svg(spec), encoding="utf-8")
        picture = vl_convert.vegalite_to_png({**spec, "background": "white"}, scale=2, show_warnings=False)
        (folder / f"{name}.png").write_bytes(picture)


def _chart(title: list[str], body: Spec) -> Spec:
    heading: Spec = {"text": title[0]}
    if len(title) > 1:
        heading["subtitle"] = title[1]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": heading,
        "config": _THEME,
        **body,
    }


def _lines(title: str, unit: str, curves: list[Curve], *, log: bool) -> Spec:
    names = [curve.name for curve in curves]
    colour: Spec = {
        "field": "curve", "type": "nominal", "scale": {"domain": names, "range": [ACCENT, SECOND]},
        "legend": {"symbolType": "stroke", "symbolOpacity": 1},
    }  # fmt: skip
    x: Spec = {
        "field": "step", "type": "quantitative", "title": "optimizer step", "scale": {"nice": False, "zero": False},
        "axis": {"grid": False, "tickCount": 5, "format": ",d", "tickMinStep": 1, "labelFlush": True},
    }  # fmt: skip
    y: Spec = {"type": "quantitative", "title": unit, **_scale(curves, log=log)}
    layers: list[Spec] = []
    for curve in curves:
        band = curve.band()
        if band is not None:
            low, high = band.low, band.high
            area = {"type": "area", "opacity": 0.25, "line": False}
            values = _points(curve.name, band.steps, value=low, high=high)
            encoding = {"x": x, "y": {"field": "value", **y}, "y2": {"field": "high"}, "color": colour}
            layers.append({"data": {"values": values}, "mark": area, "encoding": encoding})
        line = Curve(curve.name, band.steps, band.mean) if band else curve
        few = len(line.steps) <= _FEW_POINTS
        mark = {"type": "line", "strokeWidth": 2, "point": {"size": 40, "opacity": 1} if few else False}
        encoding = {"x": x, "y": {"field": "value", **y}, "color": colour}
        values = _points(curve.name, line.steps, value=line.values)
        layers.append({"data": {"values": values}, "mark": mark, "encoding": encoding})
    return _chart([title], {"width": WIDTH, "height": HEIGHT, "layer": layers})


def _points(curve: str, steps: Float64[np.ndarray, " n"], **fields: Float64[np.ndarray, " n"]) -> list[Spec]:
    columns = {"step": steps.tolist(), **{name: values.tolist() for name, values in fields.items()}}
    return [
        {"curve": curve, **dict(zip(columns, row, strict=True))}
        for row in zip(*columns.values(), strict=True)
    ]


def _scale(curves: list[Curve], *, log: bool) -> Spec:
    """Scale and axis for these curves; a logarithmic one has few, round ticks."""
    values = np.concatenate([curve.values for curve in curves])
    if not log or not len(values):
        return {"scale": {"zero": False}, "axis": {"tickCount": 5, "format": "~g"}}
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1,) if len(decades) > 3 else (1, 2, 5)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    # In decimal notation where that is short, so that a loss reads 0.05 and a learning rate 3e-5.
    notation = "~g" if low >= 1e-3 else "~e"
    inside = [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2] or [low]
    return {
        "scale": {"type": "log", "domain": [low / 1.2, high * 1.2], "nice": False},
        "axis": {"values": inside, "format": notation},
    }


def _with_best_step(spec: Spec, best_step: int | None) -> Spec:
    if best_step is None:
        return spec
    rule: Spec = {
        "data": {"values": [{"step": best_step}]},
        "mark": {"type": "rule", "color": THIRD, "strokeDash": [4, 3]},
        "encoding": {"x": {"field": "step", "type": "quantitative"}},
    }
    title = {**cast(Spec, spec["title"]), "subtitle": f"Dashed: step {best_step:,}, the model that was kept"}
    return spec | {"title": title, "layer": [rule, *cast(list[Spec], spec["layer"])]}


def _above(curve: Curve, share_of_highest: float) -> Curve:
    """Without the ends of warm-up and decay, where a logarithm runs off to nowhere."""
    if not len(curve.values):
        return curve
    kept = (curve.values > 0) & (curve.values >= curve.values.max() * share_of_highest)
    return Curve(curve.name, curve.steps[kept], curve.values[kept])


def _count(number: int) -> str:
    """Short enough for a cell: nothing, 950, 9,500, 95k, 9.5M."""
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f}M" if number < 10_000_000 else f"{number / 1_000_000:.0f}M"
    if number >= 10_000:
        return f"{number / 1000:.0f}k"
    return f"{number:,}" if number else ""
