"""Checks on labels: spelling, balance, rows without any."""

import re
from collections import defaultdict

from wirebert.data.findings import Finding, Subject, present, row_name, rows_of, some
from wirebert.data.labels import imbalance_ratio
from wirebert.data.schema import ColumnKind

IMBALANCE_LIMIT = 20.0
"""Largest class over smallest class from which imbalance is reported."""
RARE_CLASS_ROWS = 50
"""Classes with fewer rows are reported: figures on them say little."""


def unlabelled_rows(subject: Subject) -> list[Finding]:
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
            example=row_name(subject.survey.labels < 0),
            message=f"{rows_of(count, subject.survey.num_rows)} have no label and are left out of training and figures; "
            "label them if they belong to a class",
        )
    ]


def imbalance(subject: Subject) -> list[Finding]:
    """A largest class more than `IMBALANCE_LIMIT` times as large as the smallest."""
    counts = present(subject.counts)
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


def rare_classes(subject: Subject) -> list[Finding]:
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
        for name, count in present(subject.counts).items()
        if count < RARE_CLASS_ROWS
    ]


def label_spellings(subject: Subject) -> list[Finding]:
    """Labels that differ in case, white space, punctuation or a plural s only."""
    survey = subject.survey
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in survey.label_names:
        groups[plain_spelling(label)].append(label)
    counts = survey.label_counts
    return [
        Finding(
            code="label_spelling",
            severity="warning",
            column=survey.schema.label,
            count=sum(counts[name] for name in names) - max(counts[name] for name in names),
            example=" / ".join(names),
            message=f"labels {some(names)} look like spellings of one; map them to one class in the label map of the schema, "
            "or a model learns to tell the spellings apart",
        )
        for names in groups.values()
        if len(names) > 1 and len({survey.schema.label_map.get(name, name) for name in names}) > 1
    ]


def plain_spelling(label: str) -> str:
    """Letters and digits alone, in lower case, without a plural s.

    >>> plain_spelling(" Back-doors "), plain_spelling("DoS")
    ('backdoor', 'dos')
    """
    plain = re.sub(r"[\W_]+", "", label.lower())
    return plain[:-1] if len(plain) > 4 and plain.endswith("s") and not plain.endswith("ss") else plain


def padded_values(subject: Subject) -> list[Finding]:
    """Labels and categories that stand between blanks in the file: read without them."""
    survey = subject.survey
    return [
        Finding(
            code="padded_values",
            severity="info",
            column=column,
            count=sum(counts.values()),
            example=repr(next(iter(counts))),
            message=f"column {column!r} has blanks around {some(list(counts))} in {sum(counts.values()):,} rows; they are read "
            "without the blanks, so other programs may see other values",
        )
        for column, counts in survey.misfits.padded.items()
        if counts
    ]
