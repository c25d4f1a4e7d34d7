"""Problems of a traffic table that matter for a model trained on it.

Each check is a small function from the profile of a table to findings. A finding names the problem and the
remedy, and changes nothing. Rows are counted from 1 without the header, lines from 1 over the whole file.
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
from wirebert.data.checks.labels import (
    benign_unknown,
    control_characters,
    doubtful_labels,
    imbalance,
    label_spellings,
    labels_matched,
    only_attack_or_not,
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
    rows_equal_without_endpoints,
    texts_equal_in_shape,
)
from wirebert.data.checks.subject import Subject, subject_of
from wirebert.data.checks.unread import unread
from wirebert.data.checks.values import (
    constant_columns,
    duplicate_columns,
    infinite_values,
    missing_markers,
    missing_values,
    mixed_types,
    nearly_boolean_columns,
    nearly_constant_columns,
    negative_values,
    odd_names,
)
from wirebert.data.findings import CODES, SEVERITIES, Finding, Severity
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import missing_name
from wirebert.errors import ConfigError

__all__ = [
    "Finding",
    "Severity",
    "check_unscored_rows",
    "compare_with_training",
    "mark_accepted",
    "validate",
]


def unread_of(subject: Subject) -> Iterable[Finding]:
    """What was not read as it stands in the files."""
    return unread(subject.profile.invalid_values)


CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    unread_of,
    odd_names,
    identifier_like_columns,
    constant_columns,
    nearly_constant_columns,
    duplicate_columns,
    missing_values,
    missing_markers,
    missing_with_a_class,
    mixed_types,
    infinite_values,
    negative_values,
    nearly_boolean_columns,
    padded_values,
    labels_matched,
    doubtful_labels,
    control_characters,
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
"""Every check of one table."""

COMPARISONS: tuple[Callable[[Subject, Subject], Iterable[Finding]], ...] = (
    train_overlap,
    shared_shapes,
    new_labels,
    missing_classes,
    known_endpoints,
    time_overlap,
    drift,
)
"""Every check of test data against training data."""


def validate(profile: TableProfile, classes: ClassMap | None = None) -> tuple[Finding, ...]:
    """All findings about one table, errors first, then by number of rows.

    With `classes`, labels count as the classes they map to. Without, each label is its own class.
    """
    subject = subject_of(profile, classes)
    return _in_order(finding for check in CHECKS for finding in check(subject))


UNSCORED_CHECKS: tuple[Callable[[Subject], Iterable[Finding]], ...] = (
    unlabelled_rows,
    labels_matched,
    only_attack_or_not,
    doubtful_labels,
)
"""The checks that report rows excluded from the metrics, and how labels were read."""


def check_unscored_rows(profile: TableProfile, classes: ClassMap | None = None) -> tuple[Finding, ...]:
    """Findings on rows and values that the metrics exclude, and on how labels were read as classes."""
    subject = subject_of(profile, classes)
    found = [*unread(profile.invalid_values), *(one for check in UNSCORED_CHECKS for one in check(subject))]
    return _in_order(replace(finding, message=f"{profile.name}: {finding.message}") for finding in found)


def compare_with_training(
    train: TableProfile, test: TableProfile, classes: ClassMap | None = None
) -> tuple[Finding, ...]:
    """All findings about test data compared with training data. Call it after the model is saved."""
    subjects = subject_of(train, classes), subject_of(test, classes)
    return _in_order(finding for check in COMPARISONS for finding in check(*subjects))


def mark_accepted(findings: Iterable[Finding], accept: Sequence[str]) -> tuple[Finding, ...]:
    """The findings, with those that `code` or `code:column` names marked as accepted.

    Raises:
        ConfigError: an unknown code.

    >>> mark_accepted([], ["duplicate_rows:"])
    Traceback (most recent call last):
    wirebert.errors.ConfigError: data.accepted_findings must name findings as code or code:column, got
    'duplicate_rows:'
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


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), -finding.count)))
