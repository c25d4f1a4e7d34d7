"""Checks on single columns: what is missing, constant, mixed, impossible, or there twice."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections import defaultdict
from collections.abc import Iterator
from shlex import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.checks.findings import Finding, Subject, format_names, format_row_count
from wirebert.data.checks.profile import ColumnProfile
from wirebert.data.schema.schema import ColumnKind

MISSING_WARNING_SHARE = 0.5
"""A column of which more than this share is missing is a warning, below it is information."""
NEARLY = 0.999
"""Share of rows with one value from which a column is nearly constant."""
NEVER_NEGATIVE = frozenset(
    "bytes byte packets packet pkts pkt count duration dur length len size port rate ttl num total".split()
)
NUMBER_TEXT = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUTH_NAME = re.compile(r"(^|_)(is|has|was|logged)(_|$)|(ed|flag|login)$", re.IGNORECASE)
ODD_NAME = re.compile(r"[_.] | [_.]|\s{2,}|[\x00-\x1f]")


def missing_values(subject: Subject) -> Iterator[Finding]:
    """Feature columns with missing values (columns that are missing everywhere are constant)."""
    for column in subject.features:
        if 0 < column.num_missing < column.num_rows:
            is_most = column.num_missing > MISSING_WARNING_SHARE * column.num_rows
            yield Finding(
                code="missing_values",
                severity="warning" if is_most else "info",
                column=column.name,
                count=column.num_missing,
                example="",
                message=f"column {column.name!r} is missing in {format_row_count(column.num_missing, column.num_rows)}; "
                "this is learned as a value of its own, so check that it does not merely mark the source of a row",
            )


def constant_columns(subject: Subject) -> Iterator[Finding]:
    """Columns that hold the same in every row, and are features or would be."""
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
                message=f"column {column.name!r} is {value} in every row and tells nothing apart; "
                + (f"--drop {quote(column.name)} leaves it out" if column.is_feature else "it is left out"),
            )


def missing_markers(subject: Subject) -> Iterator[Finding]:
    """How missing values are written, and in how many columns."""
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
            message=f"{repr(text) if text else 'an empty field'} stands for a missing value in {len(names)} "
            f"column{'s' if len(names) > 1 else ''} ({format_names(names)}), {counts[text]:,} times; if it is a value, set "
            "null_values of the column in the schema",
        )


def nearly_constant_columns(subject: Subject) -> Iterator[Finding]:
    """Features that hold one value in (nearly) all rows looked at, but not in all."""
    for column in subject.features:
        values = subject.sampled(column)
        if column.is_constant or len(values) < 1000:
            continue
        counts = pc.value_counts(values)
        top = int(np.argmax(counts.field("counts").to_numpy()))
        share = counts.field("counts")[top].as_py() / len(values)
        if share >= NEARLY:
            value = _shown(counts.field("values")[top].as_py())
            yield Finding(
                code="nearly_constant_column",
                severity="info",
                column=column.name,
                count=round(column.num_rows * (1 - share)),
                example=value,
                message=f"column {column.name!r} is {value} in {share:.2%} of the rows looked at; keep it "
                "only if the other rows matter to you",
            )


def mixed_types(subject: Subject) -> Iterator[Finding]:
    """Categories that are numbers in some rows and words in others."""
    for column in subject.features:
        if column.kind is not ColumnKind.CATEGORY:
            continue
        values = subject.sampled(column).drop_null()
        is_number = pc.match_substring_regex(values, NUMBER_TEXT)
        share = np.asarray(is_number, bool).sum() / max(1, len(values))
        if 0.02 < share < 0.98:
            word, number = (values.filter(chosen)[0].as_py() for chosen in (pc.invert(is_number), is_number))
            yield Finding(
                code="mixed_types",
                severity="info",
                column=column.name,
                count=round(min(share, 1 - share) * column.num_rows),
                example=f"{word!r} and {number!r}",
                message=f"column {column.name!r} holds numbers in {share:.0%} of its rows and words in the others "
                f"({number!r}, {word!r}); it is read as a category, so declare it a number and list the words under "
                "null_values if they mean that there is none",
            )


def invalid_values(subject: Subject) -> Iterator[Finding]:
    """Values that are no numbers in columns of numbers."""
    found = subject.profile.invalid_values
    for name, count in found.counts.items():
        if not count:  # a block without misfits is counted too
            continue
        first = found.examples[name][0]
        yield Finding(
            code="invalid_values",
            severity="warning",
            column=name,
            count=count,
            example=f"{first.place}: {first.value}",
            message=f"column {name!r} holds no number in {format_row_count(count, found.num_rows)} ({first.place}: {first.value!r}); "
            "these are read as missing, so correct them or declare the column a category",
        )


def infinite_values(subject: Subject) -> Iterator[Finding]:
    """Infinities, which come from divisions by zero."""
    for column in subject.features:
        if column.num_infinite:
            yield Finding(
                code="infinite_values",
                severity="warning",
                column=column.name,
                count=column.num_infinite,
                example="inf",
                message=f"column {column.name!r} is infinite in {format_row_count(column.num_infinite, column.num_rows)}; this is "
                "learned as a value of its own, so check the division that made it",
            )


def negative_values(subject: Subject) -> Iterator[Finding]:
    """Negative numbers in columns that count or measure."""
    for column in subject.features:
        if column.num_negative and _is_never_negative(column):
            yield Finding(
                code="negative_values",
                severity="warning",
                column=column.name,
                count=column.num_negative,
                example=f"{column.minimum:g}",
                message=f"column {column.name!r} is negative in {format_row_count(column.num_negative, column.num_rows)} (down to "
                f"{column.minimum:g}), where counts and durations never are; check for overflow or a marker such as -1",
            )


def _is_never_negative(column: ColumnProfile) -> bool:
    """By its kind or by a word of its name: `FlowDuration` and `dst_pkts` have one."""
    words = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.name).lower())
    kinds = (ColumnKind.COUNT, ColumnKind.DURATION, ColumnKind.PORT)
    return column.kind in kinds or not NEVER_NEGATIVE.isdisjoint(words)


def nearly_boolean_columns(subject: Subject) -> Iterator[Finding]:
    """Columns of 0 and 1, by their names truth values, that hold something else in a few rows."""
    for column in subject.features:
        is_small = column.is_whole and column.minimum == 0 and (column.maximum or 0) >= 2
        if not is_small or not 3 <= column.num_distinct <= 4 or not TRUTH_NAME.search(column.name):
            continue
        values = subject.sampled(column).drop_null()
        is_flag = pc.is_in(values, value_set=pa.array([0.0, 1.0]))
        share = np.asarray(is_flag, bool).sum() / max(1, len(values))
        if share >= 0.99 and len(values) >= 100:
            yield Finding(
                code="nearly_boolean_column",
                severity="info",
                column=column.name,
                count=round((1 - share) * column.num_rows),
                example=f"{column.maximum:g}",
                message=f"column {column.name!r} is 0 or 1 but for {1 - share:.2%} of the rows (up to "
                f"{column.maximum:g}); check whether the other values are mistakes",
            )


def duplicate_columns(subject: Subject) -> Iterator[Finding]:
    """Features that equal another one in every row looked at."""
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
                message=f"column {column.name!r} equals {twin!r} in all {len(values):,} rows looked at; leave "
                f"it out with --drop {quote(column.name)}",
            )


def odd_names(subject: Subject) -> Iterator[Finding]:
    """Column names with stray blanks, and names that had to be changed."""
    for column in subject.profile.columns:
        reason = _oddness(column)
        if reason is not None:
            yield Finding(
                code="odd_column_name",
                severity="info",
                column=column.name,
                count=0,
                example=column.name,
                message=f"column {column.name!r} is oddly named ({reason}); correct the header if other files "
                "spell it otherwise",
            )


def _oddness(column: ColumnProfile) -> str | None:
    if ODD_NAME.search(column.name):
        return "a stray blank in the name"
    note = column.column.note
    return (
        note.split(";")[0] if note.startswith(("the name is blank", "the file has another column")) else None
    )


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:g}" if isinstance(value, float) else repr(value)
