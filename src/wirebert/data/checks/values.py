"""Checks on single columns: what is missing, constant, mixed, impossible, or there twice."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections import defaultdict
from shlex import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.findings import Finding, Subject, rows_of, some
from wirebert.data.schema import ColumnKind
from wirebert.data.survey import ColumnSurvey

MISSING_WARNING_SHARE = 0.5
"""A column of which more than this share is missing is a warning, below it is information."""
NEARLY = 0.999
"""Share of rows with one value from which a column is nearly constant."""
NEVER_NEGATIVE = frozenset(
    "bytes byte packets packet pkts pkt count duration dur length len size port rate ttl num total".split()
)
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
TRUTH_NAME = re.compile(r"(^|_)(is|has|was|logged)(_|$)|(ed|flag|login)$", re.IGNORECASE)
ODD_NAME = re.compile(r"[_.] | [_.]|\s{2,}|[\x00-\x1f]")


def missing_values(subject: Subject) -> list[Finding]:
    """Feature columns with missing values (columns that are missing everywhere are constant)."""
    return [
        Finding(
            code="missing_values",
            severity="warning" if column.num_missing > MISSING_WARNING_SHARE * column.num_rows else "info",
            column=column.column.name,
            count=column.num_missing,
            example="",
            message=f"column {column.column.name!r} is missing in {rows_of(column.num_missing, column.num_rows)}; "
            "this is learned as a value of its own, so check that it does not merely mark the source of a row",
        )
        for column in subject.survey.columns
        if column.column.is_feature
        and 0 < column.num_missing < column.num_rows
        # A share or variation of no flows is missing by its nature.
        and not subject.survey.schema.is_context(column.column.name)
    ]


def constant_columns(subject: Subject) -> list[Finding]:
    """Feature columns that hold the same in every row."""
    return [
        Finding(
            code="constant_column",
            severity="warning",
            column=column.column.name,
            count=column.num_rows,
            example=column.example or "missing",
            message=f"column {column.column.name!r} is {column.example or 'missing'} in every row and tells nothing apart; "
            f"--drop {quote(column.column.name)} leaves it out",
        )
        for column in subject.survey.columns
        if (column.column.is_feature or column.column.kind is ColumnKind.CONSTANT)
        and column.is_constant
        and column.num_rows > 1
    ]


def missing_markers(subject: Subject) -> list[Finding]:
    """How missing values are written, and in how many columns."""
    columns: defaultdict[str, list[str]] = defaultdict(list)
    counts: defaultdict[str, int] = defaultdict(int)
    for name, markers in subject.survey.misfits.markers.items():
        for text, count in markers.items():
            columns[text].append(name)
            counts[text] += count
    return [
        Finding(
            code="missing_markers",
            severity="info",
            column=names[0] if len(names) == 1 else None,
            count=counts[text],
            example=repr(text),
            message=f"{repr(text) if text else 'an empty field'} stands for a missing value in {len(names)} "
            f"column{'s' if len(names) > 1 else ''} ({some(names)}), {counts[text]:,} times; if it is a value, set "
            "null_values of the column in the schema",
        )
        for text, names in columns.items()
    ]


def nearly_constant_columns(subject: Subject) -> list[Finding]:
    """Features that hold one value in (nearly) all rows looked at, but not in all."""
    findings: list[Finding] = []
    for column in _features(subject):
        values = _sampled(subject, column)
        if column.is_constant or len(values) < 1000:
            continue
        counts = pc.value_counts(values)
        top = int(np.argmax(counts.field("counts").to_numpy()))
        share = counts.field("counts")[top].as_py() / len(values)
        if share >= NEARLY:
            value = counts.field("values")[top].as_py()
            findings.append(
                Finding(
                    code="nearly_constant_column",
                    severity="info",
                    column=column.column.name,
                    count=round(column.num_rows * (1 - share)),
                    example=_shown(value),
                    message=f"column {column.column.name!r} is {_shown(value)} in {share:.2%} of the rows looked at; keep it "
                    "only if the other rows matter to you",
                )
            )
    return findings


def mixed_types(subject: Subject) -> list[Finding]:
    """Categories that are numbers in some rows and words in others."""
    findings: list[Finding] = []
    for column in _features(subject):
        if column.column.kind is not ColumnKind.CATEGORY:
            continue
        values = _sampled(subject, column).drop_null()
        if not len(values):
            continue
        is_number = pc.match_substring_regex(values, NUMBER)
        share = (pc.sum(is_number.cast(pa.int64())).as_py() or 0) / len(values)
        if 0.02 < share < 0.98:
            word, number = (values.filter(chosen)[0].as_py() for chosen in (pc.invert(is_number), is_number))
            findings.append(
                Finding(
                    code="mixed_types",
                    severity="info",
                    column=column.column.name,
                    count=round(min(share, 1 - share) * column.num_rows),
                    example=f"{word!r} and {number!r}",
                    message=f"column {column.column.name!r} holds numbers in {share:.0%} of its rows and words in the others "
                    f"({number!r}, {word!r}); it is read as a category, so declare it a number and list the words under "
                    "null_values if they mean that there is none",
                )
            )
    return findings


def misfits(subject: Subject) -> list[Finding]:
    """Values that are no numbers in columns of numbers."""
    found = subject.survey.misfits
    return [
        Finding(
            code="misfits",
            severity="warning",
            column=name,
            count=count,
            example=f"{found.examples[name][0].place}: {found.examples[name][0].value}",
            message=f"column {name!r} holds no number in {rows_of(count, found.num_rows)} ("
            f"{found.examples[name][0].place}: {found.examples[name][0].value!r}); these are read as missing, so correct them "
            "or declare the column a category",
        )
        for name, count in found.counts.items()
        if count
    ]


def infinite_values(subject: Subject) -> list[Finding]:
    """Infinities, which come from divisions by zero."""
    return [
        Finding(
            code="infinite_values",
            severity="warning",
            column=column.column.name,
            count=column.num_infinite,
            example="inf",
            message=f"column {column.column.name!r} is infinite in {rows_of(column.num_infinite, column.num_rows)}; this is "
            "learned as a value of its own, so check the division that made it",
        )
        for column in _features(subject)
        if column.num_infinite
    ]


def negative_values(subject: Subject) -> list[Finding]:
    """Negative numbers in columns that count or measure."""
    kinds = (ColumnKind.COUNT, ColumnKind.DURATION, ColumnKind.PORT)
    return [
        Finding(
            code="negative_values",
            severity="warning",
            column=column.column.name,
            count=column.num_negative,
            example=f"{column.minimum:g}",
            message=f"column {column.column.name!r} is negative in {rows_of(column.num_negative, column.num_rows)} (down to "
            f"{column.minimum:g}), where counts and durations never are; check for overflow or a marker such as -1",
        )
        for column in _features(subject)
        if column.num_negative
        and (
            column.column.kind in kinds
            or NEVER_NEGATIVE
            & set(re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.column.name).lower()))
        )
    ]


def nearly_boolean_columns(subject: Subject) -> list[Finding]:
    """Columns of 0 and 1, by their names truth values, that hold something else in a few rows."""
    findings: list[Finding] = []
    for column in _features(subject):
        is_small = column.is_whole and column.minimum == 0 and (column.maximum or 0) >= 2
        if not is_small or not 3 <= column.num_distinct <= 4 or not TRUTH_NAME.search(column.column.name):
            continue
        values = _sampled(subject, column).drop_null()
        is_flag = pc.is_in(values, value_set=pa.array([0.0, 1.0]))
        share = (pc.sum(is_flag.cast(pa.int64())).as_py() or 0) / max(1, len(values))
        if share >= 0.99 and len(values) >= 100:
            findings.append(
                Finding(
                    code="nearly_boolean_column",
                    severity="info",
                    column=column.column.name,
                    count=round((1 - share) * column.num_rows),
                    example=f"{column.maximum:g}",
                    message=f"column {column.column.name!r} is 0 or 1 but for {1 - share:.2%} of the rows (up to "
                    f"{column.maximum:g}); check whether the other values are mistakes",
                )
            )
    return findings


def duplicate_columns(subject: Subject) -> list[Finding]:
    """Features that equal another one in every row looked at."""
    first: dict[object, str] = {}
    findings: list[Finding] = []
    for column in _features(subject):
        values = _sampled(subject, column)
        if column.is_constant or not len(values):
            continue
        encoded = values.dictionary_encode()
        key = (encoded.indices.fill_null(-1).to_numpy().tobytes(), str(encoded.dictionary.to_pylist()))
        twin = first.setdefault(key, column.column.name)
        if twin != column.column.name:
            findings.append(
                Finding(
                    code="duplicate_column",
                    severity="warning",
                    column=column.column.name,
                    count=column.num_rows,
                    example=twin,
                    message=f"column {column.column.name!r} equals {twin!r} in all {len(values):,} rows looked at; leave "
                    f"it out with --drop {quote(column.column.name)}",
                )
            )
    return findings


def odd_names(subject: Subject) -> list[Finding]:
    """Column names with stray blanks, and names that had to be changed."""
    return [
        Finding(
            code="odd_column_name",
            severity="info",
            column=column.column.name,
            count=0,
            example=column.column.name,
            message=f"column {column.column.name!r} is oddly named ({reason}); correct the header if other files "
            "spell it otherwise",
        )
        for column in subject.survey.columns
        if (reason := _oddness(column)) is not None
    ]


def _oddness(column: ColumnSurvey) -> str | None:
    if ODD_NAME.search(column.column.name):
        return "a stray blank in the name"
    notes = ("the name is blank", "the file has another column")
    return column.column.note.split(";")[0] if column.column.note.startswith(notes) else None


def _features(subject: Subject) -> list[ColumnSurvey]:
    return [column for column in subject.survey.columns if column.column.is_feature]


def _sampled(subject: Subject, column: ColumnSurvey) -> pa.Array:
    return subject.survey.sample.table[column.column.name].combine_chunks()


def _shown(value: object) -> str:
    if value is None:
        return "missing"
    return f"{value:g}" if isinstance(value, float) else repr(value)
