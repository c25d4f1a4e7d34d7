"""Labels as they stand in the file, classes as the model predicts them, and the class that means "no attack"."""

# pyarrow's array types take no type arguments at run time, so annotations can not give them.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from wirebert.data.config import DataConfig
from wirebert.data.schema.schema import FlowSchema, missing_name
from wirebert.errors import DataError

KNOWN_BENIGN = ("benign", "normal", "legitimate", "legit", "clean", "background", "norm")
"""Names that mean "no attack" in public data sets, in any case; the first one found is taken."""

TRUTH_PAIRS = (("false", "true"), ("f", "t"), ("no", "yes"), ("n", "y"))
"""How truth values are written, the benign one first."""

UNLABELLED = -1
"""Class id of a row without a label."""

ANY_LABEL = "*"
"""In a label map: every label that the map does not name."""

MERGED_CLASS = "other"
"""The class that takes rare ones, where they are merged."""

UNKNOWN_CLASS = -2
"""Class id of a label whose class training data lack."""


class ClassShare(NamedTuple):
    """How much of the data one class is."""

    class_name: str
    num_rows: int
    share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMap:
    """Label -> class -> id, as met in training data.

    >>> classes = ClassMap(classes=("normal", "dos"), label_map={"normal": "normal", "smurf": "dos"}, benign="normal")
    >>> classes.encode(pa.array(["smurf", "normal", None, "worm"]))
    array([ 1,  0, -1, -2])
    """

    classes: tuple[str, ...]
    """Class names by id: the benign class first, if it is known, then the others by name."""
    label_map: Mapping[str, str] = field(default_factory=dict)
    """Label -> class. Empty: every label is its own class."""
    benign: str | None = None
    """The class that means "no attack", if it is known."""

    @classmethod
    def fit(cls, schema: FlowSchema, label_counts: Mapping[str, int]) -> "ClassMap":
        """The classes of the labels met in training data.

        Raises:
            DataError: a label that the schema's label map lacks, fewer than two classes, or a benign class that no row has.
        """
        met = sorted(label for label, count in label_counts.items() if count > 0)
        _check_all_mapped(schema, met)
        names = {class_of(schema.label_map, label) for label in met}
        _check_two_classes(schema, names)
        benign = _benign_class(schema, names)
        ordered = sorted(names, key=lambda name: (name != benign, name))
        return cls(classes=tuple(ordered), label_map=dict(schema.label_map), benign=benign)

    def class_of_label(self, label: str) -> str:
        """The class of a label; a label that the map lacks is a class of its own (training never has one)."""
        return class_of(self.label_map, label)

    def encode(self, labels: pa.ChunkedArray | pa.Array) -> Int64[np.ndarray, " rows"]:
        """Class ids of a label column: `UNLABELLED` for missing, `UNKNOWN_CLASS` for classes that training lacks."""
        chunks = labels.chunks if isinstance(labels, pa.ChunkedArray) else [labels]
        ids = [np.empty(0, np.int64)]
        for chunk in chunks:
            codes = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
            texts: list[str | None] = codes.dictionary.to_pylist()
            index = codes.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
            ids.append(self.encode_names(texts)[index])
        return np.concatenate(ids)

    def encode_names(self, labels: Sequence[str | None]) -> Int64[np.ndarray, " names"]:
        """Class id by label code, with one more entry, `UNLABELLED`, at the end: there code -1 (no label) finds it.

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
        """Rows per class, from rows per label; classes that training lacks come last."""
        totals = dict.fromkeys(self.classes, 0)
        for label, count in label_counts.items():
            name = self.class_of_label(label)
            totals[name] = totals.get(name, 0) + count
        return totals


def class_of(label_map: Mapping[str, str], label: str) -> str:
    """The class of a label: as the map says, or the map's class of any other label, or the label itself.

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
    """The classes of the labels met, as the settings want them: two classes only, rare ones merged or refused, one left out.

    Raises:
        DataError: see `ClassMap.train`; and a class that is to be positive or left out and does not occur, or is too rare.

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
            f"column {schema.label!r}: expected at least {config.min_class_rows} rows of every class, found fewer of "
            f"{_names(rare)}; add rows, or set data.rare_classes=merge"
        )
    merged = {label: MERGED_CLASS for label in counts if classes.class_of_label(label) in rare}
    label_map = {label: classes.class_of_label(label) for label in counts} | merged
    return ClassMap.fit(replace(schema, label_map=label_map, benign=classes.benign), counts)


def _two_classes(schema: FlowSchema, counts: Mapping[str, int], positive: str) -> FlowSchema:
    """The schema with a label map of two classes: `positive` (a label or a class) and what all the others are."""
    classes = {label: class_of(schema.label_map, label) for label in counts}
    is_positive = {label: positive in (label, name) for label, name in classes.items()}
    if not any(is_positive.values()):
        known = sorted({*classes, *classes.values()})
        raise DataError(f"--positive: {missing_name('label or class', positive, known)}")
    others = {name for label, name in classes.items() if not is_positive[label]}
    rest = others.pop() if len(others) == 1 else "rest"
    label_map = {label: positive if chosen else rest for label, chosen in is_positive.items()}
    return replace(schema, label_map={**label_map, ANY_LABEL: rest}, benign=rest)


def distribution(counts: Mapping[str, int]) -> list[ClassShare]:
    """Rows and share of each class, the largest first.

    >>> distribution({"dos": 1, "normal": 3})[0]
    ClassShare(class_name='normal', num_rows=3, share=0.75)
    """
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [ClassShare(name, rows, rows / total) for name, rows in ordered]


def imbalance_ratio(counts: Mapping[str, int]) -> float:
    """Rows of the largest class over rows of the smallest that has any (1.0: all equal, or nothing to compare).

    >>> imbalance_ratio({"normal": 300, "dos": 100, "u2r": 0})
    3.0
    """
    present = [count for count in counts.values() if count > 0]
    return max(present) / min(present) if present else 1.0


def _check_all_mapped(schema: FlowSchema, labels: list[str]) -> None:
    if ANY_LABEL in schema.label_map:
        return
    lacking = [label for label in labels if schema.label_map and label not in schema.label_map]
    if lacking:
        raise DataError(
            f"schema {schema.name!r}, column {schema.label!r}: expected the labels of its label map, found {_names(lacking)}; "
            "add them to the label map of the schema, or remove the map so that every label is its own class"
        )


def _check_two_classes(schema: FlowSchema, names: set[str]) -> None:
    if not names:
        raise DataError(
            f"column {schema.label!r}: expected labels in the training data, found none; name the label column with --label"
        )
    if len(names) == 1:
        raise DataError(
            f"column {schema.label!r}: expected at least two classes in the training data, found only {_names(sorted(names))}; "
            "add rows of another class, or name another label column with --label"
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
    candidates = [known for known in KNOWN_BENIGN if known in by_lower_case]
    # Zero and false mean benign only where the labels are numbers or truth values, never beside named attacks.
    if all(re.fullmatch(r"\d+(\.0+)?", name) for name in names):
        candidates += [name for name in by_lower_case if float(name) == 0]
    candidates += [no for no, yes in TRUTH_PAIRS if set(by_lower_case) == {no, yes}]
    return next((by_lower_case[known] for known in candidates if known in by_lower_case), None)


def _names(names: list[str], limit: int = 5) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
