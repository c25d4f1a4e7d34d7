"""Checks on whole rows: rejected lines, equal rows, equal rows of different classes."""

from collections.abc import Iterator

import numpy as np

from wirebert.data.checks.subject import Subject
from wirebert.data.findings import Finding, format_row_count, row_name
from wirebert.shapes import Bool, Int32, Int64, Shaped, UInt64


def duplicate_rows(subject: Subject) -> Iterator[Finding]:
    """Rows whose features equal those of an earlier row."""
    hashes, labels = subject.profile.feature_hashes, subject.profile.labels
    repeats = repeats_of(hashes)
    count = int(repeats.sum())
    if not count:
        return
    yield Finding(
        code="duplicate_rows",
        severity="info",
        count=count,
        example=row_name(repeats),
        message=f"{format_row_count(count, len(hashes))} repeat the features of an earlier row "
        f"({same_label(hashes, labels):,} with the same label); they never cross a split, but have more "
        "weight in training, so remove them if they are copies",
    )


def conflicting_labels(subject: Subject) -> Iterator[Finding]:
    """Rows with equal features and different classes: no model can classify all of them correctly."""
    is_labelled = subject.class_ids >= 0
    hashes, class_ids = subject.profile.feature_hashes[is_labelled], subject.class_ids[is_labelled]
    conflicts = conflicts_of(hashes, class_ids)
    if not conflicts.any():
        return
    num_groups = len(np.unique(hashes[conflicts]))
    mixed = ""
    if subject.benign is not None:
        is_attack = (class_ids != 0).astype(np.int64)
        num_mixed = len(np.unique(hashes[conflicts_of(hashes, is_attack)]))
        mixed = f" (both {subject.benign} and attack rows in {num_mixed:,} of the groups)"
    yield Finding(
        code="conflicting_labels",
        severity="warning",
        column=subject.profile.schema.label,
        count=int(conflicts.sum()),
        example=f"row {np.flatnonzero(is_labelled)[int(np.argmax(conflicts))] + 1}",
        message=f"{format_row_count(int(conflicts.sum()), subject.profile.num_rows)} in {num_groups:,} "
        f"{'group' if num_groups == 1 else 'groups'} have equal features but different classes{mixed}; no "
        "model can classify all of them correctly, so add a column that separates them or correct the labels",
    )


def same_label(hashes: UInt64[np.ndarray, " rows"], labels: Int32[np.ndarray, " rows"]) -> int:
    """Number of rows with both the hash and the label of an earlier row."""
    order = np.lexsort((labels, hashes))
    return int((_equals_next(hashes[order]) & _equals_next(labels[order])).sum())


def repeats_of(hashes: UInt64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
    """True where an earlier row has the same hash."""
    repeats = np.zeros(len(hashes), bool)
    order = np.argsort(hashes, kind="stable")
    repeats[order[1:][_equals_next(hashes[order])]] = True
    return repeats


def conflicts_of(
    hashes: UInt64[np.ndarray, " rows"], class_ids: Int64[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    """True where another row has the same hash and another class."""
    if not len(hashes):
        return np.zeros(0, bool)
    # 64-bit arrays are used sparingly: each takes 80 MB at ten million rows.
    order = np.lexsort((class_ids, hashes))
    is_same = _equals_next(hashes[order])
    group = np.zeros(len(hashes), np.int32)
    np.cumsum(~is_same, out=group[1:])
    is_mixed = np.zeros(int(group[-1]) + 1, bool)
    is_mixed[group[1:][is_same & ~_equals_next(class_ids[order])]] = True
    conflicts = np.empty(len(hashes), bool)
    conflicts[order] = is_mixed[group]
    return conflicts


def _equals_next(values: Shaped[np.ndarray, " rows"]) -> Bool[np.ndarray, " pairs"]:
    return values[1:] == values[:-1]


def rows_equal_without_endpoints(subject: Subject) -> Iterator[Finding]:
    """Rows that equal an earlier row apart from addresses, ports and times."""
    hashes = subject.profile.inner_hashes
    if hashes is None:
        return
    repeats = repeats_of(hashes)
    if not repeats.any():
        return
    num_same = same_label(hashes, subject.profile.labels)
    yield Finding(
        code="duplicates_without_endpoints",
        severity="info",
        count=int(repeats.sum()),
        example=row_name(repeats),
        message=f"{format_row_count(int(repeats.sum()), len(hashes))} duplicate an earlier row apart from "
        f"addresses, ports and times ({num_same:,} with the same label); the metrics apply to this kind of "
        "traffic only, so also test on another capture",
    )


def texts_equal_in_shape(subject: Subject) -> Iterator[Finding]:
    """Rows that equal an earlier row except for digits in texts."""
    hashes = subject.profile.shape_hashes
    if hashes is None:
        return
    repeats = repeats_of(hashes)
    num_more = int(repeats.sum()) - int(repeats_of(subject.profile.feature_hashes).sum())
    if not num_more:
        return
    yield Finding(
        code="near_duplicate_texts",
        severity="info",
        count=num_more,
        example=row_name(repeats),
        message=f"{format_row_count(num_more, len(hashes))} equal an earlier row after replacing digits "
        "with 0; a random split puts such rows in both splits, so its metrics are an upper bound",
    )
