"""Checks for label leaks: columns, or the order of rows, that predict the label.

How well one column alone predicts the label is measured on the sample. The predicted class of a row is the
most common class of the rows with the same value (of numbers with many values: of the rows in the same of
`NUM_BINS` bins). It is counted on one half of the rows and tested on the other half, and vice versa.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.checks.column_profile import ColumnProfile
from wirebert.data.checks.subject import Subject
from wirebert.data.findings import Finding, format_names
from wirebert.data.hashing import mix
from wirebert.data.schema.schema import ColumnKind
from wirebert.data.times import seconds_of
from wirebert.shapes import Int64

IDENTIFIER_ROWS = 50
"""With fewer values, distinct values do not make a column an identifier."""
NUM_BINS = 500
LEAK_MIN_ROWS = 200
"""With fewer labelled rows in the sample, no leak is reported."""
GAIN = 0.8
"""A column leaks the label from this fraction of the gap between the majority class's accuracy and 100 %."""
FEATURE_GAIN = 0.97
"""The same for features other than addresses, ports and times: some are legitimately strong."""
ENDPOINTS = (ColumnKind.ADDRESS, ColumnKind.PORT, ColumnKind.TIME, ColumnKind.IDENTIFIER)


class LabelGuess(NamedTuple):
    """Accuracy of predicting the label from one column."""

    accuracy: float
    base: float
    """Accuracy of always predicting the largest class."""

    @property
    def gain(self) -> float:
        """0: no better than the largest class; 1: always right."""
        return (self.accuracy - self.base) / (1 - self.base) if self.base < 1 else 0.0


def identifier_like_columns(subject: Subject) -> Iterator[Finding]:
    """Feature columns, other than texts and fractions, of which no value repeats."""
    for column in subject.features:
        num_present = column.num_rows - column.num_missing
        is_counted = column.is_whole or not column.kind.is_numeric
        is_unique = column.no_value_repeats and num_present >= IDENTIFIER_ROWS
        if is_unique and is_counted and column.kind is not ColumnKind.TEXT:
            yield Finding(
                code="identifier_like",
                severity="error",
                column=column.name,
                count=num_present,
                example=column.example or "",
                message=f"column {column.name!r} has a different value in every row, like an identifier or "
                f"a counter; drop it with --drop {quote(column.name)}, because a model would learn the "
                "order of the file from it",
            )


def label_leaking_columns(subject: Subject) -> Iterator[Finding]:
    """Columns that alone predict the label."""
    for column in subject.profile.columns:
        if column.is_constant or column.kind in (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED, ColumnKind.TEXT):
            continue
        limit = FEATURE_GAIN if _is_exposed(column) else GAIN
        for what, codes in _codes(subject, column):
            guess = _best_guess(subject, codes)
            if guess is not None and guess.gain >= limit:
                yield _label_leak(subject, column, what, guess)
                break


def _is_exposed(column: ColumnProfile) -> bool:
    """Whether the model sees the values themselves."""
    return column.is_feature and column.kind not in ENDPOINTS


def _label_leak(subject: Subject, column: ColumnProfile, what: str, guess: LabelGuess) -> Finding:
    name = column.name
    if _is_exposed(column):
        remedy = f"check that it is known before the label, or drop it with --drop {quote(name)}"
    elif column.is_feature:
        remedy = "the model sees only its kind, not its value; keep it that way"
    else:
        remedy = "it is excluded from the features; keep it that way"
    return Finding(
        code="label_leak",
        severity="warning" if _is_exposed(column) else "info",
        column=name,
        count=column.num_rows,
        example=f"{guess.accuracy:.4f}",
        message=f"column {name!r}{what} alone predicts the label of {guess.accuracy:.2%} of the rows "
        f"(majority class: {guess.base:.2%}){_one_network(subject, column)}; {remedy}",
    )


def sorted_by_label(subject: Subject) -> Iterator[Finding]:
    """Files sorted by class: the position of a row predicts its class."""
    rows = subject.profile.sample.rows
    if len(rows) < LEAK_MIN_ROWS:
        return
    codes = rows * _num_bins(len(rows)) // max(1, subject.profile.num_rows)
    guess = _best_guess(subject, codes.astype(np.int64))
    if guess is None or guess.gain < GAIN:
        return
    yield Finding(
        code="sorted_by_label",
        severity="info",
        column=subject.profile.schema.label,
        count=subject.profile.num_rows,
        example=f"{guess.accuracy:.4f}",
        message="the rows are sorted by label: the position in the file alone predicts the label of "
        f"{guess.accuracy:.2%} of them (majority class: {guess.base:.2%}); do not split by position, and "
        "drop columns that count rows",
    )


def label_derived_columns(subject: Subject) -> Iterator[Finding]:
    """Columns derived from the label: other labels, and values computed with it."""
    for column in subject.profile.columns:
        if column.kind is ColumnKind.LABEL_DERIVED:
            yield Finding(
                code="label_derived",
                severity="info",
                column=column.name,
                count=column.num_rows,
                example=column.example or "",
                message=f"column {column.name!r} is derived from the label "
                f"({column.column.note or 'declared in the schema'}) and is excluded from the features; "
                "keep it that way, because it is unknown when a flow is scored",
            )


def missing_with_a_class(subject: Subject) -> Iterator[Finding]:
    """Columns that are missing only in the rows of one class (or of all other classes)."""
    is_labelled = subject.sampled_ids >= 0
    class_ids = subject.sampled_ids[is_labelled]
    sizes = np.bincount(class_ids, minlength=len(subject.class_names))
    large = [index for index, size in enumerate(sizes) if min(size, len(class_ids) - size) >= 50]
    for column in subject.profile.columns:
        if not 0 < column.num_missing < column.num_rows or column.kind is ColumnKind.LABEL:
            continue
        is_missing = pc.is_null(subject.sampled(column)).to_numpy(zero_copy_only=False)[is_labelled]
        for index in large:
            num_others = int((is_missing != (class_ids == index)).sum())
            if num_others > 0.001 * min(sizes[index], len(class_ids) - sizes[index]):
                continue
            name = subject.class_names[index]
            yield Finding(
                code="missing_with_a_class",
                severity="warning" if column.is_feature else "info",
                column=column.name,
                count=column.num_missing,
                example=name,
                message=f"column {column.name!r} is missing exactly where the class is {name!r}; "
                + (
                    f"that leaks the label, so drop it with --drop {quote(column.name)}"
                    if column.is_feature
                    else "if it is the label, its empty values mean this class"
                ),
            )


def _codes(subject: Subject, column: ColumnProfile) -> list[tuple[str, Int64[np.ndarray, " sampled"]]]:
    """Ways to group the values; a missing value is a group too."""
    values = subject.sampled(column)
    if column.kind is ColumnKind.ADDRESS:
        networks = distinct_values(_networks(values))[1]
        return [("", distinct_values(values)[1]), (" (its network)", networks)]
    if column.kind in (ColumnKind.TIME, ColumnKind.IDENTIFIER) and not column.kind.is_numeric:
        seconds = seconds_of(values)
        if np.isfinite(seconds).mean() > 0.9:
            return [("", _bins(seconds))]
    if pa.types.is_floating(values.type):
        return [("", _bins(values.to_numpy(zero_copy_only=False)))]
    codes = distinct_values(values)[1]
    return [("", codes)] if codes.max(initial=0) <= len(codes) // 2 else []


def _networks(addresses: pa.Array) -> pa.Array:
    """IPv4 addresses with .x for the last octet; other addresses unchanged."""
    return pc.replace_substring_regex(addresses, r"^(\d+\.\d+\.\d+)\.\d+$", r"\1.x")


def _bins(numbers: np.ndarray) -> Int64[np.ndarray, " sampled"]:
    edges = np.unique(numbers[~np.isnan(numbers)])
    num_bins = _num_bins(len(numbers))
    if len(edges) > num_bins:
        finite = numbers[np.isfinite(numbers)]
        edges = np.unique(np.quantile(finite, np.linspace(0, 1, num_bins + 1)))
    return np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right")).astype(
        np.int64
    )


def _num_bins(num_rows: int) -> int:
    """Bins of at least eight rows, two to `NUM_BINS` of them."""
    return min(NUM_BINS, max(2, num_rows // 8))


def _best_guess(subject: Subject, codes: Int64[np.ndarray, " sampled"]) -> LabelGuess | None:
    """The better prediction from the codes: of the class, or of attack vs. benign."""
    class_ids = subject.sampled_ids
    is_labelled = class_ids >= 0
    class_ids, codes = class_ids[is_labelled], codes[is_labelled]
    if len(class_ids) < LEAK_MIN_ROWS or len(np.unique(class_ids)) < 2:
        return None
    candidates = [guess_label(codes, class_ids)]
    if subject.benign is not None and len(subject.class_names) > 2:
        candidates.append(guess_label(codes, (class_ids != 0).astype(np.int64)))
    return max(candidates, key=lambda guess: guess.gain)


def guess_label(codes: Int64[np.ndarray, " rows"], class_ids: Int64[np.ndarray, " rows"]) -> LabelGuess:
    """Accuracy of predicting each code's most common class, cross-validated over two halves of the rows.

    >>> guess_label(np.repeat([3, 8], 4), np.repeat([0, 1], 4))
    LabelGuess(accuracy=1.0, base=0.5)
    """
    _, codes = np.unique(codes, return_inverse=True)
    num_classes, num_codes = int(class_ids.max()) + 1, int(codes.max()) + 1
    # The halves are random, because classes may alternate.
    half = mix(np.arange(len(codes), dtype=np.uint64)) % np.uint64(2) == 0
    num_right = 0
    for counted in (half, ~half):
        table = np.bincount(
            codes[counted] * num_classes + class_ids[counted], minlength=num_codes * num_classes
        )
        table = table.reshape(num_codes, num_classes)
        fallback = int(table.sum(axis=0).argmax())
        best = np.where(table.sum(axis=1) > 0, table.argmax(axis=1), fallback)
        num_right += int((best[codes[~counted]] == class_ids[~counted]).sum())
    base = np.bincount(class_ids).max() / len(class_ids)
    return LabelGuess(num_right / len(codes), float(base))


def _one_network(subject: Subject, column: ColumnProfile) -> str:
    """A clause for the message if all attacks come from one network."""
    if subject.benign is None or column.kind is not ColumnKind.ADDRESS:
        return ""
    attacked = _networks(subject.sampled(column).filter(pa.array(subject.sampled_ids > 0)))
    distinct = [str(text) for text in pc.unique(attacked).to_pylist()]
    return f", and every attack row has {format_names(distinct)}" if len(distinct) == 1 else ""
