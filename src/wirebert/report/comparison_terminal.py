"""A comparison in words and cells, and on the terminal."""

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.metrics.registry import METRICS, compared_titles
from wirebert.report.comparison import (
    RESAMPLING_UNITS,
    Comparison,
    Difference,
    MetricEstimate,
    SplitComparison,
)
from wirebert.report.terminal import format_file_usage, interval, titled_table

UNIT_WORDS: Final = {
    "clusters": "bootstrap over attack names",
    "splits": "over splits of the file",
    "seeds": "over seeds",
    "rows": "bootstrap over flows",
}
"""Resampling unit -> its name on pages."""

_WIDEST: Final = ("clusters", "splits", "rows")
"""Resampling units whose interval is shown with a value: the first that is available."""


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Per split: the metrics of every method, then the differences; at the end settings, speed and file
    usage.

    Where the output is not a terminal, it is plain ASCII except for names from the data.
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
    # There are many facts and many methods: as lines they stay readable at any width.
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
    """Head and rows: one row per method, one column per metric, the primary metric first."""
    shown = {metric for row in split.estimates.values() for metric in row}
    titles = compared_titles()
    names = sorted((name for name in titles if name in shown), key=lambda name: name != primary)
    head = ["method", *(titles[name] for name in names)]
    rows = [
        [method, *(estimate_words(row.get(name)) for name in names)]
        for method, row in split.estimates.items()
    ]
    return head, rows


def estimate_words(estimate: MetricEstimate | None) -> str:
    """Mean, standard deviation, and below the most conservative interval: over clusters, else splits, else
    rows.

    >>> intervals = {"rows": (0.4, 0.6), "clusters": (0.2, 0.8)}
    >>> estimate_words(MetricEstimate(value=0.5, std=0.01, intervals=intervals))
    '0.500 ± 0.010\\n[0.200, 0.800]'
    """
    if estimate is None:
        return "-"
    spread = "" if estimate.std is None else f" ± {estimate.std:.3f}"
    way = next((way for way in _WIDEST if way in estimate.intervals), None)
    return f"{estimate.value:.3f}{spread}" + ("" if way is None else f"\n{interval(estimate.intervals[way])}")


def difference_cells(differences: Sequence[Difference]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row per difference, one column per resampling unit."""
    ways = [way for way in RESAMPLING_UNITS if any(way in difference.intervals for difference in differences)]
    head = ["difference", "metric", "value", *(UNIT_WORDS[way] for way in ways)]
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
    """Head and rows: one row per class and method, with its F1."""
    rows = [
        [name, f"{row.num_flows:,}", method, estimate_words(estimate)]
        for name, row in split.classes.items()
        for method, estimate in row.estimates.items()
    ]
    return ["class", "flows", "method", "F1"], rows


def pair_words(difference: Difference, between: str) -> str:
    """Both methods; a state that both share is named once.

    >>> pair_words(Difference(first="a, tuned", second="b, tuned", metric="", value=0.0, intervals={}), "-")
    'a - b, tuned'
    """
    (first, _, state), (second, _, other) = (
        name.partition(", ") for name in (difference.first, difference.second)
    )
    if state and state == other:
        return f"{first} {between} {second}, {state}"
    return f"{difference.first} {between} {difference.second}"


def _figure_words(difference: Difference) -> str:
    return (
        METRICS[difference.metric].title
        if difference.class_name is None
        else f"F1 of {difference.class_name}"
    )


def _interval_words(difference: Difference, way: str) -> str:
    if way not in difference.intervals:
        return "-"
    result = difference.intervals[way]
    low, high = result.interval
    return f"[{low:+.3f}, {high:+.3f}]\np {result.p:.3f}, Holm {result.p_holm:.3f}"


def setting_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row per setting, one column per method."""
    return ["setting", *comparison.facts], [[name, *values] for name, values in comparison.settings.items()]


def fact_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows: one row per method, one column per fact."""
    names = list(dict.fromkeys(name for facts in comparison.facts.values() for name in facts))
    rows = [[method, *(facts.get(name, "-") for name in names)] for method, facts in comparison.facts.items()]
    return ["method", *names], rows


def comparison_remarks(split: SplitComparison, comparison: Comparison) -> list[str]:
    """Notes on how to read the metrics of a split."""
    lines = [split.note] if split.note else []
    if split.estimates:
        ways = {way for row in split.estimates.values() for cell in row.values() for way in cell.intervals}
        unit = UNIT_WORDS[next((way for way in _WIDEST if way in ways), "rows")]
        over = "splits" if "splits" in ways else "seeds where there are several"
        lines.append(f"Mean ± standard deviation over {over}; below, the 95 % CI, {unit}.")
    if split.differences:
        lines.append("p: two-sided p-value; Holm: adjusted for the number of differences in that metric.")
        if any("rows" in difference.intervals for difference in split.differences):
            lines[-1] += (
                " Intervals over flows are too narrow, since flows of one attack are not independent."
            )
    return lines + format_file_usage(comparison.files.get(split.name))


def _table_of(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, plain: bool) -> Table:
    table = titled_table(title, plain=plain)
    for name in head:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_ascii(cell) if plain else cell) for cell in row))
    return table


def _ascii(text: str) -> str:
    return text.replace("±", "+-")
