"""Checks on labels: spelling, balance, rows without any."""

import re
from collections import defaultdict
from collections.abc import Iterator

from wirebert.data.checks.findings import Finding, Subject, format_names, format_row_count, present, row_name
from wirebert.data.labels import imbalance_ratio
from wirebert.data.schema.schema import ColumnKind

IMBALANCE_LIMIT = 20.0
"""Largest class over smallest class from which imbalance is reported."""
RARE_CLASS_ROWS = 50
"""Classes with fewer rows are reported: figures on them say little."""


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
        message=f"{format_row_count(count, subject.profile.num_rows)} have no label and are left out of training and figures; "
        "label them if they belong to a class",
    )


def imbalance(subject: Subject) -> Iterator[Finding]:
    """A largest class more than `IMBALANCE_LIMIT` times as large as the smallest."""
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
        "read macro-F1 and the figures per class rather than accuracy, and consider class weights",
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
            message=f"{format_names([f'{name} ({count})' for name, count in rare.items()])}: fewer than {RARE_CLASS_ROWS} rows of a "
            "class leave figures on it uncertain, so gather more, or map it to a broader class",
        )


def benign_unknown(subject: Subject) -> Iterator[Finding]:
    """Classes of which none is known to mean no attack."""
    if subject.classes is not None and subject.benign is None:
        yield Finding(
            code="benign_unknown",
            severity="info",
            column=subject.profile.schema.label,
            count=subject.profile.num_rows,
            example=subject.class_names[0],
            message="no class is known to mean that there is no attack, so there are no figures on attack or not; name it with "
            "--benign",
        )


def label_spellings(subject: Subject) -> Iterator[Finding]:
    """Labels that differ in case, white space, punctuation or a plural s only, and are not of one class already."""
    survey = subject.profile
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in survey.label_names:
        groups[plain_spelling(label)].append(label)
    for names in groups.values():
        counts = [survey.label_counts[name] for name in names]
        if len({survey.schema.label_map.get(name, name) for name in names}) > 1:
            yield Finding(
                code="label_spelling",
                severity="warning",
                column=survey.schema.label,
                count=sum(counts) - max(counts),
                example=" / ".join(names),
                message=f"labels {format_names(names)} look like spellings of one; map them to one class in the label map of the "
                "schema, or a model learns to tell the spellings apart",
            )


def plain_spelling(label: str) -> str:
    """Letters and digits alone, in lower case, without a plural s.

    >>> plain_spelling(" Back-doors "), plain_spelling("DoS")
    ('backdoor', 'dos')
    """
    plain = re.sub(r"[\W_]+", "", label.lower())
    return plain[:-1] if len(plain) > 4 and plain.endswith("s") and not plain.endswith("ss") else plain


def padded_values(subject: Subject) -> Iterator[Finding]:
    """Labels and categories that stand between blanks in the file: read without them."""
    for column, counts in subject.profile.invalid_values.padded.items():
        if counts:
            num_padded = sum(counts.values())
            yield Finding(
                code="padded_values",
                severity="info",
                column=column,
                count=num_padded,
                example=repr(next(iter(counts))),
                message=f"column {column!r} has blanks around {format_names(list(counts))} in {num_padded:,} rows; they are read "
                "without the blanks, so other programs may see other values",
            )
