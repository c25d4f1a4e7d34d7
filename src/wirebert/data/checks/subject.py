"""The input of the data checks: a profile, and the class of each row."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from wirebert.data.checks.column_profile import ColumnProfile
from wirebert.data.checks.equal_rows import EqualRows, equal_rows
from wirebert.data.checks.profile import TableProfile
from wirebert.data.labels import DROPPED, UNLABELLED, ClassMap
from wirebert.shapes import Int64, UInt64


@dataclass(frozen=True)
class Subject:
    """The input of the checks: a profile, and the class (or label) of each row."""

    profile: TableProfile
    classes: ClassMap | None
    class_names: tuple[str, ...]
    class_of: Int64[np.ndarray, " labels"]
    """Class of each label of the profile, and at the end of no label; -1: none."""

    @property
    def counts(self) -> dict[str, int]:
        """Rows per class."""
        counts = dict.fromkeys(self.class_names, 0)
        for class_id, count in zip(self.class_of, self.profile.label_counts.values(), strict=False):
            if class_id >= 0:
                counts[self.class_names[class_id]] += count
        return counts

    @cached_property
    def equal_rows(self) -> EqualRows:
        """The rows whose features are equal."""
        return self.equal_by(self.profile.feature_hashes)

    def equal_by(self, hashes: UInt64[np.ndarray, " rows"]) -> EqualRows:
        """The rows that are equal by other hashes."""
        return equal_rows(hashes, self.profile.labels, self.class_of)

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
        return self.class_of[self.profile.labels[self.profile.sample.rows]]

    def sampled(self, column: ColumnProfile) -> pa.Array:
        """The column's values in the rows of the sample."""
        return self.profile.sample.table[column.name].combine_chunks()


def subject_of(profile: TableProfile, classes: ClassMap | None) -> Subject:
    """The profile with classes; without a class map, each label is its own class."""
    if classes is None:
        return Subject(profile, None, profile.label_names, np.array([*range(len(profile.label_names)), -1]))
    # Classes without training rows are classes here too: they follow the training classes.
    names = dict.fromkeys([*classes.classes, *map(classes.class_of_label, profile.label_names)])
    names.pop(DROPPED, None)
    index = {DROPPED: UNLABELLED} | {name: position for position, name in enumerate(names)}
    of_label = [index[classes.class_of_label(label)] for label in profile.label_names]
    return Subject(profile, classes, tuple(names), np.array([*of_label, -1], np.int64))


def present(counts: Mapping[str, int]) -> dict[str, int]:
    """The classes that have rows."""
    return {name: count for name, count in counts.items() if count > 0}
