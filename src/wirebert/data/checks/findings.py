"""A finding: one problem or remark about a traffic table; and the input of the checks."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from wirebert.data.checks.profile import ColumnProfile, TableProfile
from wirebert.data.labels import ClassMap

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
CODES: tuple[str, ...] = tuple(
    """
    benign_unknown classes_not_tested conflicting_labels constant_column drift duplicate_column
    duplicate_rows duplicates_without_endpoints footer identifier_like imbalance infinite_values
    invalid_values label_derived label_leak label_spelling missing_markers missing_values
    missing_with_a_class mixed_types near_duplicate_texts near_duplicate_texts_in_test nearly_boolean_column
    nearly_constant_column negative_values new_classes new_labels no_shared_rows odd_column_name
    padded_values rare_class rejected_rows same_hosts shared_rows sorted_by_label split_lacks_classes
    split_purged_rows split_shares_context split_shares_flows split_shares_rows split_shares_texts
    time_overlap unlabelled_rows
    """.split()
)
"""Stable names of everything that checks and splits report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One problem or remark about the data, with its remedy."""

    code: str
    """Stable name of the finding, one of `CODES`."""
    severity: Severity
    column: str | None
    """The affected column; None for the whole table."""
    count: int
    """Affected rows."""
    example: str
    """One example, such as a value or a row."""
    message: str
    """The problem and the remedy, in one sentence."""
    is_accepted: bool = False
    """Accepted by the recipe, so it fails no check."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The input of the checks: a profile, and the class (or label) of each row."""

    profile: TableProfile
    classes: ClassMap | None
    class_names: tuple[str, ...]
    class_ids: Int64[np.ndarray, " rows"]
    """-1: no label."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows per class."""
        counts = np.bincount(self.class_ids + 1, minlength=len(self.class_names) + 1)[1:]
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    @property
    def benign(self) -> str | None:
        """The class that means no attack; None if it is unknown."""
        return None if self.classes is None else self.classes.benign

    @property
    def features(self) -> tuple[ColumnProfile, ...]:
        """The feature columns of the files, without context features, which would give false findings."""
        # In a short log, the values of context features are all equal or all different by construction.
        schema = self.profile.schema
        return tuple(c for c in self.profile.columns if c.is_feature and not schema.is_context(c.name))

    @property
    def sampled_ids(self) -> Int64[np.ndarray, " sampled"]:
        """Class of each row of the sample."""
        return self.class_ids[self.profile.sample.rows]

    def sampled(self, column: ColumnProfile) -> pa.Array:
        """The column's values in the rows of the sample."""
        return self.profile.sample.table[column.name].combine_chunks()


def subject_of(profile: TableProfile, classes: ClassMap | None) -> Subject:
    """The profile with classes; without a class map, each label is its own class."""
    if classes is None:
        return Subject(profile, None, profile.label_names, profile.labels.astype(np.int64))
    # Classes without training rows are classes here too: they follow the training classes.
    names = dict.fromkeys([*classes.classes, *map(classes.class_of_label, profile.label_names)])
    index = {name: position for position, name in enumerate(names)}
    of_label = [index[classes.class_of_label(label)] for label in profile.label_names]
    return Subject(profile, classes, tuple(names), np.array([*of_label, -1], np.int64)[profile.labels])


def present(counts: Mapping[str, int]) -> dict[str, int]:
    """The classes that have rows."""
    return {name: count for name, count in counts.items() if count > 0}


def row_name(mask: Bool[np.ndarray, " rows"]) -> str:
    """`row 3` for the first row where the mask is true."""
    return f"row {int(np.argmax(mask)) + 1}"


def format_row_count(count: int, total: int) -> str:
    """`3 of 12 rows (25.0 %)`."""
    fraction = 100 * count / max(total, 1)
    return f"{count:,} of {total:,} rows ({fraction:.1f} %)"


def format_names(names: Sequence[str], limit: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
