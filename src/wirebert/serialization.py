"""Plain dictionaries (TOML) to frozen dataclasses of settings and back, strictly.

An unknown name, a value of the wrong type or out of range is a `ConfigError` that names the setting; nothing is
converted in silence except an integer where a fraction is expected.

Frozen dataclasses to plain JSON values and back.

The report is written by one process and shown by another, so every part of it takes this trip without losing a type.
"""

import ast
import difflib
import inspect
import math
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
import tomli_w

from wirebert.errors import ConfigError

T = TypeVar("T")


def settings_from_dict(cls: type[T], values: Mapping[str, object], path: str = "") -> T:
    """An instance of the settings dataclass `cls` with `values` in place of its defaults.

    Raises:
        ConfigError: unknown setting (the nearest known one is suggested), wrong type, value out of range.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cast(Any, cls))]
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {path}{near[0]}?" if near else f"known here: {', '.join(known)}"
            raise ConfigError(f"unknown setting {path}{name}; {hint}")
    return cls(**{name: _convert(hints[name], value, f"{path}{name}") for name, value in values.items()})


def settings_to_dict(settings: object) -> dict[str, object]:
    """The settings as plain values that TOML can hold; what is None is left out."""
    plain: dict[str, object] = {}
    for field in fields(cast(Any, settings)):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            plain[field.name] = settings_to_dict(value)
        elif isinstance(value, tuple):
            plain[field.name] = list(cast(tuple[object, ...], value))
        elif value is not None:
            plain[field.name] = value
    return plain


def settings_to_toml(settings: object) -> str:
    """The settings as TOML that `settings_from_dict` gives back, each with its meaning as a comment above it."""
    return "\n".join(_toml_lines(settings, "")).strip() + "\n"


@cache
def field_texts(cls: type) -> Mapping[str, str]:
    """The text that stands under each field of a dataclass; nothing where there is no source code to read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except OSError:
        return {}
    body = cast(ast.ClassDef, tree.body[0]).body
    return {
        statement.target.id: inspect.cleandoc(below.value.value)
        for statement, below in pairwise(body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _toml_lines(settings: object, path: str) -> Iterator[str]:
    texts = field_texts(type(settings))
    tables: list[tuple[str, object]] = []
    for field in fields(cast(Any, settings)):
        value = getattr(settings, field.name)
        if is_dataclass(value) or isinstance(value, Mapping):
            tables.append((field.name, value))
            continue
        text = " ".join(texts.get(field.name, "").split())
        yield from textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")
        yield (
            f'# {field.name} = "none"'
            if value is None
            else tomli_w.dumps(_plain({field.name: value})).rstrip()
        )
        yield ""
    for name, value in tables:
        text = " ".join(texts.get(name, "").split())
        yield from textwrap.wrap(text, 100, initial_indent="# ", subsequent_indent="# ")
        if is_dataclass(value):
            yield from (f"[{path}{name}]", *_toml_lines(value, f"{path}{name}."))
        else:
            yield from (f"[{path}{name}]", tomli_w.dumps(_plain(cast(Mapping[str, object], value))))


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return {
        name: list(cast(tuple[object, ...], value)) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def flatten(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every setting of all sections under its dotted name.

    >>> dict(flatten({"seed": 1, "model": {"size": "mini"}}))
    {'seed': 1, 'model.size': 'mini'}
    """
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(cast(Mapping[str, object], value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def merge(base: Mapping[str, object], top: Mapping[str, object]) -> dict[str, object]:
    """`base` with the values of `top` over it, section by section.

    >>> merge({"model": {"size": "base", "dropout": 0.1}}, {"model": {"size": "mini"}})
    {'model': {'size': 'mini', 'dropout': 0.1}}
    """
    merged = dict(base)
    for name, value in top.items():
        below = merged.get(name)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[name] = merge(cast(Mapping[str, object], below), cast(Mapping[str, object], value))
        else:
            merged[name] = value
    return merged


def _convert(hint: Any, value: object, path: str) -> object:
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} is a section: set {path}.NAME=VALUE, got {value!r}")
        return settings_from_dict(cast(type[object], hint), cast(Mapping[str, object], value), f"{path}.")
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None or value == "none":
            return None
        (inner,) = (arg for arg in args if arg is not type(None))
        return _convert(inner, value, path)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{path} must be one of {', '.join(map(str, args))}, got {value!r}")
        return value
    if origin is tuple:
        items = cast(list[object], value if isinstance(value, list) else [value])
        return tuple(_convert(args[0], item, path) for item in items)
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    if type(value) is not hint:
        is_bare = hint is str and isinstance(value, bool | int | float)
        way_out = f"; write it as {path}='\"{value}\"'" if is_bare else ""
        raise ConfigError(f"{path} must be {_KIND_WORDS[hint]}, got {value!r}{way_out}")
    return value


_KIND_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def to_builtins(value: object) -> object:
    """`value` as dicts, lists, texts and numbers; what is not finite becomes None, since JSON has no NaN.

    >>> to_builtins({"loss": np.float32("nan"), "matrix": np.eye(2, dtype=int), "range": (0.5, math.inf)})
    {'loss': None, 'matrix': [[1, 0], [0, 1]], 'range': [0.5, None]}
    >>> to_builtins({1, 2})
    Traceback (most recent call last):
    TypeError: a set has no place in a report
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_builtins(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_builtins(item) for key, item in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [to_builtins(item) for item in cast(list[object], value)]
    if isinstance(value, np.ndarray | np.generic):
        return to_builtins(cast(object, value.tolist()))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"a {type(value).__name__} has no place in a report")


def from_builtins(kind: type[T], data: object) -> T:
    """The inverse of `to_builtins` for a dataclass; fields that `data` lacks take their defaults.

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
