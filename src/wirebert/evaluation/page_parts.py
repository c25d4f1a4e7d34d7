"""Pieces that the report page is made of: tables, charts, what opens on demand. Text is escaped where it enters."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import cast, final
from zlib import crc32

from wirebert.evaluation.plots import Chart, Switch

_LONG_TEXT = 80
"""From this many characters a cell is given room, so that it does not become a tower."""

_LONG_PLACES = re.compile(r' (?:d|transform|x2|y2)="[^"]*"')
_DIGITS = re.compile(r"(\.\d)\d+")
"""A tenth of a pixel is enough for a place, and half of a picture's text is digits of places."""

_FEW_OPTIONS = 4
"""Up to this many options are radio buttons, more of them a list."""


@final
class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def markup(content: str) -> Markup:
    """Any text as HTML: what is none yet is escaped."""
    return content if isinstance(content, Markup) else Markup(escape(content))


def join(*parts: str) -> Markup:
    """One piece after the other; plain texts among them are escaped."""
    return Markup("".join(map(markup, parts)))


def paragraph(content: str, kind: str = "") -> Markup:
    """A paragraph; `kind` is its class."""
    return Markup(f"<p{f' class={kind}' if kind else ''}>{markup(content)}</p>")


def heading(content: str) -> Markup:
    """A heading inside a section."""
    return Markup(f"<h3>{markup(content)}</h3>")


def with_range(value: str, more: str) -> Markup:
    """A figure, and behind it in small what belongs to it."""
    return Markup(f'{markup(value)} <span class="range">{markup(more)}</span>') if more else markup(value)


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Iterable[int] = (),
    hide_caption: bool = False,
) -> Markup:
    """A table; the first column names its rows, those in `text` are left-aligned.

    Args:
        hide_caption: Say the caption only to those who do not see the table, where a heading says it already.
    """
    left = frozenset(text)
    body = "".join(
        "<tr>" + "".join(_cell(place, content, left) for place, content in enumerate(row)) + "</tr>"
        for row in rows
    )
    header = "".join(
        f'<th scope="col"{" class=text" if place in left else ""}>{markup(name)}</th>'
        if name
        else "<td></td>"
        for place, name in enumerate(head)
    )
    top = f"<thead><tr>{header}</tr></thead>" if any(head) else ""
    named = f"<caption{' class=unseen' if hide_caption else ''}>{markup(caption)}</caption>"
    return Markup(
        f'<div class="scroll" role="region" aria-label="{markup(caption)}" tabindex="0">'
        f"<table>{named}{top}<tbody>{body}</tbody></table></div>"
    )


def facts(caption: str, named: Mapping[str, str]) -> Markup:
    """A table of names and what they stand for; nothing where there are none."""
    rows = [(name.replace("_", " "), value) for name, value in named.items()]
    return table(caption, ("", ""), rows, text=(1,), hide_caption=True) if rows else Markup("")


def disclosure(summary: str, content: Markup, *, about: str = "", is_open: bool = False) -> Markup:
    """What is shown on demand; `about` says to those who do not see the page what it belongs to."""
    unseen = f'<span class="unseen">: {markup(about)}</span>' if about else ""
    opening = "<details open>" if is_open else "<details>"
    return Markup(f"{opening}<summary>{markup(summary)}{unseen}</summary>{content}</details>")


def figure(name: str, chart: Chart, svg: str | None, *, is_live: bool = True) -> Markup:
    """A chart: its picture, which the script brings to life if it `is_live`, its switches, and its numbers as a table.

    Without a picture it says where there is one.
    """
    key = markup(name)
    title = chart.words.split(":")[0]
    numbers = table(title, chart.head, chart.rows) if chart.rows else None
    below = "" if numbers is None else disclosure("As a table", numbers, about=title)
    if svg is None:
        told = paragraph(f"{title}: see plots/{name}.svg; with it this page would be too large.", "faint")
        return Markup(f"<figure>{told}{below}</figure>")
    switches = "".join(_switch(key, switch) for switch in chart.switches) if is_live else ""
    above = f'<div class="switches" hidden>{switches}</div>' if switches else ""
    data = f' data-chart="{key}"' if is_live else ""
    return Markup(
        f'<figure class="{chart.size}"{data}>{above}<div class="picture scroll" role="img" '
        f'aria-label="{markup(chart.words)}">{_inline(name, svg)}</div>{below}</figure>'
    )


def charts(figures: Iterable[Markup]) -> Markup:
    """Charts side by side where there is room."""
    inner = join(*figures)
    return Markup(f'<div class="charts">{inner}</div>') if inner else inner


def words(value: object) -> str:
    """A value as a reader would write it.

    >>> [words(value) for value in (True, 12345, 0.00012345, ["a", "b"], [])]
    ['yes', '12,345', '0.0001234', 'a, b', 'none']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(words, cast(Sequence[object], value))) or "none"
    return str(value)


def _inline(name: str, svg: str) -> str:
    """The picture as a part of a page: without needless digits, and with names that no other picture has."""
    shorter = _LONG_PLACES.sub(lambda place: _DIGITS.sub(r"\1", place[0]), svg)
    own = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\1p{crc32(name.encode()):08x}-\2", shorter)
    return own.replace("<svg", '<svg aria-hidden="true"', 1)


def _cell(place: int, content: str, left: frozenset[int]) -> str:
    inner = markup(content)
    if place == 0:
        return f'<th scope="row">{inner}</th>'
    if place in left:
        return f'<td class="text{" long" if len(inner) > _LONG_TEXT else ""}">{inner}</td>'
    return f"<td>{inner}</td>"


def _switch(key: str, switch: Switch) -> str:
    data = f'data-parameter="{switch.parameter}"'
    name = f"{key}-{switch.parameter}"
    if len(switch.options) > _FEW_OPTIONS:
        options = "".join(
            f'<option value="{markup(value)}">{markup(shown)}</option>'
            for value, shown in switch.options.items()
        )
        return f"<label>{markup(switch.label)} <select {data}>{options}</select></label>"
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{markup(value)}" {data}{" checked" if not place else ""}>'
        f"{markup(shown)}</label>"
        for place, (value, shown) in enumerate(switch.options.items())
    )
    return f"<fieldset><legend>{markup(switch.label)}</legend>{buttons}</fieldset>"
