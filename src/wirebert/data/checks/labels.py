"""Checks on labels: spelling, balance, rows without a label."""

import re
from collections import defaultdict
from collections.abc import Iterator

from wirebert.data.checks.subject import Subject, present
from wirebert.data.findings import Finding, format_names, format_row_count, row_name
from wirebert.data.labels import imbalance_ratio
from wirebert.data.schema.schema import ColumnKind

IMBALANCE_LIMIT = 20.0
"""Imbalance is reported above this ratio of the largest to the smallest class."""
RARE_CLASS_ROWS = 50
"""Classes with fewer rows are reported: their metrics are unreliable."""


def unlabelled_rows(subject: Subject) -> Iterator[Finding]:
    """Rows without a label, in a table that has a label column."""
    count = subject.profile.num_unlabelled
    has_labels = any(column.kind is ColumnKind.LABEL for column in subject.profile.columns)
    if not count or not has_labels:
        return
    yield Finding(
        code="unlabelled_rows",
        severity="warning",
        column=subject.profile.schema.label,
        count=count,
        example=row_name(subject.profile.labels < 0),
        message=f"{format_row_count(count, subject.profile.num_rows)} have no label and are excluded from "
        "training and metrics; label them if they belong to a class",
    )


def imbalance(subject: Subject) -> Iterator[Finding]:
    """A largest class with more than `IMBALANCE_LIMIT` times as many rows as the smallest."""
    counts = present(subject.counts)
    ratio = imbalance_ratio(counts)
    if ratio <= IMBALANCE_LIMIT:
        return
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    yield Finding(
        code="imbalance",
        severity="warning",
        column=subject.profile.schema.label,
        count=counts[smallest],
        example=f"{largest}: {counts[largest]:,}, {smallest}: {counts[smallest]:,}",
        message=f"class {largest!r} has {ratio:,.0f} times as many rows as {smallest!r}; "
        "read macro-F1 and per-class metrics rather than accuracy, and consider training.class_weights",
    )


def rare_classes(subject: Subject) -> Iterator[Finding]:
    """Classes with fewer than `RARE_CLASS_ROWS` rows, the rarest first."""
    counts = sorted(present(subject.counts).items(), key=lambda pair: pair[1])
    rare = {name: count for name, count in counts if count < RARE_CLASS_ROWS}
    if rare:
        yield Finding(
            code="rare_class",
            severity="warning",
            column=subject.profile.schema.label,
            count=sum(rare.values()),
            example=next(iter(rare)),
            message=f"{format_names([f'{name} ({count})' for name, count in rare.items()])}: fewer than "
            f"{RARE_CLASS_ROWS} rows of a class make its metrics unreliable, so add rows, or set "
            "data.min_class_rows and data.rare_classes to merge it",
        )


def benign_unknown(subject: Subject) -> Iterator[Finding]:
    """A benign class that is unknown."""
    if subject.classes is not None and subject.benign is None:
        yield Finding(
            code="benign_unknown",
            severity="info",
            column=subject.profile.schema.label,
            count=subject.profile.num_rows,
            example=subject.class_names[0],
            message="the benign class is unknown, so there are no binary (attack vs. benign) metrics; set "
            "data.benign (--benign)",
        )


def label_spellings(subject: Subject) -> Iterator[Finding]:
    """Labels that differ only in case, spaces, punctuation or a plural s, and do not map to one class."""
    profile = subject.profile
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in profile.label_names:
        groups[plain_spelling(label)].append(label)
    for names in groups.values():
        counts = [profile.label_counts[name] for name in names]
        if len({profile.schema.label_map.get(name, name) for name in names}) > 1:
            yield Finding(
                code="label_spelling",
                severity="warning",
                column=profile.schema.label,
                count=sum(counts) - max(counts),
                example=" / ".join(names),
                message=f"labels {format_names(names)} look like spellings of one label; map them to one "
                "class in label_map of the schema, or the model learns them as separate classes",
            )


def plain_spelling(label: str) -> str:
    """Letters and digits only, in lower case, without a plural s.

    >>> plain_spelling(" Back-doors "), plain_spelling("DoS")
    ('backdoor', 'dos')
    """
    plain = re.sub(r"[\W_]+", "", label.lower())
    return plain[:-1] if len(plain) > 4 and plain.endswith("s") and not plain.endswith("ss") else plain


def padded_values(subject: Subject) -> Iterator[Finding]:
    """Labels and categories with spaces around them in the file, which are stripped."""
    for column, counts in subject.profile.invalid_values.padded.items():
        if counts:
            num_padded = sum(counts.values())
            yield Finding(
                code="padded_values",
                severity="info",
                column=column,
                count=num_padded,
                example=repr(next(iter(counts))),
                message=f"column {column!r} has spaces around {format_names(list(counts))} in "
                f"{num_padded:,} rows; they are stripped, so other programs may see other values",
            )
