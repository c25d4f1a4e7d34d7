"""Labels of the file, classes of the model, and the class that means "no attack"."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from wirebert.data.arrow_columns import dictionary_encode
from wirebert.data.config import DataConfig
from wirebert.data.schema.schema import FlowSchema, missing_name
from wirebert.errors import DataError

KNOWN_BENIGN = ("benign", "normal", "legitimate", "legit", "clean", "background", "norm")
"""Names that mean "no attack" in public data sets, in any case; the first match is used."""

TRUTH_PAIRS = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"))
"""Spellings of booleans, the benign one first."""

UNLABELLED = -1
"""Class id of a row without a label."""

ANY_LABEL = "*"
"""In a label map: every label without an entry."""

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
        labels = sorted(label for label, count in label_counts.items() if count > 0)
        _check_all_mapped(schema, labels)
        names = {class_of(schema.label_map, label) for label in labels}
        _check_two_classes(schema, names)
        benign = _benign_class(schema, names)
        ordered = sorted(names, key=lambda name: (name != benign, name))
        return cls(classes=tuple(ordered), label_map=dict(schema.label_map), benign=benign)

    def class_of_label(self, label: str) -> str:
        """The class of a label; a label without an entry is a separate class (never in training data)."""
        return class_of(self.label_map, label)

    def encode(self, labels: pa.ChunkedArray | pa.Array) -> Int64[np.ndarray, " rows"]:
        """Class ids of a label column: `UNLABELLED` for missing labels, `UNKNOWN_CLASS` for new classes."""
        chunks = labels.chunks if isinstance(labels, pa.ChunkedArray) else [labels]
        ids = [np.empty(0, np.int64)]
        for chunk in chunks:
            codes = dictionary_encode(chunk)
            texts: list[str | None] = codes.dictionary.to_pylist()
            index = codes.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
            ids.append(self.encode_names(texts)[index])
        return np.concatenate(ids)

    def encode_names(self, labels: Sequence[str | None]) -> Int64[np.ndarray, " names"]:
        """Class id by label code, with `UNLABELLED` as one more entry at the end, so that code -1 (no label)
        gives it.

        >>> ClassMap(classes=("normal", "dos")).encode_names(["dos", "worm"])[[0, 1, -1]]
        array([ 1, -2, -1])
        """
        id_of_class = {name: index for index, name in enumerate(self.classes)}
        ids = [
            UNLABELLED if label is None else id_of_class.get(self.class_of_label(label), UNKNOWN_CLASS)
            for label in labels
        ]
        return np.array([*ids, UNLABELLED], np.int64)

    def counts(self, label_counts: Mapping[str, int]) -> dict[str, int]:
        """Rows per class, from rows per label; new classes come last."""
        totals = dict.fromkeys(self.classes, 0)
        for label, count in label_counts.items():
            name = self.class_of_label(label)
            totals[name] = totals.get(name, 0) + count
        return totals


def class_of(label_map: Mapping[str, str], label: str) -> str:
    """The class of a label: its entry in the map, else the map's class for any other label, else the label
    itself.

    >>> class_of({"smurf": "dos"}, "worm"), class_of({"smurf": "attack", "*": "rest"}, "worm")
    ('worm', 'rest')
    """
    return label_map.get(label, label_map.get(ANY_LABEL, label))


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
    counts = {
        label: n for label, n in label_counts.items() if n and class_of(schema.label_map, label) != left_out
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
            f"fewer in {_names(rare)}; add rows, or set data.rare_classes=merge"
        )
    merged = {label: MERGED_CLASS for label in counts if classes.class_of_label(label) in rare}
    label_map = {label: classes.class_of_label(label) for label in counts} | merged
    return ClassMap.fit(replace(schema, label_map=label_map, benign=classes.benign), counts)


def _two_classes(schema: FlowSchema, counts: Mapping[str, int], positive: str) -> FlowSchema:
    """The schema with a label map of two classes: `positive` (a label or a class), and all the others."""
    classes = {label: class_of(schema.label_map, label) for label in counts}
    is_positive = {label: positive in (label, name) for label, name in classes.items()}
    if not any(is_positive.values()):
        names = sorted({*classes, *classes.values()})
        raise DataError(f"--positive: {missing_name('label or class', positive, names)}")
    others = {name for label, name in classes.items() if not is_positive[label]}
    rest = others.pop() if len(others) == 1 else "rest"
    label_map = {label: positive if chosen else rest for label, chosen in is_positive.items()}
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
    if ANY_LABEL in schema.label_map:
        return
    unmapped = [label for label in labels if schema.label_map and label not in schema.label_map]
    if unmapped:
        raise DataError(
            f"schema {schema.name!r}, column {schema.label!r}: expected the labels of its label map, found "
            f"{_names(unmapped)}; add them to the label map of the schema, or remove the map so that every "
            "label is its own class"
        )


def _check_two_classes(schema: FlowSchema, names: set[str]) -> None:
    if not names:
        raise DataError(
            f"column {schema.label!r}: expected labels in the training data, found none; name the label "
            "column with --label"
        )
    if len(names) == 1:
        raise DataError(
            f"column {schema.label!r}: expected at least two classes in the training data, found only "
            f"{_names(sorted(names))}; add rows of another class, or name another label column with --label"
        )


def _benign_class(schema: FlowSchema, names: set[str]) -> str | None:
    if schema.benign is not None:
        named = schema.benign if schema.benign in names else class_of(schema.label_map, schema.benign)
        if named not in names:
            raise DataError(
                f"column {schema.label!r}: expected the benign class {schema.benign!r} in the training data, "
                f"found {_names(sorted(names))}; name the benign class with --benign"
            )
        return named
    by_lower_case = {name.lower(): name for name in sorted(names, reverse=True)}
    candidates = [name for name in KNOWN_BENIGN if name in by_lower_case]
    # Zero and false mean benign only if all labels are numbers or booleans, never together with named
    # attacks.
    if all(re.fullmatch(r"\d+(\.0+)?", name) for name in names):
        candidates += [name for name in by_lower_case if float(name) == 0]
    candidates += [no for no, yes in TRUTH_PAIRS if set(by_lower_case) == {no, yes}]
    return next((by_lower_case[name] for name in candidates if name in by_lower_case), None)


def _names(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
