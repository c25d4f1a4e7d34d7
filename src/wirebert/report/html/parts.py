"""Building blocks of the report page: tables, charts, disclosures. Every text is escaped where it enters."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from math import ceil
from typing import cast
from zlib import crc32

from markupsafe import Markup, escape

from wirebert.report.plots.chart import Chart, Switch
from wirebert.untrusted_text import escape_control_chars

_LONG_NAME = 32
"""A row name of at least this many characters may wrap."""

_LONG_TEXT = 80
"""A cell of at least this many characters gets a minimum width, so that it does not become a tower."""

_COORDINATES = re.compile(r' (?:d|transform|x2|y2)="[^"]*"')
_DIGITS = re.compile(r"(\.\d)\d+")
"""A tenth of a pixel is precise enough, and digits of coordinates make up half of a picture's text."""

_LEAST_SCALE = 0.92
"""A picture that would shrink below this scale scrolls instead: text of 12 pixels stays at 11."""

_SVG_WIDTH = re.compile(r'<svg [^>]*?\bwidth="([\d.]+)"')

_FEW_OPTIONS = 4
"""Up to this many options are shown as radio buttons, more of them as a list."""


def join(*parts: str) -> Markup:
    """The parts in a row; plain texts among them are escaped."""
    return Markup("").join(parts)


@cache
def style_sheet() -> str:
    """The style sheet of the page."""
    return resources.files("wirebert.report.html").joinpath("style.css").read_text(encoding="utf-8")


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
        kind: Kind of page, shown below the title.
        sections: Key, title and content of each, the summary first; empty sections are left out.
        about: Text in small print below the title, after the kind.
        policy: Content security policy: what the page may run and fetch.
        end: Hidden elements at the end of the body.
    """
    shown = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{escape(name)}</a></li>' for key, name, _ in shown)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(name)}</h2>{content}</section>\n'
        for key, name, content in shown
    )
    title, body = escape_control_chars(title), escape_control_chars(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - {escape(kind)}</title>\n<style>{style_sheet()}</style>\n</head>\n<body>\n"
        f'<header><a class="skip" href="#main">Skip to the summary</a><h1>{escape(title)}</h1>'
        f'<p class="faint">{escape(kind)}, {escape(about)}</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main id="main">\n{body}</main>\n'
        f"{end or ''}</body>\n</html>\n"
    )


def paragraph(content: str, kind: str = "") -> Markup:
    """A paragraph; `kind` is its class."""
    return Markup(f"<p{f' class={kind}' if kind else ''}>{with_code(content)}</p>")


def with_code(content: str) -> Markup:
    """The text, what stands between backquotes as code.

    >>> with_code("run `a < b`")
    Markup('run <code>a &lt; b</code>')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(content))))


def heading(content: str) -> Markup:
    """A heading inside a section."""
    return Markup(f"<h3>{escape(content)}</h3>")


def with_range(value: str, more: str) -> Markup:
    """A value, followed by its interval or another note in small print."""
    return Markup(f'{escape(value)} <span class="range">{escape(more)}</span>') if more else escape(value)


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    text: Iterable[int] = (),
    hide_caption: bool = False,
    kind: str = "",
) -> Markup:
    """A table; the first column names the rows, columns in `text` are left-aligned.

    Args:
        hide_caption: Show the caption to screen readers only, where a heading repeats it.
        kind: Its class in the style sheet.
    """
    left = frozenset(text)
    body = "".join(
        "<tr>" + "".join(_cell(index, content, left) for index, content in enumerate(row)) + "</tr>"
        for row in rows
    )
    header = "".join(
        f'<th scope="col"{" class=text" if index in left else ""}>{escape(name)}</th>'
        if name
        else "<td></td>"
        for index, name in enumerate(head)
    )
    top = f"<thead><tr>{header}</tr></thead>" if any(head) else ""
    named = f"<caption{' class=unseen' if hide_caption else ''}>{escape(caption)}</caption>"
    return Markup(
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0">'
        f"<table{f' class={kind}' if kind else ''}>{named}{top}<tbody>{body}</tbody></table></div>"
    )


def facts(caption: str, named: Mapping[str, str]) -> Markup:
    """A table of names and values; nothing where there are none."""
    rows = [(spoken(name), value) for name, value in named.items()]
    return table(caption, ("", ""), rows, text=(1,), hide_caption=True) if rows else Markup("")


def spoken(name: str) -> str:
    """The key of a field as a title.

    >>> spoken("num_flows_seen"), spoken("fit_s"), spoken("best_step")
    ('flows seen', 'fit (s)', 'best step')
    """
    plain = name.removeprefix("num_")
    return f"{plain.removesuffix('_s')} (s)" if plain.endswith("_s") else plain.replace("_", " ")


def named_with_breaks(name: str) -> Markup:
    """A name that may be broken after its punctuation; what has spaces is broken there alone.

    >>> named_with_breaks("dst_host")
    Markup('dst_<wbr>host')
    """
    return escape(name) if " " in name else Markup(re.sub(r"(?<=[_./:-])(?=\w)", "<wbr>", escape(name)))


def copyable(command: str) -> Markup:
    """A command with a button that copies it; the script shows the button."""
    return Markup(
        f'<div class="copy"><pre><code>{escape(command)}</code></pre><button type="button" data-copy hidden '
        f'aria-label="Copy: {escape(command)}">Copy</button><span role="status" class="faint"></span></div>'
    )


def disclosure(summary: str, content: Markup, *, about: str = "", is_open: bool = False) -> Markup:
    """Content that opens on demand; `about` labels it for screen readers."""
    unseen = f'<span class="unseen">: {escape(about)}</span>' if about else ""
    opening = "<details open>" if is_open else "<details>"
    return Markup(f"{opening}<summary>{escape(summary)}{unseen}</summary>{content}</details>")


def figure(name: str, chart: Chart, svg: str | None, *, is_live: bool = True) -> Markup:
    """A chart: its picture, its switches, and its numbers as a table. The script makes it interactive if it
    `is_live`.

    Without a picture, the text names the file that holds it.
    """
    key = escape(name)
    title = chart.words.split(":")[0]
    numbers = table(title, chart.head, chart.rows) if chart.rows else None
    below = "" if numbers is None else disclosure("As a table", numbers, about=title)
    if svg is None:
        note = paragraph(f"{title}: see plots/{name}.svg; this page would be too large with it.", "faint")
        return Markup(f"<figure>{note}{below}</figure>")
    switches = "".join(_switch(key, switch) for switch in chart.switches) if is_live else ""
    above = f'<div class="switches" hidden>{switches}</div>' if switches else ""
    data = f' data-chart="{key}"' if is_live else ""
    return Markup(
        f'<figure class="{chart.size}"{data}>{above}<div class="picture scroll" role="img" tabindex="0" '
        f'aria-label="{escape(chart.words)}">{_inline(name, svg)}</div>{below}</figure>'
    )


def charts(figures: Iterable[Markup]) -> Markup:
    """Charts side by side where there is room."""
    inner = join(*figures)
    return Markup(f'<div class="charts">{inner}</div>') if inner else inner


def words(value: object) -> str:
    """A value as people write it.

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
    """The picture as part of a page: fewer digits, and element ids that no other picture has."""
    shorter = _COORDINATES.sub(lambda match: _DIGITS.sub(r"\1", match[0]), svg)
    unique = re.sub(r'(id="|url\(#)(clip|gradient)', rf"\1p{crc32(name.encode()):08x}-\2", shorter)
    sized = _SVG_WIDTH.sub(
        lambda head: f'{head[0]} style="min-width: {ceil(_LEAST_SCALE * float(head[1]))}px"', unique, count=1
    )
    return sized.replace("<svg", '<svg aria-hidden="true"', 1)


def _cell(index: int, content: str, left: frozenset[int]) -> str:
    inner = escape(content)
    if index == 0:
        inner = inner if isinstance(content, Markup) else named_with_breaks(content)
        return f'<th scope="row"{" class=text" if len(content) > _LONG_NAME else ""}>{inner}</th>'
    if index in left:
        return f'<td class="text{" long" if len(inner) > _LONG_TEXT else ""}">{inner}</td>'
    return f"<td>{inner}</td>"


def _switch(key: str, switch: Switch) -> str:
    data = f'data-parameter="{switch.parameter}"'
    name = f"{key}-{switch.parameter}"
    if len(switch.options) > _FEW_OPTIONS:
        options = "".join(
            f'<option value="{escape(value)}">{escape(shown)}</option>'
            for value, shown in switch.options.items()
        )
        return f"<label>{escape(switch.label)} <select {data}>{options}</select></label>"
    buttons = "".join(
        f'<label><input type="radio" name="{name}" value="{escape(value)}" '
        f"{data}{' checked' if not index else ''}>"
        f"{escape(shown)}</label>"
        for index, (value, shown) in enumerate(switch.options.items())
    )
    return f"<fieldset><legend>{escape(switch.label)}</legend>{buttons}</fieldset>"
