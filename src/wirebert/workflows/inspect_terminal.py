"""The findings of `wirebert inspect` for the terminal: as wide as it is."""

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.console import say
from wirebert.data.checks.profile import TableProfile
from wirebert.data.findings import SEVERITIES, Finding, format_names
from wirebert.workflows.inspect import COUNTS, Inspection, cells_of, next_lines, summary_lines

WIDE: Final = 110
"""Columns of a terminal from which on the table of columns has room for notes beside usual names."""
NAME_WIDTH: Final = 18
"""Longer names take that room: then notes stand below the table, and names on one line where they fit."""


def show_inspection(inspection: Inspection, console: Console, data: str = "") -> None:
    """Print format, lines, classes, columns, findings and what to do next with `data`."""
    for line in summary_lines(inspection):
        say(console, line)
    longest = max((len(column.name) for column in inspection.profile.columns), default=0)
    is_narrow = console.width < WIDE + max(0, longest - NAME_WIDTH)
    console.print(column_table(inspection.profile, is_narrow=is_narrow))
    if is_narrow:
        for column in inspection.profile.columns:
            if column.column.note:
                console.print(Text(f"{column.name}: {column.column.note}"))
    for line in grouped_findings(inspection.findings):
        console.print(Text(line))
    for line in next_lines(inspection, data):
        say(console, line)


def grouped_findings(findings: Sequence[Finding]) -> list[str]:
    """A paragraph for each code, the most severe first: how many, the first in words, and the
    columns of the others."""
    groups: dict[tuple[int, str, str], list[Finding]] = {}
    for finding in findings:
        severity = "accepted" if finding.is_accepted else finding.severity
        rank = len(SEVERITIES) if finding.is_accepted else SEVERITIES.index(finding.severity)
        groups.setdefault((rank, severity, finding.code), []).append(finding)
    lines: list[str] = []
    for (_, severity, code), members in sorted(groups.items(), key=lambda group: group[0][0]):
        first, *others = members
        columns = [other.column for other in others if other.column]
        more = f"; the same of {format_names(columns, 8)}" if columns else ""
        times = f" ({len(members)})" if others else ""
        lines.append(f"{severity}: {code}{times}: {first.message}{more}")
    return lines


def column_table(seen: TableProfile, *, is_narrow: bool = False) -> Table:
    """One line per column; narrow without notes, and without missing values if there are none."""
    table = Table(box=box.HORIZONTALS, padding=(0, 1 if is_narrow else 2, 0, 0))
    has_missing = any(column.num_missing for column in seen.columns)
    rows = [cells_of(column) for column in seen.columns]
    left_out = {*(["note"] if is_narrow else []), *(["missing"] if is_narrow and not has_missing else [])}
    shown = [heading for heading in rows[0] if heading not in left_out]
    for heading in shown:
        # Only a note may take several lines; the other cells are short, and read best on one.
        is_long = heading in ("column", "note")
        justify = "right" if heading in COUNTS else "left"
        table.add_column(heading, no_wrap=not is_long, overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*(Text(row[heading]) for heading in shown))
    return table
