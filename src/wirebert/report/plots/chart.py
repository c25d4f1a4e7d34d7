"""A chart: one Vega-Lite specification, and its rendering to SVG and PNG without a network.

One specification (a plain dictionary) serves every output: the page shows the picture, and makes it
interactive where scripts run. Colours are readable on white and on dark backgrounds. Text and rules use the
three `INK` colours, which the page restyles in dark mode.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from wirebert.untrusted_text import escape_control_chars

Spec = dict[str, object]
"""A Vega-Lite specification, or a part of one."""

INK, FAINT_INK, RULE = "#1b1f24", "#57606a", "#d8dee4"
ACCENT, SECOND, THIRD = "#2f6fde", "#c9600c", "#8a929b"
PALETTE = (ACCENT, SECOND, "#1f8f63", "#b4499b", "#8f7420", "#d0435b", "#6b62c9", "#6f7f8f")
"""Colours that are distinguishable on white and on dark backgrounds."""

WIDTH, HEIGHT = 400, 210
"""Inner size of a line chart in pixels: two fit side by side on a desktop; the page adapts it to narrow
screens."""

FEW_CLASSES = 12
"""Up to this many classes are drawn with large cells and bars."""

HOVER = "hover"
"""Name of layers for the pointer only; still pictures leave them out."""

_ROOM_FOR_TEXT = 7 / 6
"""Pictures are laid out for text larger by this factor. Layout measures text in Arial; the font of a reader,
such as DejaVu Sans or Verdana, may be a sixth wider."""

_SIZES = ("fontSize", "labelFontSize", "titleFontSize", "subtitleFontSize", "labelLimit")
_FONT_SIZE = re.compile(r'font-size="([\d.]+)px"')

BARE: Spec = {"labelColor": INK, "domain": False, "ticks": False}

_THEME: Spec = {
    "aria": False,  # a description per mark would be most of the file; the page describes the whole chart
    "background": "transparent",
    "font": "Helvetica Neue, Helvetica, Arial, sans-serif",
    "padding": 8,
    "title": {
        "anchor": "start", "color": INK, "fontSize": 14, "fontWeight": 600, "offset": 10, "frame": "bounds",
        "subtitleColor": FAINT_INK, "subtitleFontSize": 12, "subtitlePadding": 4,
    },
    "axis": {
        "labelColor": FAINT_INK, "titleColor": FAINT_INK, "labelFontSize": 12, "titleFontSize": 12,
        "titleFontWeight": "normal", "gridColor": RULE, "domainColor": RULE, "tickColor": RULE,
        "labelLimit": 220,
    },
    "legend": {
        "orient": "top", "direction": "horizontal", "title": None, "labelColor": INK, "labelFontSize": 12,
        "symbolStrokeWidth": 3, "offset": 10, "columns": 3, "labelLimit": 180,
    },
    "view": {"stroke": None},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Switch:
    """A control of a chart on the page: a parameter of its specification."""

    parameter: str
    label: str
    options: Mapping[str, str]
    """Value -> text; still pictures show the first one."""

    def to_spec(self) -> Spec:
        """The entry of `params`."""
        return {"name": self.parameter, "value": next(iter(self.options))}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """A picture and its description for people who cannot see it."""

    spec: Spec
    words: str
    """Description in one or two sentences."""
    head: tuple[str, ...] = ()
    """Columns of the data table; empty where another table of the page has the numbers."""
    rows: tuple[tuple[str, ...], ...] = ()
    switches: tuple[Switch, ...] = ()
    size: Literal["fluid", "cells", "wide"] = "fluid"
    """fluid: fits any width; cells: scrolls on telephones, where cells would be too small to read; wide:
    takes the whole width of the page and scrolls where there is less."""

    def __post_init__(self) -> None:
        # Labels and file names come from strangers: a control character would abort the process that draws.
        object.__setattr__(self, "spec", _printable(self.spec))
        object.__setattr__(self, "words", escape_control_chars(self.words))


def _printable(part: object) -> object:
    """The part of a specification with control characters escaped in its texts."""
    if isinstance(part, dict):
        return {escape_control_chars(key): _printable(value) for key, value in cast(Spec, part).items()}
    if isinstance(part, list | tuple):
        return [_printable(one) for one in cast(list[object], part)]
    return escape_control_chars(part) if isinstance(part, str) else part


def specification(title: str, subtitle: str | None, body: Spec, *, legend_columns: int = 3) -> Spec:
    """A complete specification in the common style.

    Args:
        legend_columns: Columns of the legend; the page uses fewer on narrow screens.
    """
    heading: Spec = {"text": title} if subtitle is None else {"text": title, "subtitle": subtitle}
    legend = cast(Spec, _THEME["legend"]) | {"columns": legend_columns}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "title": heading,
        "config": _THEME | {"legend": legend},
        **body,
    }


def bars(x: Spec, field: str, tooltip: Sequence[Mapping[str, object]]) -> Spec:
    """A layer of horizontal bars, one for each row."""
    return {
        "mark": {"type": "bar", "color": ACCENT, "cornerRadiusEnd": 3, "height": {"band": 0.66}},
        "encoding": {"x": {"field": field, **x}, "tooltip": list(tooltip)},
    }


def ticks(x: Spec, field: str) -> Spec:
    """A layer that marks another value on each bar, where there is one."""
    return {
        "mark": {"type": "tick", "color": SECOND, "thickness": 3, "opacity": 1, "height": {"band": 0.9}},
        "transform": [{"filter": f"isValid(datum.{field})"}],
        "encoding": {"x": {"field": field, **x}},
    }


def beside_bars(text: Spec) -> Spec:
    """A layer of texts in a column right of the plot, where no bar or interval can cross them."""
    return {
        "mark": {"type": "text", "align": "left", "color": INK, "fontSize": 12},
        "encoding": {"x": {"value": {"expr": "width + 8"}}, "text": text},
    }


def names(field: str, axis: Spec = BARE) -> Spec:
    """The y axis of bars: a name for each, in the order of the rows."""
    return {"field": field, "type": "nominal", "sort": None, "title": None, "axis": axis}


def zoom(*channels: str) -> Spec:
    """A parameter that pans and zooms an axis: drag, or shift and wheel, so that the wheel alone scrolls the
    page."""
    select: Spec = {"type": "interval", "encodings": list(channels), "zoom": "wheel![event.shiftKey]"}
    return {"name": "zoom", "select": select, "bind": "scales"}


def nearest(encoding: Spec, tooltip: list[Spec]) -> Spec:
    """A layer that marks the point nearest to the pointer and shows its values."""
    select: Spec = {"type": "point", "on": "pointerover", "nearest": True, "clear": "pointerout"}
    visible: Spec = {"condition": {"param": "near", "value": 1, "empty": False}, "value": 0}
    return {
        "name": HOVER,
        "params": [{"name": "near", "select": select}],
        "mark": {"type": "point", "filled": True, "size": 70, "clip": True},
        "encoding": {**encoding, "opacity": visible, "tooltip": tooltip},
    }


def still(spec: Spec) -> Spec:
    """The specification without the layers for the pointer."""
    layers = cast(list[Spec], spec.get("layer", []))
    static = [layer for layer in layers if layer.get("name") != HOVER]
    return spec | {"layer": static} if layers else spec


def to_svg(spec: Spec) -> str:
    """The chart as SVG text, with room for fonts wider than Arial."""
    import vl_convert  # here, since a scoring installation reads reports without it

    svg = vl_convert.vegalite_to_svg(cast(Spec, _enlarged(still(spec))), show_warnings=False)
    return _FONT_SIZE.sub(lambda size: f'font-size="{float(size[1]) / _ROOM_FOR_TEXT:.3g}px"', svg)


def _enlarged(part: object, key: str = "") -> object:
    """The part of a specification, which stands at this key, with larger text."""
    if isinstance(part, dict):
        entries = cast(Spec, part).items()
        return {name: value if name == "data" else _enlarged(value, name) for name, value in entries}
    if isinstance(part, list):
        return [_enlarged(one) for one in cast(list[object], part)]
    return part * _ROOM_FOR_TEXT if key in _SIZES and isinstance(part, int) else part


def draw(charts: Mapping[str, Chart]) -> dict[str, str]:
    """The picture of each chart as SVG text, by name."""
    return {name: to_svg(chart.spec) for name, chart in charts.items()}


def draw_into(receive: Callable[[], tuple[Mapping[str, Chart], Path]]) -> dict[str, str]:
    """Draw charts and write them into a folder, with the renderer started before they are known."""
    to_svg({"data": {"values": []}, "mark": "point"})
    charts, folder = receive()
    pictures = draw(charts)
    write_pictures(pictures, folder)
    return pictures


def write_pictures(pictures: Mapping[str, str], folder: Path) -> None:
    """Write each picture as `<name>.svg` and, on a white background, as `<name>.png` to `folder`."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        on_white = svg.replace(">", '><rect width="100%" height="100%" fill="white"/>', 1)
        (folder / f"{name}.png").write_bytes(vl_convert.svg_to_png(on_white, scale=2))


def short_count(count: int) -> str:
    """A count short enough for a cell; empty for 0.

    >>> [short_count(n) for n in (0, 950, 9500, 95_000, 9_500_000, 95_000_000)]
    ['', '950', '9,500', '95k', '9.5M', '95M']
    """
    if count >= 1_000_000:
        return f"{count / 1_000_000:.1f}M" if count < 10_000_000 else f"{count / 1_000_000:.0f}M"
    if count >= 10_000:
        return f"{count / 1000:.0f}k"
    return f"{count:,}" if count else ""
