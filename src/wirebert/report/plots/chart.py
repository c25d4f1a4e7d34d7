"""A chart: one Vega-Lite specification, and its rendering to SVG and PNG without a network.

The specification (a plain dictionary) serves every output: the page draws the picture first and brings it to life where
scripts run. Colours are chosen to read on white and on dark; text and rules use the three `INK` colours, which the page
restyles in dark mode.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import vl_convert

Spec = dict[str, object]
"""A Vega-Lite specification, or a part of one."""

INK, FAINT_INK, RULE = "#1b1f24", "#57606a", "#d8dee4"
ACCENT, SECOND, THIRD = "#2f6fde", "#c9600c", "#8a929b"
PALETTE = (ACCENT, SECOND, "#1f8f63", "#b4499b", "#8f7420", "#d0435b", "#6b62c9", "#6f7f8f")
"""Colours that can be told apart on white and on dark."""

WIDTH, HEIGHT = 400, 210
"""Inner size of a line chart in pixels: two fit side by side on a desk; the page fits it to narrower screens."""

FEW_CLASSES = 12
"""Up to this many classes have large cells and bars."""

HOVER = "hover"
"""Name of layers that only answer a pointer; pictures do without them."""

_ROOM_FOR_TEXT = 7 / 6
"""Pictures are laid out for text so much larger than they draw it. They are measured in letters as wide as Arial's; a reader's
own font, such as DejaVu Sans or Verdana, may be a sixth wider."""

_SIZES = ("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize", "labelLimit")
_FONT_SIZE = re.compile(r'font-size="([\d.]+)px"')

BARE: Spec = {"labelColor": INK, "domain": False, "ticks": False}

_THEME: Spec = {
    "aria": False,  # a description per mark would make up most of the file; the page describes a chart as a whole
    "background": "transparent",
    "font": "Helvetica Neue, Helvetica, Arial, sans-serif",
    "padding": 8,
    "title": {
        "anchor": "start", "color": INK, "fontSize": 14, "fontWeight": 600, "offset": 10, "frame": "bounds",
        "subtitleColor": FAINT_INK, "subtitleFontSize": 12, "subtitlePadding": 4,
    },
    "axis": {
        "labelColor": FAINT_INK, "titleColor": FAINT_INK, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": RULE, "domainColor": RULE, "tickColor": RULE, "labelLimit": 220,
    },
    "legend": {
        "orient": "top", "direction": "horizontal", "title": None, "labelColor": INK, "labelFontSize": 12,
        "symbolStrokeWidth": 3, "offset": 4, "columns": 3, "labelLimit": 180,
    },
    "view": {"stroke": None},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Switch:
    """A choice that a reader of the page has in a chart: a parameter of its specification."""

    parameter: str
    label: str
    options: Mapping[str, str]
    """Value -> text; the first is what pictures show."""

    def to_spec(self) -> Spec:
        """The entry of `params`."""
        return {"name": self.parameter, "value": next(iter(self.options))}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A picture, and the same for people who can not see it."""

    spec: Spec
    words: str
    """What it shows, in a sentence or two."""
    head: tuple[str, ...] = ()
    """Columns of its numbers as a table; without them, another table of the page has the numbers."""
    rows: tuple[tuple[str, ...], ...] = ()
    switches: tuple[Switch, ...] = ()
    size: Literal["fluid", "cells", "wide"] = "fluid"
    """Whether it takes any width, has cells that would be too small to read on a telephone and scrolls there, or needs the
    whole width of a page and scrolls where there is less."""


def specification(title: str, subtitle: str | None, body: Spec, *, legend_columns: int = 3) -> Spec:
    """A whole specification with the look that all charts share.

    Args:
        legend_columns: Names side by side in the legend; the page takes fewer where the screen is narrow.
    """
    heading: Spec = {"text": title} if subtitle is None else {"text": title, "subtitle": subtitle}
    legend = cast(Spec, _THEME["legend"]) | {"columns": legend_columns}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": heading,
        "config": _THEME | {"legend": legend},
        **body,
    }


def zoom(*channels: str) -> Spec:
    """A parameter that moves and zooms an axis: drag, or turn the wheel with shift held, so that a page still scrolls."""
    select: Spec = {"type": "interval", "encodings": list(channels), "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "select": select, "bind": "scales"}


def nearest(encoding: Spec, tooltip: list[Spec]) -> Spec:
    """A layer that says the values of the point that is nearest to the pointer, and marks it."""
    select: Spec = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    seen: Spec = {"condition": {"param": "near", "value": 1, "empty": False}, "value": 0}
    return {
        "name": HOVER,
        "params": [{"name": "near", "select": select}],
        "mark": {"type": "point", "filled": True, "size": 70, "clip": True},
        "encoding": {**encoding, "opacity": seen, "tooltip": tooltip},
    }


def still(spec: Spec) -> Spec:
    """The specification without what only answers a pointer."""
    layers = cast(list[Spec], spec.get("layer", []))
    kept = [layer for layer in layers if layer.get("name") != HOVER]
    return spec | {"layer": kept} if layers else spec


def to_svg(spec: Spec) -> str:
    """The chart as SVG text, with room for letters that are wider than Arial's."""
    svg = vl_convert.vegalite_to_svg(cast(Spec, _enlarged(still(spec))), show_warnings=False)
    return _FONT_SIZE.sub(lambda size: f'font-size="{float(size[1]) / _ROOM_FOR_TEXT:.3g}px"', svg)


def _enlarged(part: object) -> object:
    """The same part of a specification with larger text."""
    if isinstance(part, dict):
        return {key: _enlarged_entry(key, value) for key, value in cast(Spec, part).items()}
    return [_enlarged(one) for one in cast(list[object], part)] if isinstance(part, list) else part


def _enlarged_entry(key: str, value: object) -> object:
    if key == "data":
        return value
    return value * _ROOM_FOR_TEXT if key in _SIZES and isinstance(value, int) else _enlarged(value)


def draw(charts: Mapping[str, Chart]) -> dict[str, str]:
    """Each chart's picture as SVG text, by its name."""
    return {name: to_svg(chart.spec) for name, chart in charts.items()}


def write_pictures(pictures: Mapping[str, str], folder: Path) -> None:
    """Each picture as `<name>.svg` and, on white ground, as `<name>.png` in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        on_white = svg.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(on_white, scale=2))


def short_count(number: int) -> str:
    """Short enough for a cell: nothing, 950, 9,500, 95k, 9.5M.

    >>> [short_count(n) for n in (0, 950, 9500, 95_000, 9_500_000, 95_000_000)]
    ['', '950', '9,500', '95k', '9.5M', '95M']
    """
    if number >= 1_000_000:
        return f"{number / 1_000_000:.1f}M" if number < 10_000_000 else f"{number / 1_000_000:.0f}M"
    if number >= 10_000:
        return f"{number / 1000:.0f}k"
    return f"{number:,}" if number else ""
