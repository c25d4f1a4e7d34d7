"""Labels of the file, classes of the model, and the class that means "no attack"."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.config import DataConfig
from wirebert.data.findings import format_names
from wirebert.data.schema.label_names import ANY_LABEL, benign_names, fold_label, means_benign
from wirebert.data.schema.schema import FlowSchema, missing_name
from wirebert.errors import DataError
from wirebert.shapes import Int64

UNLABELLED = -1
"""Class id of a row without a label."""

DROPPED = ""
"""In a label map: the class of labels whose rows are left out, like rows without a label."""

ATTACK_CLASS = "attack"
"""The class of all attacks, where a model is evaluated on attack or not alone."""

MERGED_CLASS = "other"
"""The class that rare classes are merged into."""

UNKNOWN_CLASS = -2
"""Class id of a label whose class is not in the training data."""


class ClassShare(NamedTuple):
    """Rows of one class, and their fraction of all rows."""

    class_name: str
    num_rows: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """Label -> class -> id, fitted on training data.

    >>> label_map = {"normal": "normal", "smurf": "dos"}
    >>> classes = ClassMap(classes=("normal", "dos"), label_map=label_map, benign="normal")
    >>> classes.encode(pa.array(["smurf", "normal", None, "worm"]))
    array([ 1,  0, -1, -2])
    """

    classes: tuple[str, ...]
    """Class names by id: the benign class first, if there is one, then the others by name."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """Label -> class. Empty: every label is its own class."""
    benign: str | None = None
    """The class that means "no attack"; None where it is unknown."""

    @classmethod
    def fit(cls, schema: FlowSchema, label_counts: Mapping[str, int]) -> "ClassMap":
        """The classes of the labels in the training data.

        Raises:
            DataError: a label is missing in the schema's label map, there are fewer than two classes, or the
                benign class has no rows.
        """
        counts = {label: count for label, count in label_counts.items() if count > 0}
        _check_all_mapped(schema, sorted(counts))
        rows = _rows_of_classes(schema.label_map, counts)
        benign = _benign_class(schema, rows)
        # Without a stated one, all names of benign traffic are one class: none may count as an attack.
        is_merged = benign is not None and schema.benign is None
        names = [name for name in rows if name == benign or not (is_merged and means_benign(name))]
        _check_two_classes(schema, names)
        ordered = sorted(names, key=lambda name: (name != benign, name))
        return cls(classes=tuple(ordered), label_map=dict(schema.label_map), benign=benign)

    def class_of_label(self, label: str) -> str:
        """The class of a label; a label that fits none is a separate class (never in training data).

        >>> classes = ClassMap(classes=("Benign", "DoS"), benign="Benign")
        >>> [classes.class_of_label(label) for label in ("DOS", "normal", "worm")]
        ['DoS', 'Benign', 'worm']
        """
        entry = _entry(self.label_map, label)
        name = label if entry is None else entry
        if name in self.classes or name == DROPPED:
            return name
        for own in self.classes:
            if is_same_class(name, own):
                return own
        if self.benign is not None and means_benign(name):
            return self.benign
        return class_of(self.label_map, label)

    @property
    def groups_labels(self) -> bool:
        """Whether the label map puts several labels into one class of attacks."""
        attacks = [name for name in self.label_map.values() if name not in (self.benign, DROPPED, ANY_LABEL)]
        return len(set(attacks)) < len(attacks)

    def for_file(
        self, labels: Iterable[str], label_map: Mapping[str, str], benign: str | None, where: str
    ) -> "ClassMap":
        """The classes under which a labelled file is evaluated.

        Where the file names no class of the model but the benign one, all else is `ATTACK_CLASS`, and only
        attack or not can be told.

        Args:
            labels: The labels of the file.
            label_map: What the user says of labels: label -> class.
            benign: The label that the user says is benign.

        Raises:
            DataError: a named label does not occur, the benign class of the model is unknown, or the file has
                no label of a known class.
        """
        labels = list(labels)
        require_labels(label_map, labels, "--map")
        require_labels([] if benign is None else [benign], [*labels, *self.classes], "--benign")
        own = self
        if benign is not None and self.benign is None:
            own = replace(self, benign=self.class_of_label(benign))
        elif benign is not None and self.benign is not None:
            label_map = {**label_map, benign: self.benign}
        if label_map:
            own = replace(own, label_map=with_mapped_labels(own.label_map, label_map))
        known = [label for label in labels if own.class_of_label(label) in (*own.classes, DROPPED)]
        found = [] if known or own.benign is None else benign_names(labels)
        if own.benign is not None and found:  # such as 0 beside 1
            own = replace(own, label_map=with_mapped_labels(own.label_map, dict.fromkeys(found, own.benign)))
        attacks = {own.class_of_label(label) for label in labels} - {own.benign, DROPPED}
        if not attacks or attacks & {*own.classes, *label_map.values()}:
            return own
        if own.benign is None or not (known or found):
            raise DataError(
                f"{where}: expected labels of the model's classes ({format_names(self.classes)}), found "
                f"{format_names(sorted(labels))}; say what they mean with --benign LABEL or --map LABEL=CLASS"
            )
        benign_labels = [label for label in labels if own.class_of_label(label) == own.benign]
        dropped = [label for label in labels if own.class_of_label(label) == DROPPED]
        return ClassMap(
            classes=(own.benign, ATTACK_CLASS),
            label_map={
                **dict.fromkeys((*benign_labels, own.benign), own.benign),
                **dict.fromkeys(dropped, DROPPED),
                ANY_LABEL: ATTACK_CLASS,
            },
            benign=own.benign,
        )

    def encode(self, labels: pa.ChunkedArray | pa.Array) -> Int64[np.ndarray, " rows"]:
        """Class ids of a label column: `UNLABELLED` for missing labels, `UNKNOWN_CLASS` for new classes."""
        distinct, rows = distinct_values(labels)
        return self.encode_names(distinct.to_pylist())[rows]

    def encode_names(self, labels: Sequence[str | None]) -> Int64[np.ndarray, " names"]:
        """Class id by label code, with `UNLABELLED` as one more entry at the end, so that code -1 (no label)
        gives it.

        >>> ClassMap(classes=("normal", "dos")).encode_names(["dos", "worm"])[[0, 1, -1]]
        array([ 1, -2, -1])
        """
        id_of_class = {DROPPED: UNLABELLED} | {name: index for index, name in enumerate(self.classes)}
        ids = [
            UNLABELLED if label is None else id_of_class.get(self.class_of_label(label), UNKNOWN_CLASS)
            for label in labels
        ]
        return np.array([*ids, UNLABELLED], np.int64)

    def counts(self, label_counts: Mapping[str, int]) -> dict[str, int]:
        """Rows per class, from rows per label; new classes come last, and rows left out are not counted."""
        totals = dict.fromkeys(self.classes, 0)
        for label, count in label_counts.items():
            name = self.class_of_label(label)
            totals[name] = totals.get(name, 0) + count
        totals.pop(DROPPED, None)
        return totals


def class_of(label_map: Mapping[str, str], label: str) -> str:
    """The class of a label: its entry in the map, whatever its spelling, else the map's class for any other
    label, else the label itself.

    >>> class_of({"smurf": "dos"}, "worm"), class_of({"smurf": "attack", "*": "rest"}, "Smurf")
    ('worm', 'attack')
    """
    entry, others = _entry(label_map, label), label_map.get(ANY_LABEL, ANY_LABEL)
    if entry is not None:
        return entry
    return label if others == ANY_LABEL else others


def _entry(label_map: Mapping[str, str], label: str) -> str | None:
    """The class that the map names for this label, in any spelling."""
    if not label_map or label in label_map:
        return label_map.get(label)
    return next((name for key, name in label_map.items() if is_same_class(key, label)), None)


def with_mapped_labels(label_map: Mapping[str, str], mapped: Mapping[str, str]) -> dict[str, str]:
    """The label map with further entries, which come first; labels of neither are their own class."""
    return {**(label_map or {ANY_LABEL: ANY_LABEL}), **mapped}


def require_labels(given: Iterable[str], labels: Iterable[str], option: str) -> None:
    """Raise a DataError that names `option` if a given label does not occur, in any spelling."""
    labels = sorted(labels)
    folded = set(map(fold_label, labels))
    for label in given:
        if fold_label(label) not in folded and label != ANY_LABEL:
            raise DataError(f"{option}: {missing_name('label', label, labels)}")


def fit_classes(
    schema: FlowSchema,
    label_counts: Mapping[str, int],
    config: DataConfig | None = None,
    left_out: str | None = None,
) -> ClassMap:
    """The classes of the labels under the settings: two classes only, rare classes merged or refused, one
    class left out.

    Raises:
        DataError: see `ClassMap.fit`; or the positive or left-out class does not occur, or a class is too
            rare.

    >>> flows = FlowSchema(name="flows", columns=())
    >>> counts = {"normal": 90, "dos": 9, "worm": 1}
    >>> fit_classes(flows, counts, DataConfig(positive="dos")).classes
    ('rest', 'dos')
    >>> fit_classes(flows, counts, DataConfig(min_class_rows=5, rare_classes="merge")).classes
    ('normal', 'dos', 'other')
    """
    config = config or DataConfig()
    require_labels(config.label_map, label_counts, "--map")
    counts = {
        label: n
        for label, n in label_counts.items()
        if n and not is_same_class(class_of(schema.label_map, label), left_out)
    }
    if left_out is not None and len(counts) == sum(n > 0 for n in label_counts.values()):
        names = sorted({class_of(schema.label_map, label) for label in counts})
        raise DataError(f"data.left_out_class: {missing_name('class', left_out, names)}")
    if config.positive is not None:
        return ClassMap.fit(_two_classes(schema, counts, config.positive), counts)
    classes = ClassMap.fit(schema, counts)
    rare = [
        name
        for name, count in classes.counts(counts).items()
        if count < config.min_class_rows and name != classes.benign
    ]
    if not rare or config.rare_classes == "keep":
        return classes
    if config.rare_classes == "refuse":
        raise DataError(
            f"column {schema.label!r}: expected at least {config.min_class_rows} rows in every class, found "
            f"fewer in {format_names(rare)}; add rows, or set data.rare_classes=merge"
        )
    merged = {label: MERGED_CLASS for label in counts if classes.class_of_label(label) in rare}
    label_map = {label: classes.class_of_label(label) for label in counts} | merged
    return ClassMap.fit(replace(schema, label_map=label_map, benign=classes.benign), counts)


def is_same_class(name: str, other: str | None) -> bool:
    """Whether both are spellings of one class."""
    return other is not None and fold_label(name) == fold_label(other)


def _two_classes(schema: FlowSchema, counts: Mapping[str, int], positive: str) -> FlowSchema:
    """The schema with a label map of two classes: `positive` (a label or a class), and all the others."""
    classes = {label: class_of(schema.label_map, label) for label in counts}
    classes = {label: name for label, name in classes.items() if name != DROPPED}
    is_positive = {
        label: any(is_same_class(one, positive) for one in (label, name)) for label, name in classes.items()
    }
    if not any(is_positive.values()):
        names = sorted({*classes, *classes.values()})
        raise DataError(f"--positive: {missing_name('label or class', positive, names)}")
    others = {name for label, name in classes.items() if not is_positive[label]}
    rest = others.pop() if len(others) == 1 else "rest"
    label_map = {label: positive if chosen else rest for label, chosen in is_positive.items()}
    label_map |= {label: DROPPED for label in counts if label not in classes}
    return replace(schema, label_map={**label_map, ANY_LABEL: rest}, benign=rest)


def distribution(counts: Mapping[str, int]) -> list[ClassShare]:
    """Rows and fraction of each class, largest first.

    >>> distribution({"dos": 1, "normal": 3})[0]
    ClassShare(class_name='normal', num_rows=3, share=0.75)
    """
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [ClassShare(name, rows, rows / total) for name, rows in ordered]


def imbalance_ratio(counts: Mapping[str, int]) -> float:
    """Rows of the largest class over rows of the smallest class with rows (1.0: all equal, or no classes).

    >>> imbalance_ratio({"normal": 300, "dos": 100, "u2r": 0})
    3.0
    """
    present = [count for count in counts.values() if count > 0]
    return max(present) / min(present) if present else 1.0


def _check_all_mapped(schema: FlowSchema, labels: list[str]) -> None:
    if not schema.label_map or ANY_LABEL in schema.label_map:
        return
    mapped = {*map(fold_label, schema.label_map), *map(fold_label, schema.label_map.values())}
    unmapped = [label for label in labels if fold_label(label) not in mapped]
    if unmapped:
        raise DataError(
            f"schema {schema.name!r}, column {schema.label!r}: expected the labels of its label map, found "
            f"{format_names(unmapped)}; add them to the label map of the schema or with --map LABEL=CLASS, "
            "or remove the map so that every label is its own class"
        )


def _rows_of_classes(label_map: Mapping[str, str], counts: Mapping[str, int]) -> dict[str, int]:
    """Class of the labels -> its rows, by name; of several spellings of a class, the one with most rows."""
    spellings: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for label, count in counts.items():
        name = class_of(label_map, label)
        if name != DROPPED:
            spellings[fold_label(name)][name] += count
    rows = {max(sorted(names), key=names.__getitem__): sum(names.values()) for names in spellings.values()}
    return dict(sorted(rows.items()))


def _check_two_classes(schema: FlowSchema, names: list[str]) -> None:
    if not names:
        raise DataError(
            f"column {schema.label!r}: expected labels in the training data, found none; name the label "
            "column with --label"
        )
    if len(names) == 1:
        raise DataError(
            f"column {schema.label!r}: expected at least two classes in the training data, found only "
            f"{format_names(names)}; add rows of another class, or name another label column with --label"
        )


def _benign_class(schema: FlowSchema, rows: Mapping[str, int]) -> str | None:
    if schema.benign is not None:
        for stated in (schema.benign, class_of(schema.label_map, schema.benign)):
            named = next((name for name in rows if is_same_class(name, stated)), None)
            if named is not None:
                return named
        raise DataError(
            f"column {schema.label!r}: expected the benign class {schema.benign!r} in the training data, "
            f"found {format_names(list(rows))}; name the benign class with --benign"
        )
    return max(benign_names(rows), key=rows.__getitem__, default=None)
