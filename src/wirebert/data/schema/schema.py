"""The meaning of the columns of a traffic table: `Column`, `ColumnKind`, `FlowSchema`.

A schema is data (TOML), never code. `data/schema/known/*.toml` are the built-in ones.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from wirebert.data.schema.combination import Combination
from wirebert.data.windows import CONTEXT_PREFIX, ContextWindows
from wirebert.errors import SchemaError

DEFAULT_NULL_VALUES = ("", "-", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Texts that mean "missing" unless a column sets `null_values`."""

UNITS = ("s", "ms", "us", "ns", "dmy", "mdy", "ymd")
"""Units of times and durations, and orders of dates."""


class ColumnKind(StrEnum):
    """The kind of a column's values; it decides how they are read and encoded."""

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
        """Whether values are read as float64 (ports too; other kinds are text)."""
        return self in _NUMERIC

    @property
    def can_be_feature(self) -> bool:
        """Whether a column of this kind may be a feature, and is one by default."""
        return self in _FEATURES


_NUMERIC = frozenset(
    {ColumnKind.NUMBER, ColumnKind.COUNT, ColumnKind.RATE, ColumnKind.DURATION, ColumnKind.PORT}
)
_FEATURES = _NUMERIC | {
    ColumnKind.BOOLEAN,
    ColumnKind.CATEGORY,
    ColumnKind.ADDRESS,
    ColumnKind.FLAGS,
    ColumnKind.TEXT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of a traffic table."""

    name: str
    kind: ColumnKind
    is_feature: bool
    """Whether the model sees this column."""
    null_values: tuple[str, ...] = DEFAULT_NULL_VALUES
    """Texts that mean "missing"; in numeric columns NaN does too."""
    note: str = ""
    """A remark for people, such as "derived from the label"."""
    group: str = ""
    """Group of the column; with `model.attention_pattern=columns`, a column attends only to its own group."""
    unit: str = ""
    """Unit of its times: s, ms, us or ns; for dates the order of day, month and year: dmy, mdy or ymd. Empty
    where it is unknown or of no matter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowSchema:
    """The columns of a traffic table, in file order, and how its labels become classes."""

    name: str
    columns: tuple[Column, ...]
    label_map: Mapping[str, str] = field(default_factory=dict)
    """Label as in the file -> class. Empty: every label is its own class."""
    benign: str | None = None
    """The class that means "no attack"; None where there is none or it is unknown."""
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> its values. A file without header matches this schema if its values are among them."""
    combinations: tuple[Combination, ...] = ()
    """Features made of two columns; they are computed when flows are encoded."""
    context: ContextWindows | None = None
    """How far back the context reaches; its columns are computed while flows are read. None: no context."""

    @property
    def label(self) -> str | None:
        """Name of the label column, if the table has one."""
        return next((column.name for column in self.columns if column.kind is ColumnKind.LABEL), None)

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns the model sees, in file order, text columns last."""
        chosen = [column for column in self.columns if column.is_feature]
        return tuple(sorted(chosen, key=lambda column: column.kind is ColumnKind.TEXT))

    @property
    def names(self) -> tuple[str, ...]:
        """All column names, in file order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of this name; a SchemaError that suggests the nearest name if there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"schema {self.name!r}: {missing_name('column', name, self.names)}")

    def with_label(self, name: str) -> "FlowSchema":
        """The same columns with `name` as the label. The old label becomes label-derived; the label map is
        dropped.

        >>> column = Column(name="attack", kind=ColumnKind.CATEGORY, is_feature=True)
        >>> FlowSchema(name="flows", columns=(column,)).with_label("attack").label
        'attack'
        >>> FlowSchema(name="flows", columns=(column,)).with_label("atack")
        Traceback (most recent call last):
        wirebert.errors.SchemaError: schema 'flows': there is no column 'atack', did you mean 'attack'? ...
        """
        if self.column(name).kind is ColumnKind.LABEL:
            return self
        columns = tuple(_relabel(column, name) for column in self.columns)
        return replace(self, columns=columns, label_map={}, benign=None)

    def labelled_by(self, name: str) -> "FlowSchema":
        """The same columns and label map for a file whose label column is called `name`.

        Raises:
            SchemaError: the model reads a column of that name.
        """
        if any(column.name == name and column.is_feature for column in self.columns):
            raise SchemaError(
                f"--label: expected a column that is not a feature of the model, got {name!r}; name the "
                "label column"
            )
        remaining = tuple(
            column for column in self.columns if column.name != name or column.kind is ColumnKind.LABEL
        )
        if self.label is None:
            return replace(
                self, columns=(*remaining, Column(name=name, kind=ColumnKind.LABEL, is_feature=False))
            )
        return replace(
            self,
            columns=tuple(
                replace(column, name=name) if column.kind is ColumnKind.LABEL else column
                for column in remaining
            ),
        )

    def without(self, dropped: Sequence[str]) -> "FlowSchema":
        """The same columns, where columns of these names or kinds, and combinations of them, are not
        features.

        >>> ports = [Column(name=name, kind=ColumnKind.PORT, is_feature=True) for name in ("sport", "dport")]
        >>> flows = FlowSchema(name="flows", columns=tuple(ports))
        >>> [column.name for column in flows.without(["sport"]).features]
        ['dport']
        >>> flows.without(["prot"])
        Traceback (most recent call last):
        wirebert.errors.SchemaError: data.drop: there is no column or kind 'prot', did you mean 'port'? known:
        sport, ...
        """
        candidates = list(dict.fromkeys([*self.names, *map(str, ColumnKind)]))
        unknown = next((name for name in dropped if name not in candidates), None)
        if unknown is not None:
            raise SchemaError(f"data.drop: {missing_name('column or kind', unknown, candidates)}")
        kinds = set(dropped) - set(self.names)
        dropped_names = {
            column.name for column in self.columns if column.name in dropped or column.kind in kinds
        }
        columns = tuple(
            replace(
                column, is_feature=False, note="; ".join(filter(None, (column.note, "dropped by data.drop")))
            )
            if column.name in dropped_names and column.is_feature
            else column
            for column in self.columns
        )
        if dropped and not any(column.is_feature for column in columns):
            raise SchemaError(
                "data.drop: expected at least one feature to be left, found none; drop fewer columns"
            )
        remaining = tuple(
            combination for combination in self.combinations if dropped_names.isdisjoint(combination.columns)
        )
        return replace(self, columns=columns, combinations=remaining)

    def is_context(self, name: str) -> bool:
        """Whether a column is computed while flows are read, rather than read from the file."""
        return self.context is not None and name.startswith(CONTEXT_PREFIX)

    def positional_names(self, num_columns: int) -> tuple[str, ...] | None:
        """Names for a file without header: all columns, or without label-derived ones, or also without the
        label.

        None if no choice has this number of columns.
        """
        for left_out in ((), (ColumnKind.LABEL_DERIVED,), (ColumnKind.LABEL_DERIVED, ColumnKind.LABEL)):
            names = tuple(
                column.name
                for column in self.columns
                if column.kind not in left_out and not self.is_context(column.name)
            )
            if len(names) == num_columns:
                return names
        return None

    def to_dict(self) -> dict[str, object]:
        """Plain data for TOML and JSON, without values that equal their defaults."""
        plain: dict[str, object] = {"name": self.name}
        if self.benign is not None:
            plain["benign"] = self.benign
        if self.match:
            plain["match"] = {name: list(values) for name, values in self.match.items()}
        plain["columns"] = [_column_to_dict(column) for column in self.columns]
        if self.combinations:
            plain["combinations"] = [combination.to_dict() for combination in self.combinations]
        if self.context is not None:
            plain["context"] = self.context.to_dict()
        if self.label_map:
            plain["label_map"] = dict(self.label_map)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, object], where: str = "schema") -> "FlowSchema":
        """The schema that `to_dict` gave.

        Raises:
            SchemaError: a key or kind is unknown, a value has the wrong type, or two columns share a name.

        >>> FlowSchema.from_dict({"name": "flows", "columns": [{"name": "dur", "kind": "duraton"}]})
        Traceback (most recent call last):
        wirebert.errors.SchemaError: schema, column 'dur': there is no kind 'duraton', did you mean
        'duration'? ...
        """
        _check_keys(
            plain, ("name", "benign", "match", "columns", "label_map", "combinations", "context"), where
        )
        columns = plain.get("columns")
        if not isinstance(columns, Sequence) or isinstance(columns, str) or not columns:
            raise SchemaError(
                f"{where}: expected a list of [[columns]], found {columns!r}; name at least one column"
            )
        parsed = tuple(_column_from_dict(column, where) for column in columns)
        names = [column.name for column in parsed]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise SchemaError(
                f"{where}: expected each column once, found {repeated!r} twice; rename or remove one"
            )
        labels = [column.name for column in parsed if column.kind is ColumnKind.LABEL]
        if len(labels) > 1:
            raise SchemaError(f"{where}: expected one label, found {labels}; make the others label_derived")
        match = _table(plain.get("match", {}), "match", where)
        return cls(
            name=_text(plain.get("name"), "name", where),
            columns=parsed,
            label_map={
                key: _text(value, key, where)
                for key, value in _table(plain.get("label_map", {}), "label_map", where).items()
            },
            benign=None if plain.get("benign") is None else _text(plain["benign"], "benign", where),
            match={key: _texts(value, key, where) for key, value in match.items()},
            combinations=_combinations(plain.get("combinations", ()), parsed, where),
            context=ContextWindows.from_dict(plain["context"], where) if "context" in plain else None,
        )


def missing_name(what: str, name: str, candidates: Iterable[str]) -> str:
    """A clause for messages about an unknown name: the nearest name, and all names.

    >>> missing_name("column", "lable", ["dur", "label"])
    "there is no column 'lable', did you mean 'label'? known: dur, label"
    """
    candidates = list(candidates)
    import difflib

    near = difflib.get_close_matches(name.lower(), [other.lower() for other in candidates], n=1)
    suggestion = next(
        (f", did you mean {other!r}?" for other in candidates if near and other.lower() == near[0]), ";"
    )
    return f"there is no {what} {name!r}{suggestion} known: {', '.join(candidates)}"


def _relabel(column: Column, label: str) -> Column:
    if column.name == label:
        return replace(column, kind=ColumnKind.LABEL, is_feature=False, note="")
    if column.kind is ColumnKind.LABEL:
        return replace(
            column, kind=ColumnKind.LABEL_DERIVED, note=f"another label column; the label is {label!r}"
        )
    return column


def _column_to_dict(column: Column) -> dict[str, object]:
    plain: dict[str, object] = {"name": column.name, "kind": str(column.kind)}
    if column.is_feature != column.kind.can_be_feature:
        plain["is_feature"] = column.is_feature
    if column.null_values != DEFAULT_NULL_VALUES:
        plain["null_values"] = list(column.null_values)
    if column.note:
        plain["note"] = column.note
    if column.group:
        plain["group"] = column.group
    if column.unit:
        plain["unit"] = column.unit
    return plain


def _column_from_dict(plain: object, where: str) -> Column:
    table = _table(plain, "columns", where)
    name = _text(table.get("name"), "columns.name", where)
    where = f"{where}, column {name!r}"
    _check_keys(table, ("name", "kind", "is_feature", "null_values", "note", "group", "unit"), where)
    kind = _text(table.get("kind"), "kind", where)
    if kind not in set(ColumnKind):
        raise SchemaError(f"{where}: {missing_name('kind', kind, [str(kind) for kind in ColumnKind])}")
    is_feature = table.get("is_feature", ColumnKind(kind).can_be_feature)
    if not isinstance(is_feature, bool):
        raise SchemaError(f"{where}: is_feature must be true or false, got {is_feature!r}")
    if is_feature and not ColumnKind(kind).can_be_feature:
        raise SchemaError(
            f"{where}: a column of kind {kind} cannot be a feature; change its kind or is_feature"
        )
    return Column(
        name=name,
        kind=ColumnKind(kind),
        is_feature=is_feature,
        null_values=_texts(table.get("null_values", DEFAULT_NULL_VALUES), "null_values", where),
        note=_text(table.get("note", ""), "note", where),
        group=_text(table.get("group", ""), "group", where),
        unit=_unit(table.get("unit", ""), where),
    )


def _unit(value: object, where: str) -> str:
    if value not in ("", *UNITS):
        raise SchemaError(f"{where}: unit must be one of {', '.join(UNITS)}, got {value!r}")
    return str(value)


def _combinations(plain: object, columns: Sequence[Column], where: str) -> tuple[Combination, ...]:
    if not isinstance(plain, list | tuple):
        raise SchemaError(f"{where}: combinations must be a list, got {plain!r}")
    combinations = tuple(Combination.from_dict(item, where) for item in plain)
    kinds = {column.name: column.kind for column in columns}
    for index, combination in enumerate(combinations):
        for name in combination.columns:
            if name not in kinds:
                raise SchemaError(
                    f"{where}, combination {combination.name!r}: {missing_name('column', name, kinds)}"
                )
            if combination.operation != "pair" and not kinds[name].is_numeric:
                raise SchemaError(
                    f"{where}, combination {combination.name!r}: a {combination.operation} needs numbers, "
                    f"got column {name!r} of kind {kinds[name]}"
                )
        if combination.name in {*kinds, *(other.name for other in combinations[:index])}:
            raise SchemaError(f"{where}: expected each name once, found {combination.name!r} twice")
    return combinations


def _check_keys(plain: Mapping[str, object], candidates: Sequence[str], where: str) -> None:
    for key in plain:
        if key not in candidates:
            raise SchemaError(f"{where}: {missing_name('key', key, candidates)}")


def _table(value: object, key: str, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise SchemaError(f"{where}: {key} must be a table, got {value!r}")
    return value


def _text(value: object, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise SchemaError(f"{where}: {key} must be text, got {value!r}")
    return value


def _texts(value: object, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise SchemaError(f"{where}: {key} must be a list of text, got {value!r}")
    return tuple(_text(item, key, where) for item in value)
