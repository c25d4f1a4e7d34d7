"""Pieces that the report page is made of: tables, charts, what opens on demand. Text is escaped where it enters."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from math import ceil
from typing import cast, final
from zlib import crc32

from wirebert.report.html.style import STYLE
from wirebert.report.plots.chart import Chart, Switch

_LONG_NAME = 32
"""From this many characters the name of a row may be broken."""

_LONG_TEXT = 80
"""From this many characters a cell is given room, so that it does not become a tower."""

_LONG_PLACES = re.compile(r' (?:d|transform|x2|y2)="[^"]*"')
_DIGITS = re.compile(r"(\.\d)\d+")
"""A tenth of a pixel is enough for a place, and half of a picture's text is digits of places."""

_LEAST_SCALE = 0.8
"""A picture that would have to shrink further scrolls: 12 pixels of text stay 9.6."""

_SVG_WIDTH = re.compile(r'<svg [^>]*?\bwidth="([\d.]+)"')

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


def document(
    title: str,
    kind: str,
    sections: Iterable[tuple[str, str, Markup]],
    *,
    about: str,
    policy: str,
    end: Markup | None = None,
) -> str:
    """A whole page.

    Args:
        kind: What the page is.
        sections: Key, title and content of each, the verdict first; those without content are left out.
        about: What stands small below the title, behind the kind.
        policy: What the page may run and fetch, as a content security policy.
        end: What comes after everything that is seen.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{markup(name)}</a></li>' for key, name, _ in shown)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{markup(name)}</h2>{content}</section>\n'
        for key, name, content in shown
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{markup(title)} - {markup(kind)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><a class="skip" href="#main">Skip to the verdict</a><h1>{markup(title)}</h1>'
        f'<p class="faint">{markup(kind)}, {markup(about)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">\n{body}</main>\n'
        f"{end or ''}</body>\n</html>\n"
    )


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
    rows = [(_spoken(name), value) for name, value in named.items()]
    return table(caption, ("", ""), rows, text=(1,), hide_caption=True) if rows else Markup("")


def _spoken(name: str) -> str:
    """The name of a field as a reader would say it.

    >>> _spoken("num_flows_seen"), _spoken("fit_s"), _spoken("best step")
    ('flows seen', 'fit (s)', 'best step')
    """
    plain = name.removeprefix("num_")
    return f"{plain.removesuffix('_s')} (s)" if plain.endswith("_s") else plain.replace("_", " ")


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
        f'<figure class="{chart.size}"{data}>{above}<div class="picture scroll" role="img" tabindex="0" '
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
    held = _SVG_WIDTH.sub(
        lambda head: f'{head[0]} style="min-width: {ceil(_LEAST_SCALE * float(head[1]))}px"', own, count=1
    )
    return held.replace("<svg", '<svg aria-hidden="true"', 1)


def _cell(place: int, content: str, left: frozenset[int]) -> str:
    inner = markup(content)
    if place == 0:
        return f'<th scope="row"{" class=text" if len(content) > _LONG_NAME else ""}>{inner}</th>'
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
