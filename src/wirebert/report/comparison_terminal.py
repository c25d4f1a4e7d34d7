"""A comparison in words and cells, and on the terminal."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.report.comparison import (
    FIGURES,
    RESAMPLING_UNITS,
    Comparison,
    Difference,
    MetricEstimate,
    SplitComparison,
)
from wirebert.report.terminal import format_file_usage, interval

UNIT_WORDS: Final = {
    "clusters": "attacks drawn whole",
    "splits": "the file split anew",
    "seeds": "seeds drawn",
    "rows": "flows drawn one by one",
}
"""Way of resampling -> what is drawn, for people."""

_WIDEST: Final = ("clusters", "splits", "rows")
"""Ways whose interval stands beside a figure, the first that there is."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Per split: the figures of every method, then the differences; at the end settings, speed and reads.

    Where the output is no terminal, it is plain ASCII but for names from the data.
    """
    plain = not console.is_terminal
    for split in comparison.splits:
        console.print(
            _table_of(split_heading(split), *estimate_cells(split, comparison.primary), plain=plain)
        )
        if split.differences:
            console.print(_table_of("differences", *difference_cells(split.differences), plain=plain))
        for line in comparison_remarks(split, comparison):
            console.print(Text(_ascii(line) if plain else line))
        console.print()
    head, rows = setting_cells(comparison)
    if rows:
        console.print(_table_of("settings that differ", head, rows, plain=plain))
        console.print()
    # Facts are many and methods too: in lines they stay readable at any width.
    for method, facts in comparison.facts.items():
        line = f"{method}: " + "; ".join(f"{name}: {value}" for name, value in facts.items())
        console.print(Text(_ascii(line) if plain else line))
    console.print()
    for note in comparison.notes:
        console.print(Text(note))


def split_heading(split: SplitComparison) -> str:
    """Name and size of the split."""
    clusters = f", {split.num_clusters} clusters" if split.num_clusters else ""
    return f"{split.name}: {split.num_flows:,} flows{clusters}"


def estimate_cells(split: SplitComparison, primary: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a method, one column a figure, the primary one first."""
    shown = {figure for standings in split.estimates.values() for figure in standings}
    names = sorted((name for name in FIGURES if name in shown), key=lambda name: name != primary)
    head = ["method", *(FIGURES[name] for name in names)]
    rows = [
        [method, *(estimate_words(standings.get(name)) for name in names)]
        for method, standings in split.estimates.items()
    ]
    return head, rows


def estimate_words(standing: MetricEstimate | None) -> str:
    """Mean, spread over seeds or splits, and the widest honest interval below: clusters where there are some, else rows.

    >>> estimate_words(MetricEstimate(value=0.5, std=0.01, intervals={"rows": (0.4, 0.6), "clusters": (0.2, 0.8)}))
    '0.500 ± 0.010\\n[0.200, 0.800]'
    """
    if standing is None:
        return "-"
    spread = "" if standing.std is None else f" ± {standing.std:.3f}"
    way = next((way for way in _WIDEST if way in standing.intervals), None)
    return f"{standing.value:.3f}{spread}" + ("" if way is None else f"\n{interval(standing.intervals[way])}")


def difference_cells(differences: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a difference, one column a way of resampling."""
    ways = [way for way in RESAMPLING_UNITS if any(way in difference.intervals for difference in differences)]
    head = ["difference", "figure", "value", *(UNIT_WORDS[way] for way in ways)]
    rows = [
        [
            pair_words(difference, "-"),
            _figure_words(difference),
            f"{difference.value:+.3f}",
            *(_interval_words(difference, way) for way in ways),
        ]
        for difference in differences
    ]
    return head, rows


def class_cells(split: SplitComparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a class and method, with its F1."""
    rows = [
        [name, f"{own.num_flows:,}", method, estimate_words(standing)]
        for name, own in split.classes.items()
        for method, standing in own.standings.items()
    ]
    return ["class", "flows", "method", "F1"], rows


def pair_words(difference: Difference, between: str) -> str:
    """Both methods, and what both are once.

    >>> pair_words(Difference(first="a, tuned", second="b, tuned", figure="", value=0.0, intervals={}), "-")
    'a - b, tuned'
    """
    (first, _, state), (second, _, other) = (
        name.partition(", ") for name in (difference.first, difference.second)
    )
    if state and state == other:
        return f"{first} {between} {second}, {state}"
    return f"{difference.first} {between} {difference.second}"


def _figure_words(difference: Difference) -> str:
    return FIGURES[difference.figure] if difference.class_name is None else f"F1 of {difference.class_name}"


def _interval_words(difference: Difference, way: str) -> str:
    if way not in difference.intervals:
        return "-"
    found = difference.intervals[way]
    low, high = found.interval
    return f"[{low:+.3f}, {high:+.3f}]\np {found.p:.3f}, Holm {found.p_holm:.3f}"


def setting_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a setting, one column a method."""
    return ["setting", *comparison.facts], [[name, *values] for name, values in comparison.settings.items()]


def fact_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row a method, one column a fact."""
    names = list(dict.fromkeys(name for facts in comparison.facts.values() for name in facts))
    rows = [[method, *(facts.get(name, "-") for name in names)] for method, facts in comparison.facts.items()]
    return ["method", *names], rows


def comparison_remarks(split: SplitComparison, comparison: Comparison) -> list[str]:
    """What the figures of a split do not say by themselves."""
    lines = [split.note] if split.note else []
    if split.estimates:
        ways = {way for own in split.estimates.values() for found in own.values() for way in found.intervals}
        drawn = UNIT_WORDS[next((way for way in _WIDEST if way in ways), "rows")]
        over = "splits" if "splits" in ways else "seeds where there are several"
        lines.append(f"Mean ± standard deviation over {over}; below, the 95 % interval, {drawn}.")
    if split.differences:
        lines.append(
            "p: two-sided, of no difference; Holm: corrected for the number of differences in that figure."
        )
        if any("rows" in difference.intervals for difference in split.differences):
            lines[-1] += (
                " Drawing flows one by one makes intervals too narrow, since flows of one attack come together."
            )
    return lines + format_file_usage(comparison.files.get(split.name))


def _table_of(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool) -> Table:
    table = Table(
        title=Text(title),
        title_justify="left",
        box=box.ASCII2 if plain else box.SIMPLE_HEAD,
        title_style="bold",
    )
    for name in head:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_ascii(cell) if plain else cell) for cell in row))
    return table


def _ascii(text: str) -> str:
    return text.replace("±", "+-")
