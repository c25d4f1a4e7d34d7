"""The findings of `wirebert inspect` in traffic files: tables for people, JSON for programs."""

import json
import math
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from wirebert.data.accounting import ParseStats
from wirebert.data.checks.checks import Finding, compare_with_training, mark_accepted, validate
from wirebert.data.checks.column_profile import ColumnProfile
from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.folders import FileListing, listing_lines, with_rows
from wirebert.data.labels import ClassMap, distribution, fit_classes, imbalance_ratio
from wirebert.data.progress import reading_bar
from wirebert.plurals import counted
from wirebert.untrusted_text import printable_name

COUNTS: Final = ("missing", "distinct")
"""Columns of the table that are numbers."""


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Inspection:
    """The result of inspecting traffic files."""

    flows: Flows
    profile: TableProfile
    classes: ClassMap | None
    """None without a label column, or if all labels are the same."""
    findings: tuple[Finding, ...]

    @property
    def class_counts(self) -> dict[str, int]:
        """Rows per class, or per label if there are fewer than two classes."""
        counts = self.profile.label_counts
        return counts if self.classes is None else self.classes.counts(counts)

    @property
    def listing(self) -> tuple[FileListing, ...]:
        """What became of each file, with its rows."""
        return with_rows(self.flows.listing, self.profile.invalid_values.lines.rows_by_file)

    def to_json(self) -> str:
        """Everything as JSON: format, schema, columns, lines, classes and findings."""
        plain: dict[str, object] = {
            "name": self.flows.name,
            "files": [printable_name(path) for path in self.flows.files],
            "listing": [asdict(one) for one in self.listing],
            "format": self.flows.described,
            "dialect": self.flows.dialect.to_dict(),
            "num_rows": self.profile.num_rows,
            "lines": lines_of(self.profile.invalid_values.lines),
            "quoted_values": self.profile.invalid_values.lines.num_quoted,
            "schema": self.flows.schema.name,
            "label": self.flows.schema.label,
            "benign": None if self.classes is None else self.classes.benign,
            "classes": self.class_counts,
            "columns": [*_columns(self.profile)],
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(plain, indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {count:,}" for name, count in self.class_counts.items() if count)
        return (
            f"{self.flows.name}: {self.profile.num_rows:,} rows, {len(self.flows.schema.features)} features, "
            f"classes: {counts or 'none'}; {len(self.findings)} finding{'s' * (len(self.findings) != 1)}"
        )

    def _repr_html_(self) -> str:
        from wirebert.report.html.notebook import html_of_schema

        return html_of_schema(repr(self), self.flows.schema, self.findings)


def _profile(flows: Flows) -> TableProfile:
    return profile_table(flows, lambda invalid: reading_bar(flows.blocks(invalid)))


def inspect_data(
    data: str,
    config: DataConfig,
    tests: Sequence[str] = (),
    profile_of: Callable[[Flows], TableProfile] = _profile,
) -> Inspection:
    """Inspect traffic files, and compare test files with them.

    Args:
        profile_of: what reads all rows; by default this process.
    """
    flows = open_flows(data, config)
    profile = profile_of(flows)
    classes = None
    if flows.schema.label is not None and len(profile.label_counts) > 1:
        classes = fit_classes(flows.schema, profile.label_counts, config)
    findings = (*flows.findings, *validate(profile, classes))
    for test in tests:
        from wirebert.inference.coverage import coverage_of  # here, as it imports the tokenizer

        test_flows = open_flows(test, config, schema=flows.schema)
        findings += (*coverage_of(test_flows, flows.schema).findings, *test_flows.findings)
        findings += compare_with_training(profile, profile_of(test_flows), classes)
    return Inspection(
        flows=flows,
        profile=profile,
        classes=classes,
        findings=mark_accepted(findings, config.accepted_findings),
    )


def plain_lines(inspection: Inspection, data: str = "") -> Iterator[str]:
    """Format, lines, classes, then one line per column and per finding, and what to do next with `data`."""
    yield from summary_lines(inspection)
    rows = [cells_of(column) for column in inspection.profile.columns]
    widths = {heading: max(len(heading), *(len(row[heading]) for row in rows)) for heading in rows[0]}
    for row in [{heading: heading for heading in widths}, *rows]:
        cells = (
            cell.rjust(widths[heading]) if heading in COUNTS else cell.ljust(widths[heading])
            for heading, cell in row.items()
        )
        yield "  ".join(cells).rstrip()
    for finding in inspection.findings:
        severity = "accepted" if finding.is_accepted else finding.severity
        yield f"{severity}: {finding.code}: {finding.message}"
    yield from next_lines(inspection, data)


def summary_lines(inspection: Inspection) -> Iterator[str]:
    """Format, listing of the files, rows and classes."""
    flows, schema = inspection.flows, inspection.flows.schema
    yield (
        f"{flows.name}: {flows.described}; schema {schema.name}, {len(schema.columns)} columns, "
        f"{len(schema.features)} of them features"
    )
    yield from listing_lines(inspection.listing)
    lines = inspection.profile.invalid_values.lines
    left = {name: count for name, count in lines_of(lines).items() if count and name not in ("lines", "rows")}
    parts = [f", {count:,} {name if count > 1 else _single(name)}" for name, count in left.items()]
    yield f"{counted(inspection.profile.num_rows, 'row')}{''.join(parts)}"
    counts = {name: count for name, count in inspection.class_counts.items() if count}
    if counts:
        shares = ", ".join(
            f"{row.class_name} {row.num_rows:,} ({row.share:.2%})" for row in distribution(counts)
        )
        ratio = f"the largest is {imbalance_ratio(counts):,.0f} times the smallest"
        yield f"classes: {shares}; {ratio if len(counts) > 1 else 'training needs another'}"


def cells_of(column: ColumnProfile) -> dict[str, str]:
    """Heading -> text of one line of the table of columns."""
    return {
        "column": column.name,
        "kind": column.kind.value,
        "feature": "yes" if column.is_feature else "no",
        "missing": f"{column.num_missing:,}",
        "distinct": column.distinct_text,
        "range": "" if column.minimum is None else f"{column.minimum:.4g} to {column.maximum:.4g}",
        "note": column.column.note,
    }


def next_lines(inspection: Inspection, data: str) -> Iterator[str]:
    """What usually comes next with `data`; nothing without it."""
    if data:
        yield "next:"
        for command in next_commands(inspection, data):
            yield f"  {command}"


def next_commands(inspection: Inspection, data: str) -> list[str]:
    """What usually comes next: training if there are classes, else scoring."""
    file = shlex.quote(data)
    if inspection.classes is None:
        return [
            f"wirebert predict MODEL {file} --out verdicts.csv",
            f"wirebert train {file} --label COLUMN",
        ]
    label = shlex.quote(str(inspection.flows.schema.label))
    return [
        f"wirebert train {file} --label {label}",
        f"wirebert inspect {file} --write-schema schema.toml",
    ]


def lines_of(lines: ParseStats) -> dict[str, int]:
    """Parse accounting of the files, with a title for each count; all but the first add up to the first.

    >>> lines_of(ParseStats(num_lines=3, num_before=1, num_rows=2))["rows"]
    2
    """
    return {
        "lines": lines.num_lines,
        "rows": lines.num_rows,
        "lines of header and above": lines.num_before,
        "blank lines": lines.num_blank,
        "comments": lines.num_comments,
        "lines set aside": lines.num_rejected_lines,
        "lines after the table": lines.num_footer,
        "line breaks in quotes": lines.num_line_breaks,
    }


def _single(name: str) -> str:
    """`line of header and above` for `lines of header and above`."""
    return re.sub(r"s\b", "", name, count=1)


def _columns(profile: TableProfile) -> Iterator[dict[str, object]]:
    """The columns as plain values; infinities are text, since JSON has none."""
    for column in profile.columns:
        plain = {
            "name": column.name,
            "kind": column.kind.value,
            "is_feature": column.is_feature,
            "note": column.column.note,
            "null_values": list(column.column.null_values),
            "missing": column.num_missing,
            "missing_as": profile.invalid_values.markers.get(column.name, {}),
            "distinct": column.num_distinct,
            "minimum": column.minimum,
            "maximum": column.maximum,
            "example": column.example,
        }
        yield {
            name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in plain.items()
        }
