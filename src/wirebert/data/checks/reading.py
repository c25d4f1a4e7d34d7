"""How values were read that are not written as plain numbers or times: told, never silent."""

from collections.abc import Iterator
from dataclasses import replace

from wirebert.data.findings import Finding, format_row_count
from wirebert.data.schema.conversion import InvalidValues

UNREADABLE_FRACTION = 0.01
"""Above this fraction of a column's rows, times that cannot be read are told."""
_TOLD = (
    Finding(
        code="units_read",
        severity="info",
        message="column {column!r} has numbers with a unit or in another notation in {rows}, such as "
        "{example!r}; they are read as plain numbers (k, M and G are powers of 1000, Ki and Mi of 1024, "
        "times become seconds), so check that the exporter means this",
    ),
    Finding(
        code="values_matched",
        severity="info",
        message="column {column!r} has values of training in another spelling in {rows}, such as {example}; "
        "they are read as those",
    ),
    Finding(
        code="unreadable_times",
        severity="warning",
        message="column {column!r} has a time that cannot be read in {rows}, such as {example!r}; these are "
        "read as missing, so write them as ISO 8601 or as seconds since 1970",
    ),
    Finding(
        code="times_written_differently",
        severity="warning",
        message="column {column!r} has its times in {example}; they are read as this file writes them, so "
        "check that the dates are right",
    ),
)


def noted_findings(invalid_values: InvalidValues) -> Iterator[Finding]:
    """What was noted while rows were read: units, spellings, and times that are unreadable or odd."""
    for told in _TOLD:
        for column, (count, example) in invalid_values.noted.get(told.code, {}).items():
            if told.code == "unreadable_times" and count <= UNREADABLE_FRACTION * invalid_values.num_rows:
                continue
            rows = format_row_count(count, invalid_values.num_rows)
            message = told.message.format(column=column, rows=rows, example=example)
            yield replace(told, column=column, count=count, example=example, message=message)
