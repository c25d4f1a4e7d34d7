"""What the columns of a traffic table mean: `Column`, `ColumnKind`, `FlowSchema`.

A schema is data (TOML), never code: `schemas/*.toml` hold the known ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_NULL_VALUES = ("", "-", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Texts that mean "no value" unless a column says otherwise."""


class ColumnKind(StrEnum):
    """What a column holds; the kind decides how it is read and encoded."""

    NUMBER = "number"
    COUNT = "count"
    RATE = "rate"
    DURATION = "duration"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    PORT = "port"
    ADDRESS = "address"
    FLAGS = "flags"
    TEXT = "text"
    TIME = "time"
    IDENTIFIER = "identifier"
    LABEL = "label"
    LABEL_DERIVED = "label_derived"
    CONSTANT = "constant"

    @property
    def is_numeric(self) -> bool:
        """Whether values are read as float64 (ports too; everything else stays text)."""
        return self in _NUMERIC

    @property
    def can_be_feature(self) -> bool:
        """Whether a column of this kind is encoded unless the schema says otherwise."""
        return self in _FEATURES


_NUMERIC = frozenset({ColumnKind.NUMBER, ColumnKind.COUNT, ColumnKind.RATE, ColumnKind.DURATION, ColumnKind.PORT})
_FEATURES = _NUMERIC | {ColumnKind.BOOLEAN, ColumnKind.CATEGORY, ColumnKind.ADDRESS, ColumnKind.FLAGS, ColumnKind.TEXT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a traffic table."""

    name: str
    kind: ColumnKind
    is_feature: bool
    """Whether the model sees this column."""
    null_values: tuple[str, ...] = DEFAULT_NULL_VALUES
    """Texts that mean "no value"; numbers also take NaN so."""
    note: str = ""
    """Why the column is what it is (for people; "derived from the label", say)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSchema:
    """The columns of a traffic table, in file order, and how its labels become classes."""

    name: str
    columns: tuple[Column, ...]
    label_map: Mapping[str, str] = field(default_factory=dict)
    """Label as in the file -> class. Empty: every label is its own class."""
    benign: str | None = None
    """The class that means "no attack"; None where there is none or it is not known."""

    @property
    def label(self) -> str | None:
        """Name of the label column, if the table has one."""
        return next((column.name for column in self.columns if column.kind is ColumnKind.LABEL), None)

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns the model sees, in file order, text columns last."""
        chosen = [column for column in self.columns if column.is_feature]
        return tuple(sorted(chosen, key=lambda column: column.kind is ColumnKind.TEXT))
