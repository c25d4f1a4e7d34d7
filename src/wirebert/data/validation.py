"""What a person should know about a traffic table before trusting a model made from it.

Each check is a small function from a survey to findings. A finding changes nothing; it says what is there and what to
do about it. Rows are counted from 1, without the header.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from wirebert.data.labels import ClassMap, imbalance_ratio
from wirebert.data.schema import ColumnKind
from wirebert.data.survey import Survey

MISSING_WARNING_SHARE = 0.5
"""A column of which more than this share is missing is a warning, below it is information."""
IMBALANCE_LIMIT = 20.0
"""Largest class over smallest class from which imbalance is reported."""
RARE_CLASS_ROWS = 50
"""Classes with fewer rows are reported: figures on them say little."""
IDENTIFIER_ROWS = 50
"""Below this many values, all different is no sign of an identifier."""

Severity = Literal["error", "warning", "info"]
_SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing found in the data, with its remedy."""

    code: str
    """Stable name of the check, such as `duplicate_rows`."""
    severity: Severity
    column: str | None
    """The column concerned; None for the whole table."""
    count: int
    """Rows concerned (`conflicting_labels` and `rare_class` too)."""
    example: str
    """One case of it, such as a value or a row."""
    message: str
    """What it is and what to do, in one sentence."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What the checks look at: a survey, and the class (or label) of each row."""

    survey: Survey
    classes: ClassMap | None
    class_names: tuple[str, ...]
    class_ids: Int64[np.ndarray, " rows"]  # -1: no label

    @property
    def counts(self) -> dict[str, int]:
        counts = np.bincount(self.class_ids + 1, minlength=len(self.class_names) + 1)[1:]
        return dict(zip(self.class_names, counts.tolist(), strict=True))


def validate(survey: Survey, classes: ClassMap | None = None) -> tuple[Finding, ...]:
    """All findings about one table, errors first, then by number of rows.

    With `classes`, labels are judged as the classes they map to; without, each label is its own class.
    """
    subject = _subject(survey, classes)
    findings = [finding for check in CHECKS for finding in check(subject)]
    return tuple(sorted(findings, key=lambda finding: (_SEVERITIES.index(finding.severity), -finding.count)))


def shared_rows(train: Survey, test: Survey) -> Finding | None:
    """Test rows whose features all equal those of some training row; None if there is none."""
    is_shared = np.isin(test.feature_hashes, train.feature_hashes)
    count = int(is_shared.sum())
    if not count:
        return None
    return Finding(
        code="shared_rows",
        severity="warning",
        column=None,
        count=count,
        example=_row(is_shared),
        message=f"{_rows(count, test.num_rows)} of {test.name} share all features with a row of {train.name}; "
        "read the figures on the other rows beside the total, because a model may know these by heart",
    )


def missing_values(subject: _Subject) -> list[Finding]:
    """Feature columns with missing values (columns that are missing everywhere are constant)."""
    return [
        Finding(
            code="missing_values",
            severity="warning" if column.num_missing > MISSING_WARNING_SHARE * column.num_rows else "info",
            column=column.column.name,
            count=column.num_missing,
            example="",
            message=f"column {column.column.name!r} is missing in {_rows(column.num_missing, column.num_rows)}; "
            "this is learned as a value of its own, so check that it does not merely mark the source of a row",
        )
        for column in subject.survey.columns
        if column.column.is_feature and 0 < column.num_missing < column.num_rows
    ]


def constant_columns(subject: _Subject) -> list[Finding]:
    """Feature columns that hold the same in every row."""
    return [
        Finding(
            code="constant_column",
            severity="warning",
            column=column.column.name,
            count=column.num_rows,
            example=column.example or "missing",
            message=f"column {column.column.name!r} is {column.example or 'missing'} in every row and tells nothing apart; "
            "set its kind to constant in the schema",
        )
        for column in subject.survey.columns
        if column.column.is_feature and column.is_constant and column.num_rows > 1
    ]


def identifier_like_columns(subject: _Subject) -> list[Finding]:
    """Feature columns, other than texts and fractions, of which no value repeats."""
    return [
        Finding(
            code="identifier_like",
            severity="error",
            column=column.column.name,
            count=column.num_rows - column.num_missing,
            example=column.example or "",
            message=f"column {column.column.name!r} has a different value in every row, as an identifier or counter has; "
            "set its kind to identifier in the schema, because a model would learn the order of the file from it",
        )
        for column in subject.survey.columns
        if column.column.is_feature
        and column.column.kind is not ColumnKind.TEXT
        and column.no_value_repeats
        and column.num_rows - column.num_missing >= IDENTIFIER_ROWS
        and (column.is_whole or not column.column.kind.is_numeric)
    ]


def duplicate_rows(subject: _Subject) -> list[Finding]:
    """Rows whose features equal those of an earlier row."""
    hashes, labels = subject.survey.feature_hashes, subject.survey.labels
    repeats = _repeats(hashes)
    count = int(repeats.sum())
    if not count:
        return []
    order = np.lexsort((labels, hashes))
    same = (np.diff(hashes[order]) == 0) & (np.diff(labels[order]) == 0)
    return [
        Finding(
            code="duplicate_rows",
            severity="info",
            column=None,
            count=count,
            example=_row(repeats),
            message=f"{_rows(count, len(hashes))} repeat the features of an earlier row ({int(same.sum()):,} with the same "
            "label); they never cross a split, but weigh more in training, so remove them if they come from copying",
        )
    ]


def conflicting_labels(subject: _Subject) -> list[Finding]:
    """Rows with equal features and different classes: no model can have all of them right."""
    is_labelled = subject.class_ids >= 0
    conflicts = _conflicts(subject.survey.feature_hashes[is_labelled], subject.class_ids[is_labelled])
    if not conflicts.any():
        return []
    hashes = subject.survey.feature_hashes[is_labelled]
    num_groups = len(np.unique(hashes[conflicts]))
    mixed = ""
    if subject.classes is not None and subject.classes.benign is not None:
        is_attack = (subject.class_ids[is_labelled] != 0).astype(np.int64)
        num_mixed = len(np.unique(hashes[_conflicts(hashes, is_attack)]))
        mixed = f" ({num_mixed:,} of the groups hold both {subject.classes.benign} and attack rows)"
    return [
        Finding(
            code="conflicting_labels",
            severity="warning",
            column=subject.survey.schema.label,
            count=int(conflicts.sum()),
            example=f"row {np.flatnonzero(is_labelled)[int(np.argmax(conflicts))] + 1}",
            message=f"{_rows(int(conflicts.sum()), subject.survey.num_rows)} in {num_groups:,} {'group' if num_groups == 1 else 'groups'} have equal features but "
            f"different classes{mixed}; no model can have all of them right, so add a column that tells them apart or correct the labels",
        )
    ]


def unlabelled_rows(subject: _Subject) -> list[Finding]:
    """Rows without a label, in a table that has a label column."""
    count = subject.survey.num_unlabelled
    has_labels = any(column.column.kind is ColumnKind.LABEL for column in subject.survey.columns)
    if not count or not has_labels:
        return []
    return [
        Finding(
            code="unlabelled_rows",
            severity="warning",
            column=subject.survey.schema.label,
            count=count,
            example=_row(subject.survey.labels < 0),
            message=f"{_rows(count, subject.survey.num_rows)} have no label and are left out of training and figures; "
            "label them if they belong to a class",
        )
    ]


def imbalance(subject: _Subject) -> list[Finding]:
    """A largest class more than `IMBALANCE_LIMIT` times as large as the smallest."""
    counts = _present(subject.counts)
    ratio = imbalance_ratio(counts)
    if ratio <= IMBALANCE_LIMIT:
        return []
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    return [
        Finding(
            code="imbalance",
            severity="warning",
            column=subject.survey.schema.label,
            count=counts[smallest],
            example=f"{largest}: {counts[largest]:,}, {smallest}: {counts[smallest]:,}",
            message=f"class {largest!r} has {ratio:,.0f} times as many rows as {smallest!r}; "
            "read macro-F1 and the figures per class rather than accuracy, and consider class weights",
        )
    ]


def rare_classes(subject: _Subject) -> list[Finding]:
    """Classes with fewer than `RARE_CLASS_ROWS` rows."""
    return [
        Finding(
            code="rare_class",
            severity="warning",
            column=subject.survey.schema.label,
            count=count,
            example=name,
            message=f"class {name!r} has only {count:,} rows, fewer than {RARE_CLASS_ROWS}; "
            "figures on it are uncertain, so gather more of it or map it to a broader class",
        )
        for name, count in _present(subject.counts).items()
        if count < RARE_CLASS_ROWS
    ]


CHECKS: tuple[Callable[[_Subject], list[Finding]], ...] = (
    identifier_like_columns,
    constant_columns,
    missing_values,
    duplicate_rows,
    conflicting_labels,
    unlabelled_rows,
    imbalance,
    rare_classes,
)
"""Every check that looks at one table."""


def _subject(survey: Survey, classes: ClassMap | None) -> _Subject:
    if classes is None:
        return _Subject(survey, None, survey.label_names, survey.labels.astype(np.int64))
    # Classes that training lacks are classes all the same here: they follow the known ones.
    names = dict.fromkeys([*classes.classes, *map(classes.class_of_label, survey.label_names)])
    index = {name: position for position, name in enumerate(names)}
    of_label = [index[classes.class_of_label(label)] for label in survey.label_names]
    return _Subject(survey, classes, tuple(names), np.array([*of_label, -1], np.int64)[survey.labels])


def _present(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > 0}


def _repeats(hashes: UInt64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """True where an earlier row has the same hash."""
    repeats = np.ones(len(hashes), bool)
    repeats[np.unique(hashes, return_index=True)[1]] = False
    return repeats


def _conflicts(
    hashes: UInt64[np.ndarray, " rows"], class_ids: Int64[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    """True where another row has the same hash and another class."""
    if not len(hashes):
        return np.zeros(0, bool)
    order = np.lexsort((class_ids, hashes))
    starts = np.flatnonzero(np.append(True, np.diff(hashes[order]) != 0))
    lengths = np.diff(np.append(starts, len(hashes)))
    sorted_ids = class_ids[order]
    is_mixed = sorted_ids[starts] != sorted_ids[starts + lengths - 1]  # sorted: first and last differ
    conflicts = np.empty(len(hashes), bool)
    conflicts[order] = np.repeat(is_mixed, lengths)
    return conflicts


def _row(mask: Bool[np.ndarray, " rows"]) -> str:
    return f"row {int(np.argmax(mask)) + 1}"


def _rows(count: int, total: int) -> str:
    share = 100 * count / max(total, 1)
    return f"{count:,} of {total:,} rows ({share:.1f} %)"
