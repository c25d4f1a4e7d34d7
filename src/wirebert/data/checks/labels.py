"""Checks on labels: spelling, balance, rows without a label."""

import re
from collections import defaultdict
from collections.abc import Iterator
from shlex import quote

from wirebert.data.checks.subject import Subject, present
from wirebert.data.findings import Finding, format_names, format_row_count, row_name
from wirebert.data.labels import ANY_LABEL, ATTACK_CLASS, DROPPED, imbalance_ratio, is_same_class
from wirebert.data.schema.label_names import is_doubtful, means_benign
from wirebert.data.schema.schema import ColumnKind
from wirebert.plurals import counted
from wirebert.untrusted_text import escape_control_chars

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


def control_characters(subject: Subject) -> Iterator[Finding]:
    """Labels with characters that a terminal would obey, or that no page may contain."""
    names = {name: count for name, count in subject.counts.items() if escape_control_chars(name) != name}
    if names:
        yield Finding(
            code="control_characters",
            severity="warning",
            column=subject.profile.schema.label,
            count=sum(names.values()),
            example=escape_control_chars(next(iter(names))),
            message=f"labels with control characters: {format_names(list(names))}; they are shown "
            "escaped, so correct the data, or give them another name with --map",
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
            severity="warning",
            column=subject.profile.schema.label,
            count=subject.profile.num_rows,
            example=subject.class_names[0],
            message=f"no class of {format_names(list(present(subject.counts)))} is known to mean no attack, "
            "so there are no attack scores, no alerts and no binary (attack vs. benign) metrics; name one "
            "with --benign",
        )


def labels_matched(subject: Subject) -> Iterator[Finding]:
    """Labels that count as a class of another spelling or name."""
    classes = subject.classes
    if classes is None:
        return
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label, count in present(subject.profile.label_counts).items():
        name = classes.class_of_label(label)
        is_mapped = label in classes.label_map
        is_told = classes.label_map.get(ANY_LABEL) == ANY_LABEL if is_mapped else name in classes.classes
        if name != label and is_told and (is_mapped or is_same_class(name, label) or means_benign(label)):
            groups[name].append(f"{label or 'no text'} ({count:,})")
    if groups:
        said = [
            f"{format_names(labels)} {'are left out' if name == DROPPED else f'as class {name!r}'}"
            for name, labels in groups.items()
        ]
        yield Finding(
            code="labels_matched",
            severity="warning",
            column=subject.profile.schema.label,
            count=sum(
                count
                for label, count in subject.profile.label_counts.items()
                if classes.class_of_label(label) in groups and label not in classes.classes
            ),
            example=next(iter(groups.values()))[0],
            message=f"labels are read by meaning, not by spelling: {'; '.join(said)}; give another class "
            "with --map LABEL=CLASS",
        )


def only_attack_or_not(subject: Subject) -> Iterator[Finding]:
    """A labelled file whose attacks are no classes of the model, so that they are one class here."""
    classes, counts = subject.classes, present(subject.profile.label_counts)
    if classes is None or classes.label_map.get(ANY_LABEL) != ATTACK_CLASS:
        return
    named = {label: classes.class_of_label(label) for label in counts}
    attacks = {label: counts[label] for label, name in named.items() if name == ATTACK_CLASS}
    benign = [label for label, name in named.items() if name == classes.benign]
    yield Finding(
        code="attack_or_not",
        severity="warning",
        column=subject.profile.schema.label,
        count=sum(attacks.values()),
        example=next(iter(attacks)),
        message=f"no label but the benign one fits a class of the model, so metrics tell attack or not only: "
        f"{format_names(benign)} as {classes.benign!r}, {format_names(list(attacks))} as attacks; give other "
        "classes with --map LABEL=CLASS",
    )


def doubtful_labels(subject: Subject) -> Iterator[Finding]:
    """Labels that may mean benign or unlabelled traffic, with what they count as."""
    classes, profile = subject.classes, subject.profile
    if classes is None or classes.benign is None:
        return
    for label, count in present(profile.label_counts).items():
        name = classes.class_of_label(label)
        is_benign = name == classes.benign
        if not label or name == DROPPED or (means_benign(label) if is_benign else not is_doubtful(label)):
            continue
        if is_benign and not is_doubtful(label):
            continue
        is_stated = label in classes.label_map or is_same_class(label, profile.schema.benign)
        remedy = "" if is_benign else f"--map={quote(f'{label}={classes.benign}')} counts it as benign, "
        yield Finding(
            code="doubtful_labels",
            severity="info" if is_stated else "warning",
            column=profile.schema.label,
            count=count,
            example=label,
            message=f"label {label!r} ({counted(count, 'row')}) counts as {'no' if is_benign else 'an'} "
            f"attack, though its name does not say what the traffic is; {remedy}"
            f"--map={quote(f'{label}=')} leaves out its rows",
        )


def label_spellings(subject: Subject) -> Iterator[Finding]:
    """Labels that differ only in case, spaces, punctuation or a plural s, and do not map to one class."""
    profile = subject.profile
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in profile.label_names:
        groups[plain_spelling(label)].append(label)
    for names in groups.values():
        counts = [profile.label_counts[name] for name in names]
        read_as = {
            name if subject.classes is None else subject.classes.class_of_label(name) for name in names
        }
        if len(read_as - {DROPPED}) > 1:
            yield Finding(
                code="label_spelling",
                severity="warning",
                column=profile.schema.label,
                count=sum(counts) - max(counts),
                example=" / ".join(names),
                message=f"labels {format_names(names)} look like spellings of one label; give them one class "
                "with --map LABEL=CLASS, or the model learns them as separate classes",
            )


def plain_spelling(label: str) -> str:
    """Letters and digits only, in lower case, without a plural s.

    >>> plain_spelling(" Back-doors "), plain_spelling("DoS")
    ('backdoor', 'dos')
    """
    if re.fullmatch(r"[+-]?\d+(\.\d*)?", label.strip()):
        return label.strip()  # a sign is no punctuation
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
