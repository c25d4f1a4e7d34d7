"""Checks on whole rows: rejected lines, equal rows, equal rows of different classes."""

from collections.abc import Iterator

from wirebert.data.checks.subject import Subject
from wirebert.data.findings import Finding, format_row_count


def duplicate_rows(subject: Subject) -> Iterator[Finding]:
    """Rows whose features equal those of an earlier row."""
    equal = subject.equal_rows
    if not equal.num_repeats:
        return
    yield Finding(
        code="duplicate_rows",
        severity="info",
        count=equal.num_repeats,
        example=f"row {equal.first_repeat + 1}",
        message=f"{_rows(equal.num_repeats, subject)} repeat the features of an earlier row "
        f"({equal.num_same_label:,} with the same label); they never cross a split, but have more "
        "weight in training, so remove them if they are copies",
    )


def conflicting_labels(subject: Subject) -> Iterator[Finding]:
    """Rows with equal features and different classes: no model can classify all of them correctly."""
    equal = subject.equal_rows
    if not equal.num_conflicts:
        return
    mixed = ""
    if subject.benign is not None:
        mixed = f" (both {subject.benign} and attack rows in {equal.num_mixed:,} of the groups)"
    yield Finding(
        code="conflicting_labels",
        severity="warning",
        column=subject.profile.schema.label,
        count=equal.num_conflicts,
        example=f"row {equal.first_conflict + 1}",
        message=f"{_rows(equal.num_conflicts, subject)} in {equal.num_groups:,} "
        f"{'group' if equal.num_groups == 1 else 'groups'} have equal features but different classes{mixed}; "
        "no model can classify all of them correctly, so add a column that separates them or correct the "
        "labels",
    )


def rows_equal_without_endpoints(subject: Subject) -> Iterator[Finding]:
    """Rows that equal an earlier row apart from addresses, ports and times."""
    hashes = subject.profile.inner_hashes
    if hashes is None:
        return
    equal = subject.equal_by(hashes)
    if not equal.num_repeats:
        return
    yield Finding(
        code="duplicates_without_endpoints",
        severity="info",
        count=equal.num_repeats,
        example=f"row {equal.first_repeat + 1}",
        message=f"{_rows(equal.num_repeats, subject)} duplicate an earlier row apart from "
        f"addresses, ports and times ({equal.num_same_label:,} with the same label); the metrics apply to "
        "this kind of traffic only, so also test on another capture",
    )


def texts_equal_in_shape(subject: Subject) -> Iterator[Finding]:
    """Rows that equal an earlier row except for digits in texts."""
    hashes = subject.profile.shape_hashes
    if hashes is None:
        return
    equal = subject.equal_by(hashes)
    num_more = equal.num_repeats - subject.equal_rows.num_repeats
    if not num_more:
        return
    yield Finding(
        code="near_duplicate_texts",
        severity="info",
        count=num_more,
        example=f"row {equal.first_repeat + 1}",
        message=f"{_rows(num_more, subject)} equal an earlier row after replacing digits "
        "with 0; a random split puts such rows in both splits, so its metrics are an upper bound",
    )


def _rows(count: int, subject: Subject) -> str:
    return format_row_count(count, subject.profile.num_rows)
