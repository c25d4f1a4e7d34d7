"""Curves over steps or time; a long curve is drawn as its mean in a band from minimum to maximum."""

import math
from collections.abc import Sequence

import numpy as np

from wirebert.report.plots.chart import (
    HEIGHT,
    PALETTE,
    THIRD,
    WIDTH,
    Chart,
    Spec,
    nearest,
    specification,
    zoom,
)
from wirebert.shapes import Float64
from wirebert.telemetry.history import Curve

STEPS = "optimizer step"
"""Title of the x axis of most curves."""

_FEW_POINTS = 40
"""Up to this many points of a curve have markers."""

_DIGITS = 6
"""Significant digits of a drawn value; more would only enlarge the file."""


def line_chart(
    title: str,
    unit: str,
    curves: Sequence[Curve],
    *,
    log: bool = False,
    along: str = STEPS,
    from_zero: bool = False,
    marked: tuple[float, str] | None = None,
    num_points: int = 300,
) -> Chart:
    """Curves in one plot; curves of one name share a colour.

    Args:
        log: Draw on a logarithmic axis; values must then be positive.
        marked: Position of a dashed line on the x axis, and its description.
        num_points: Longer curves are drawn in this many segments with their extremes.
    """
    x: Spec = {
        "field": "at", "type": "quantitative", "title": along,
        "scale": {"nice": False, "zero": False, "padding": 6},
        "axis": {"grid": False, "tickCount": 5, "format": ",~r" if along != STEPS else ",d",
                 "labelFlush": True, **({"tickMinStep": 1} if along == STEPS else {})},
    }  # fmt: skip
    y: Spec = {"type": "quantitative", "title": unit, **_scale(curves, log=log, from_zero=from_zero)}
    names = list(dict.fromkeys(curve.name for curve in curves))
    colour: Spec = {
        "field": "curve", "type": "nominal", "scale": {"domain": names, "range": list(PALETTE)},
        "legend": {"symbolType": "stroke", "symbolOpacity": 1} if len(names) > 1 else None,
    }  # fmt: skip
    layers = [] if marked is None else [_mark(marked[0])]
    drawn: list[Spec] = []
    for curve in curves:
        layer, points = _layers(curve, x, y, colour, num_points)
        layers += layer
        drawn += points
    tooltip: list[Spec] = [
        {"field": "curve", "title": " "},
        {"field": "at", "title": along, "format": ",.4~r" if along != STEPS else ",.0f"},
        {"field": "value", "title": unit, "format": ".4~g"},
    ]
    hover = nearest({"x": x, "y": {"field": "value", **y}, "color": colour}, tooltip)
    layers.append({"data": {"values": drawn}, **hover})
    layers[0] = {**layers[0], "params": [zoom("x")]}
    body: Spec = {"width": WIDTH, "height": HEIGHT, "layer": layers}
    return Chart(
        spec=specification(title, None if marked is None else f"Dashed: {marked[1]}", body),
        words=f"{title} along {along}: " + "; ".join(map(_describe, curves)) + ".",
        head=("curve", "points", "first", "lowest", "mean", "highest", "last"),
        rows=tuple(_summary(curve) for curve in curves),
    )


def above(curve: Curve, fraction_of_highest: float) -> Curve:
    """The curve without the ends of warm-up and decay, which a logarithmic scale would stretch."""
    if not len(curve.values):
        return curve
    selected = (curve.values > 0) & (curve.values >= curve.values.max() * fraction_of_highest)
    return Curve(curve.name, curve.at[selected], curve.values[selected])


def spans_magnitudes(*curves: Curve) -> bool:
    """Whether the end of these curves would be a flat line on a linear axis."""
    values = np.concatenate([curve.values for curve in curves])
    positive = values[values > 0]
    return bool(len(positive) and len(positive) == len(values) and positive.max() > 30 * positive.min())


def _layers(curve: Curve, x: Spec, y: Spec, colour: Spec, num_points: int) -> tuple[list[Spec], list[Spec]]:
    """The layers of the curve, and the points of its line."""
    layers: list[Spec] = []
    band = curve.band(num_points)
    line = curve
    if band is not None:
        line = Curve(curve.name, band.at, band.mean)
        layers.append(
            {
                "data": {"values": _points(curve.name, band.at, value=band.low, high=band.high)},
                "mark": {"type": "area", "opacity": 0.25, "line": False, "clip": True},
                "encoding": {"x": x, "y": {"field": "value", **y}, "y2": {"field": "high"}, "color": colour},
            }
        )
    points = _points(curve.name, line.at, value=line.values)
    dots: object = {"size": 40, "opacity": 1} if len(points) <= _FEW_POINTS else False
    layers.append(
        {
            "data": {"values": points},
            "mark": {"type": "line", "strokeWidth": 2, "point": dots, "clip": True},
            "encoding": {"x": x, "y": {"field": "value", **y}, "color": colour},
        }
    )
    return layers, points


def _points(curve: str, at: Float64[np.ndarray, " n"], **fields: Float64[np.ndarray, " n"]) -> list[Spec]:
    columns = {name: map(_rounded, values.tolist()) for name, values in {"at": at, **fields}.items()}
    return [
        {"curve": curve, **dict(zip(columns, row, strict=True))}
        for row in zip(*columns.values(), strict=True)
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _scale(curves: Sequence[Curve], *, log: bool, from_zero: bool) -> Spec:
    """Scale and axis for these curves; a logarithmic axis has few, round ticks."""
    values = np.concatenate([np.empty(0), *(curve.values for curve in curves)])
    if not log or not len(values):
        form = "~s" if len(values) and values.max() >= 1000 else "~r"
        return {"scale": {"zero": from_zero, "nice": 5}, "axis": {"tickCount": 5, "format": form}}
    low, high = float(values.min()), float(values.max())
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1,) if len(decades) > 3 else (1, 2, 5)
    ticks = [digit * 10.0**decade for decade in decades for digit in digits]
    # Decimal notation where it is short: a loss is shown as 0.05, a learning rate as 3e-5.
    notation = "~g" if low >= 1e-3 else "~e"
    inside = [tick for tick in ticks if low / 1.2 <= tick <= high * 1.2] or [low]
    return {
        "scale": {"type": "log", "domain": [low / 1.2, high * 1.2], "nice": False},
        "axis": {"values": inside, "format": notation},
    }


def _mark(position: float) -> Spec:
    return {
        "data": {"values": [{"at": position}]},
        "mark": {"type": "rule", "color": THIRD, "strokeDash": [4, 3], "clip": True},
        "encoding": {"x": {"field": "at", "type": "quantitative"}},
    }


def _describe(curve: Curve) -> str:
    if not len(curve.values):
        return f"{curve.name} has no values"
    first, last = curve.values[[0, -1]]
    low, high = curve.values.min(), curve.values.max()
    return f"{curve.name} goes from {first:.4g} to {last:.4g}, between {low:.4g} and {high:.4g}"


def _summary(curve: Curve) -> tuple[str, ...]:
    values = curve.values
    if not len(values):
        return (curve.name, "0", "-", "-", "-", "-", "-")
    statistics = (values[0], values.min(), values.mean(), values.max(), values[-1])
    return (curve.name, f"{len(values):,}", *(f"{value:.4g}" for value in statistics))
