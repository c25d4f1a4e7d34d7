"""What a person should know about a traffic table before trusting a model made from it.

Each check is a small function from what was seen of a table to findings. A finding changes nothing; it says what is there
and what to do about it. Rows are counted from 1, without the header; lines from 1, with all that the file has.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from wirebert.data.checks.comparison import (
    drift,
    known_endpoints,
    missing_classes,
    new_labels,
    shared_shapes,
    time_overlap,
    train_overlap,
)
from wirebert.data.checks.findings import CODES, SEVERITIES, Finding, Severity, Subject, subject_of
from wirebert.data.checks.labels import (
    benign_unknown,
    imbalance,
    label_spellings,
    padded_values,
    rare_classes,
    unlabelled_rows,
)
from wirebert.data.checks.leaks import (
    identifier_like_columns,
    label_derived_columns,
    label_leaking_columns,
    missing_with_a_class,
    sorted_by_label,
)
from wirebert.data.checks.profile import TableProfile
from wirebert.data.checks.rows import (
    conflicting_labels,
    duplicate_rows,
    lines_after_the_table,
    lines_set_aside,
    rows_equal_without_endpoints,
    texts_equal_in_shape,
)
from wirebert.data.checks.values import (
    constant_columns,
    duplicate_columns,
    infinite_values,
    invalid_values,
    missing_markers,
    missing_values,
    mixed_types,
    nearly_boolean_columns,
    nearly_constant_columns,
    negative_values,
    odd_names,
)
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import missing_name
from wirebert.errors import ConfigError, DataError

__all__ = [
    "Finding",
    "Severity",
    "check_unscored_rows",
    "compare_with_training",
    "mark_accepted",
    "require_no_errors",
    "validate",
]

CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    lines_set_aside,
    lines_after_the_table,
    odd_names,
    identifier_like_columns,
    constant_columns,
    nearly_constant_columns,
    duplicate_columns,
    missing_values,
    missing_markers,
    missing_with_a_class,
    invalid_values,
    mixed_types,
    infinite_values,
    negative_values,
    nearly_boolean_columns,
    padded_values,
    label_spellings,
    label_derived_columns,
    label_leaking_columns,
    sorted_by_label,
    duplicate_rows,
    rows_equal_without_endpoints,
    texts_equal_in_shape,
    conflicting_labels,
    unlabelled_rows,
    benign_unknown,
    imbalance,
    rare_classes,
)
"""Every check that looks at one table."""

COMPARISONS: tuple[Callable[[Subject, Subject], Iterable[Finding]], ...] = (
    train_overlap,
    shared_shapes,
    new_labels,
    missing_classes,
    known_endpoints,
    time_overlap,
    drift,
)
"""Every check that looks at training and test data."""


def validate(survey: TableProfile, classes: ClassMap | None = None) -> tuple[Finding, ...]:
    """All findings about one table, errors first, then by number of rows.

    With `classes`, labels are judged as the classes they map to; without, each label is its own class.
    """
    subject = subject_of(survey, classes)
    return _in_order(finding for check in CHECKS for finding in check(subject))


LEFT_OUT: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    lines_set_aside,
    lines_after_the_table,
    invalid_values,
    unlabelled_rows,
)
"""The checks among them that say which rows and values count in no figure."""


def check_unscored_rows(survey: TableProfile) -> tuple[Finding, ...]:
    """What of a table counts in no figure: rows in the file are rows judged and rows named here."""
    subject = subject_of(survey, None)
    return _in_order(
        replace(finding, message=f"{survey.name}: {finding.message}")
        for check in LEFT_OUT
        for finding in check(subject)
    )


def compare_with_training(
    train: TableProfile, test: TableProfile, classes: ClassMap | None = None
) -> tuple[Finding, ...]:
    """All findings about test data beside its training data; to be made after the model is saved."""
    sides = subject_of(train, classes), subject_of(test, classes)
    return _in_order(finding for check in COMPARISONS for finding in check(*sides))


def mark_accepted(findings: Iterable[Finding], accept: Sequence[str]) -> tuple[Finding, ...]:
    """The findings, those marked as accepted that `code` or `code:column` names.

    Raises:
        ConfigError: a code that no check has.

    >>> mark_accepted([], ["duplicate_rows:"])
    Traceback (most recent call last):
    wirebert.errors.ConfigError: data.accepted_findings must name findings as code or code:column, got 'duplicate_rows:'
    """
    for name in accept:
        code, colon, column = name.partition(":")
        if not code or (colon and not column):
            raise ConfigError(
                f"data.accepted_findings must name findings as code or code:column, got {name!r}"
            )
        if code not in CODES:
            raise ConfigError(f"data.accepted_findings: {missing_name('finding', code, CODES)}")
    names = set(accept)
    return tuple(
        replace(finding, is_accepted=bool(names & {finding.code, f"{finding.code}:{finding.column}"}))
        for finding in findings
    )


def require_no_errors(findings: Iterable[Finding], where: str) -> None:
    """Raise a DataError if a finding is an error that is not accepted."""
    errors = [finding for finding in findings if finding.severity == "error" and not finding.is_accepted]
    if errors:
        first = errors[0]
        name = first.code if first.column is None else f"{first.code}:{first.column}"
        raise DataError(
            f"{where}: {len(errors)} finding{'s' if len(errors) > 1 else ''} of severity error, first {first.message}; or "
            f"accept it with data.accepted_findings={name!r}"
        )


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count)))
