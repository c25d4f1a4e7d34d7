"""Training or reference beside other data, column by column: small bar charts, the most drifted first."""

from collections.abc import Sequence

from markupsafe import Markup, escape

from wirebert.plurals import counted
from wirebert.report.columns import ColumnDrift
from wirebert.report.html.parts import disclosure, document, join, named_with_breaks, paragraph, table
from wirebert.report.html.script import policy

_OPEN = 9
"""Columns shown at once."""
_WIDTH, _HEIGHT = 240, 64


def drift_page(title: str, sentences: Sequence[str], drift: Sequence[ColumnDrift]) -> str:
    """A page on traffic beside the reference of a model."""
    summary = Markup(f'<div class="summary">{join(*map(paragraph, sentences))}</div>')
    columns = drift_section(drift, ("reference", "now"))
    sections = [("summary", "Summary", summary), ("columns", "Features and scores", columns)]
    return document(title, "wirebert drift", sections, about=f"{len(drift)} distributions", policy=policy())


def drift_section(
    drift: Sequence[ColumnDrift], sides: tuple[str, str] = ("training data", "test data")
) -> Markup:
    """A picture of each column, and all figures as a table."""
    if not drift:
        return Markup("")
    note = (
        "Fraction of the flows in each range or value, on both sides. The distance is 0 for equal "
        "distributions and 1 for disjoint ones."
    )
    legend = Markup(
        f'<p class="legend"><span class="train">{sides[0]}</span> <span class="test">{sides[1]}</span></p>'
    )
    pictures = [_picture(one, sides) for one in drift]
    more = _grid(pictures[_OPEN:])
    rows = [
        (f"{one.column}: {name}", f"{left:.1%}", f"{right:.1%}")
        for one in drift
        for name, left, right in zip(one.bins, one.train, one.test, strict=True)
    ]
    return join(
        paragraph(note, "faint"),
        legend,
        _grid(pictures[:_OPEN]),
        disclosure(counted(len(drift) - _OPEN, "more column"), more) if len(drift) > _OPEN else "",
        disclosure("As a table", table("Drift", ("column: value", *sides), rows)),
    )


def _grid(pictures: Sequence[Markup]) -> Markup:
    return Markup(f'<div class="multiples">{join(*pictures)}</div>')


def _picture(one: ColumnDrift, sides: tuple[str, str]) -> Markup:
    step = _WIDTH / max(1, len(one.bins))
    highest = max((*one.train, *one.test), default=0) or 1
    bars = "".join(
        f"<g><title>{escape(name)}: {sides[0]} {left:.1%}, {sides[1]} {right:.1%}</title>"
        f"{_bar(at * step + step * 0.08, step * 0.4, left / highest, 'train')}"
        f"{_bar(at * step + step * 0.52, step * 0.4, right / highest, 'test')}</g>"
        for at, (name, left, right) in enumerate(zip(one.bins, one.train, one.test, strict=True))
    )
    changed = max(
        zip(one.bins, one.train, one.test, strict=True), key=lambda part: abs(part[1] - part[2]), default=None
    )
    words = (
        ""
        if changed is None
        else f"{changed[0]}: {changed[1]:.0%} in {sides[0]}, {changed[2]:.0%} in {sides[1]}"
    )
    label = escape(f"{one.column}: distance {one.distance:.2f}; {words}")
    heading = f'{named_with_breaks(one.column)} <span class="range">{one.distance:.2f}</span>'
    return Markup(
        f'<div class="multiple"><h3>{heading}</h3><svg role="img" aria-label="{label}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none">{bars}</svg>'
        f'<p class="faint">{escape(words)}</p></div>'
    )


def _bar(x: float, width: float, share: float, kind: str) -> str:
    height = share * _HEIGHT
    top = _HEIGHT - height
    return f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
