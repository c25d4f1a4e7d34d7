"""Checks on single columns: missing, constant, mixed, impossible or duplicate values."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections import defaultdict
from collections.abc import Iterator
from shlex import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.checks.column_profile import ColumnProfile
from wirebert.data.checks.subject import Subject
from wirebert.data.findings import Finding, format_names, format_row_count
from wirebert.data.schema.schema import ColumnKind

MISSING_WARNING_FRACTION = 0.5
"""Above this fraction of missing values, the finding is a warning; below, it is informational."""
NEARLY = 0.999
"""A column is nearly constant if at least this fraction of rows has one value."""
NEVER_NEGATIVE = frozenset(
    "bytes byte packets packet pkts pkt count duration dur length len size port rate ttl num total".split()
)
NUMBER_TEXT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUTH_NAME = re.compile(r"(^|_)(is|has|was|logged)(_|$)|(ed|flag|login)$", re.IGNORECASE)
ODD_NAME = re.compile(r"[_.] | [_.]|\s{2,}|[\x00-\x1f]")


def missing_values(subject: Subject) -> Iterator[Finding]:
    """Feature columns with missing values (columns without any value count as constant)."""
    for column in subject.features:
        if 0 < column.num_missing < column.num_rows:
            is_most = column.num_missing > MISSING_WARNING_FRACTION * column.num_rows
            yield Finding(
                code="missing_values",
                severity="warning" if is_most else "info",
                column=column.name,
                count=column.num_missing,
                message=f"column {column.name!r} is missing in "
                f"{format_row_count(column.num_missing, column.num_rows)}; a missing value is learned as a "
                "separate value, so check that it does not merely reveal the source of a row",
            )


def constant_columns(subject: Subject) -> Iterator[Finding]:
    """Columns with the same value in every row that are, or would be, features."""
    of_kind = (column for column in subject.profile.columns if column.kind is ColumnKind.CONSTANT)
    for column in (*subject.features, *of_kind):
        if column.is_constant and column.num_rows > 1:
            value = column.example or "missing"
            yield Finding(
                code="constant_column",
                severity="warning",
                column=column.name,
                count=column.num_rows,
                example=value,
                message=f"column {column.name!r} is {value} in every row and carries no information; "
                + (
                    f"drop it with --drop {quote(column.name)}"
                    if column.is_feature
                    else "it is excluded from the features"
                ),
            )


def missing_markers(subject: Subject) -> Iterator[Finding]:
    """Markers of missing values, and the columns that use them."""
    columns: defaultdict[str, list[str]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for name, markers in subject.profile.invalid_values.markers.items():
        for text, count in markers.items():
            columns[text].append(name)
            counts[text] += count
    for text, names in columns.items():
        yield Finding(
            code="missing_markers",
            severity="info",
            column=names[0] if len(names) == 1 else None,
            count=counts[text],
            example=repr(text),
            message=f"{repr(text) if text else 'an empty field'} means a missing value in {len(names)} "
            f"column{'s' if len(names) > 1 else ''} ({format_names(names)}), {counts[text]:,} times; if it "
            "is a real value, set null_values of the column in the schema",
        )


def nearly_constant_columns(subject: Subject) -> Iterator[Finding]:
    """Features with one value in nearly all sampled rows, but not in all."""
    for column in subject.features:
        values = subject.sampled(column)
        if column.is_constant or len(values) < 1000:
            continue
        counts = pc.value_counts(values)
        top = int(np.argmax(counts.field("counts").to_numpy()))
        fraction = counts.field("counts")[top].as_py() / len(values)
        if fraction >= NEARLY:
            value = _shown(counts.field("values")[top].as_py())
            yield Finding(
                code="nearly_constant_column",
                severity="info",
                column=column.name,
                count=round(column.num_rows * (1 - fraction)),
                example=value,
                message=f"column {column.name!r} is {value} in {fraction:.2%} of the sampled rows; drop it "
                f"with --drop {quote(column.name)} unless the rare values matter",
            )


def mixed_types(subject: Subject) -> Iterator[Finding]:
    """Categories that are numbers in some rows and words in others."""
    for column in subject.features:
        if column.kind is not ColumnKind.CATEGORY:
            continue
        values = subject.sampled(column).drop_null()
        is_number = pc.match_substring_regex(values, NUMBER_TEXT)
        fraction = np.asarray(is_number, bool).sum() / max(1, len(values))
        if 0.02 < fraction < 0.98:
            word, numeral = (values.filter(mask)[0].as_py() for mask in (pc.invert(is_number), is_number))
            yield Finding(
                code="mixed_types",
                severity="info",
                column=column.name,
                count=round(min(fraction, 1 - fraction) * column.num_rows),
                example=f"{word!r} and {numeral!r}",
                message=f"column {column.name!r} has numbers in {fraction:.0%} of its rows and words in the "
                f"others ({numeral!r}, {word!r}); it is read as a category; if the words mean a missing "
                "value, declare the column a number in the schema and list them under null_values",
            )


def infinite_values(subject: Subject) -> Iterator[Finding]:
    """Infinite values, usually from a division by zero."""
    for column in subject.features:
        if column.num_infinite:
            yield Finding(
                code="infinite_values",
                severity="warning",
                column=column.name,
                count=column.num_infinite,
                example="inf",
                message=f"column {column.name!r} is infinite in "
                f"{format_row_count(column.num_infinite, column.num_rows)}; infinity is learned as a "
                "separate value, so check the division that produced it",
            )


def negative_values(subject: Subject) -> Iterator[Finding]:
    """Negative numbers in columns of counts, sizes and durations."""
    for column in subject.features:
        if column.num_negative and _is_never_negative(column):
            yield Finding(
                code="negative_values",
                severity="warning",
                column=column.name,
                count=column.num_negative,
                example=f"{column.minimum:g}",
                message=f"column {column.name!r} is negative in "
                f"{format_row_count(column.num_negative, column.num_rows)} (down to {column.minimum:g}), but "
                "counts and durations cannot be negative; check for overflow or for a marker such as -1",
            )


def _is_never_negative(column: ColumnProfile) -> bool:
    """Whether the kind, or a word of the name as in `FlowDuration`, rules out negative values."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.name).lower())
    kinds = (ColumnKind.COUNT, ColumnKind.DURATION, ColumnKind.PORT)
    return column.kind in kinds or not NEVER_NEGATIVE.isdisjoint(words)


def nearly_boolean_columns(subject: Subject) -> Iterator[Finding]:
    """Columns of 0 and 1, named like booleans, with other values in a few rows."""
    for column in subject.features:
        is_small = column.is_whole and column.minimum == 0 and (column.maximum or 0) >= 2
        if not is_small or not 3 <= column.num_distinct <= 4 or not TRUTH_NAME.search(column.name):
            continue
        values = subject.sampled(column).drop_null()
        is_flag = pc.is_in(values, value_set=pa.array([0.0, 1.0]))
        fraction = np.asarray(is_flag, bool).sum() / max(1, len(values))
        if fraction >= 0.99 and len(values) >= 100:
            yield Finding(
                code="nearly_boolean_column",
                severity="info",
                column=column.name,
                count=round((1 - fraction) * column.num_rows),
                example=f"{column.maximum:g}",
                message=f"column {column.name!r} is 0 or 1 except in {1 - fraction:.2%} of the rows (up to "
                f"{column.maximum:g}); check whether the other values are errors",
            )


def duplicate_columns(subject: Subject) -> Iterator[Finding]:
    """Features that equal another feature in every sampled row."""
    first: dict[object, str] = {}
    for column in subject.features:
        values = subject.sampled(column)
        if column.is_constant or not len(values):
            continue
        encoded = values.dictionary_encode()
        key = (encoded.indices.fill_null(-1).to_numpy().tobytes(), str(encoded.dictionary.to_pylist()))
        twin = first.setdefault(key, column.name)
        if twin != column.name:
            yield Finding(
                code="duplicate_column",
                severity="warning",
                column=column.name,
                count=column.num_rows,
                example=twin,
                message=f"column {column.name!r} equals {twin!r} in all {len(values):,} sampled rows; drop "
                f"it with --drop {quote(column.name)}",
            )


def odd_names(subject: Subject) -> Iterator[Finding]:
    """Column names with stray spaces, and names that had to be changed."""
    for column in subject.profile.columns:
        reason = _oddness(column)
        if reason is not None:
            yield Finding(
                code="odd_column_name",
                severity="info",
                column=column.name,
                example=column.name,
                message=f"column {column.name!r} has an odd name ({reason}); correct the header if other "
                "files spell it differently",
            )


def _oddness(column: ColumnProfile) -> str | None:
    if ODD_NAME.search(column.name):
        return "a stray space in the name"
    note = column.column.note
    return (
        note.split(";")[0] if note.startswith(("the name is blank", "the file has another column")) else None
    )


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:g}" if isinstance(value, float) else repr(value)
