"""Findings on what was not read as it stands: rejected rows, lines after the table, values set to missing."""

from collections.abc import Iterator

from wirebert.data.accounting import ParseStats
from wirebert.data.checks.reading import noted_findings
from wirebert.data.findings import Finding, format_row_count
from wirebert.data.schema.conversion import InvalidValues
from wirebert.plurals import counted

FEWEST_ROWS = 100
SET_ASIDE_FRACTION = 0.01
"""Above this fraction of at least `FEWEST_ROWS` rows, rows without verdicts are told."""


def unread(invalid_values: InvalidValues) -> Iterator[Finding]:
    """Everything that scoring left out: a row without a verdict, or a value that was read as missing."""
    yield from set_aside(invalid_values.lines)
    yield from rejected_rows(invalid_values.lines)
    yield from not_text(invalid_values.lines)
    yield from footer(invalid_values.lines)
    yield from set_to_missing(invalid_values)
    yield from noted_findings(invalid_values)


def rejected_rows(lines: ParseStats) -> Iterator[Finding]:
    """Rows with too few or too many fields, with open quotes, or above the longest length."""
    if not lines.num_rejected:
        return
    first = lines.examples[0]
    yield Finding(
        code="rejected_rows",
        severity="warning",
        count=lines.num_rejected,
        example=f"{first.location}: {first.text}",
        message=f"{format_row_count(lines.num_rejected, lines.num_rows + lines.num_rejected)} cannot be "
        f"parsed and are skipped ({first.location}: {first.reason}); correct them in the file, or set "
        "data.delimiter, data.quote or data.encoding",
    )


def set_aside(lines: ParseStats) -> Iterator[Finding]:
    """An alarm of its own: who can make rows unreadable hides from the detector."""
    total = lines.num_rows + lines.num_rejected
    if total >= FEWEST_ROWS and lines.num_rejected > SET_ASIDE_FRACTION * total:
        first = lines.examples[0]
        yield Finding(
            code="set_aside",
            severity="warning",
            count=lines.num_rejected,
            example=f"{first.location}: {first.text}",
            message=f"{format_row_count(lines.num_rejected, total)} cannot be used, more than "
            f"{SET_ASIDE_FRACTION:.0%}; look at them: a host that makes its rows unreadable is not seen",
        )


def not_text(lines: ParseStats) -> Iterator[Finding]:
    """Bytes that are not valid in the encoding of the file."""
    if lines.num_not_text:
        yield Finding(
            code="replaced_bytes",
            severity="info",
            count=lines.num_not_text,
            message=f"{counted(lines.num_not_text, 'line holds', 'lines hold')} bytes that are not valid in "
            "the encoding; these are read as replacement characters, so set data.encoding if the file has "
            "another one",
        )


def footer(lines: ParseStats) -> Iterator[Finding]:
    """Totals at the end of a file, or a truncated last row."""
    if not lines.num_footer:
        return
    first = lines.footer[0]
    told = counted(lines.num_footer, "line after the table is skipped", "lines after the table are skipped")
    yield Finding(
        code="footer",
        severity="info",
        count=lines.num_footer,
        example=f"{first.location}: {first.text}",
        message=f"{told} ({first.location}: {first.text!r}); "
        "if this is a truncated row, write the file again",
    )


def set_to_missing(invalid_values: InvalidValues) -> Iterator[Finding]:
    """Values that are not numbers in numeric columns."""
    for name, count in invalid_values.counts.items():
        if not count:  # a block without invalid values has an entry too
            continue
        first = invalid_values.examples[name][0]
        yield Finding(
            code="invalid_values",
            severity="warning",
            column=name,
            count=count,
            example=f"{first.location}: {first.value}",
            message=f"column {name!r} has a value that is not a number in "
            f"{format_row_count(count, invalid_values.num_rows)} ({first.location}: {first.value!r}); these "
            "are read as missing, so correct them or declare the column a category in the schema",
        )
