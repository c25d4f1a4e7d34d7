"""Frozen dataclasses to plain JSON values and back.

The report is written by one process and shown by another, so every part of it takes this trip without losing a type.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")


def to_plain(value: object) -> object:
    """`value` as dicts, lists, texts and numbers; what is not finite becomes None, since JSON has no NaN.

    >>> to_plain({"loss": np.float32("nan"), "matrix": np.eye(2, dtype=int), "range": (0.5, math.inf)})
    {'loss': None, 'matrix': [[1, 0], [0, 1]], 'range': [0.5, None]}
    >>> to_plain({1, 2})
    Traceback (most recent call last):
    TypeError: a set has no place in a report
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in cast(list[object], value)]
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(cast(object, value.tolist()))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"a {type(value).__name__} has no place in a report")


def from_plain(kind: type[T], data: object) -> T:
    """The inverse of `to_plain` for a dataclass; fields that `data` lacks take their defaults.

    Raises:
        TypeError: A field without a default is missing, or a value is not of the field's type.
    """
    return cast(T, _read(kind, data))


def _read(kind: Any, data: Any) -> object:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is object:
        return data
    if origin in (Union, UnionType):
        if data is None and NoneType in parts:
            return None
        return _read(next(part for part in parts if part is not NoneType), data)
    if origin is Literal:
        if data not in parts:
            raise TypeError(f"expected one of {parts}, got {data!r}")
        return data
    if is_dataclass(kind):
        return _read_dataclass(cast(type, kind), data)
    if origin is tuple:
        kinds = [parts[0]] * len(data) if parts[-1] is Ellipsis else parts
        return tuple(_read(part, item) for part, item in zip(kinds, data, strict=True))
    if origin is Mapping:
        return {key: _read(parts[1], item) for key, item in data.items()}
    if kind is float and type(data) is int:
        return float(data)
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, got {data!r}")
    return data


def _read_dataclass(kind: type, data: Mapping[str, object]) -> object:
    if not isinstance(data, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]: it comes from a file
        raise TypeError(f"expected the fields of {kind.__name__}, got {data!r}")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], data[name]) for name in hints if name in data})
