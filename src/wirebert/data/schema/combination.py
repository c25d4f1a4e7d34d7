"""Columns made of two other columns. A schema lists them; the encoding computes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from wirebert.errors import SchemaError

Operation = Literal["ratio", "share", "pair"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Combination:
    """A column made of two other columns.

    ratio: the first over the second (bytes per packet, packets per second); missing where the second is 0.
    share: the first over the sum of both (the part that one side sent); missing where both are 0.
    pair: both values as one category (service with state).
    """

    name: str
    operation: Operation
    columns: tuple[str, str]

    def to_dict(self) -> dict[str, object]:
        """Plain data for TOML and JSON."""
        return {"name": self.name, "operation": self.operation, "columns": list(self.columns)}

    @classmethod
    def from_dict(cls, plain: object, where: str) -> "Combination":
        """The combination that `to_dict` gave.

        >>> Combination.from_dict({"name": "x", "operation": "sum", "columns": ["a", "b"]}, "schema")
        Traceback (most recent call last):
        wirebert.errors.SchemaError: schema, combination 'x': operation must be one of ratio, share, pair, got
        'sum'
        """
        table = plain if isinstance(plain, Mapping) else {}
        name, operation, columns = table.get("name"), table.get("operation"), table.get("columns")
        if not isinstance(name, str) or not name or set(table) != {"name", "operation", "columns"}:
            raise SchemaError(f"{where}: a combination has name, operation and columns, got {plain!r}")
        where = f"{where}, combination {name!r}"
        if operation not in get_args(Operation):
            raise SchemaError(
                f"{where}: operation must be one of {', '.join(get_args(Operation))}, got {operation!r}"
            )
        if not isinstance(columns, list | tuple) or len(columns) != 2:
            raise SchemaError(f"{where}: columns must be two names, got {columns!r}")
        first, second = columns
        if not isinstance(first, str) or not isinstance(second, str):
            raise SchemaError(f"{where}: columns must be two names, got {columns!r}")
        return cls(name=name, operation=cast(Operation, operation), columns=(first, second))
