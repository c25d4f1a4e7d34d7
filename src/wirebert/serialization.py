"""Frozen dataclasses to plain values and back: settings strictly for TOML, everything else by msgspec for
JSON.

For settings, an unknown name, a value of the wrong type or out of range is a `ConfigError` that names the
setting. The only implicit conversion is from an integer to a float. This reader is written by hand for its
messages.
"""

import ast
import difflib
import inspect
import sys
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import tomli_w

from wirebert.errors import ConfigError
from wirebert.untrusted_text import printable_name

T = TypeVar("T")


def settings_from_dict(cls: type[T], values: Mapping[str, object], path: str = "") -> T:
    """An instance of the settings dataclass `cls` with `values` instead of its defaults.

    Raises:
        ConfigError: unknown setting (the error suggests the nearest known one), wrong type, or value out of
            range.
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
    """The settings as plain values; None and empty tables are left out, as TOML has no null, and names of
    files are printable."""
    plain: dict[str, object] = {}
    for field in fields(cast(Any, settings)):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            plain[field.name] = settings_to_dict(value)
        elif isinstance(value, tuple):
            items = cast(tuple[object, ...], value)
            plain[field.name] = [printable_name(item) if isinstance(item, str) else item for item in items]
        elif isinstance(value, Mapping):
            if value:
                plain[field.name] = dict(cast(Mapping[str, object], value))
        elif isinstance(value, str):
            plain[field.name] = printable_name(value)
        elif value is not None:
            plain[field.name] = value
    return plain


def settings_to_toml(settings: object) -> str:
    """The settings as TOML that `settings_from_dict` reads back, each with its meaning as a comment above
    it."""
    return "\n".join(_toml_lines(settings, "")).strip() + "\n"


@cache
def field_texts(cls: type) -> Mapping[str, str]:
    """The docstring under each field of a dataclass; empty where there is no source code to read."""
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
        return _convert_union(args, value, path)
    if origin is Mapping:
        return _convert_table(args[1], value, path)
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


def _convert_union(args: tuple[Any, ...], value: object, path: str) -> object:
    """A value of `kind | None`, `kind` or some words, or both; "auto" is None where no text is expected."""
    if value is None or value == "none" or (value == "auto" and str not in args):
        return None
    words = [word for arg in args if get_origin(arg) is Literal for word in get_args(arg)]
    kinds = [arg for arg in args if arg is not types.NoneType and get_origin(arg) is not Literal]
    if value in words or not kinds:
        return _convert(Literal[*words], value, path)
    if words and isinstance(value, str):
        raise ConfigError(f"{path} must be {_KIND_WORDS[kinds[0]]} or {' or '.join(words)}, got {value!r}")
    return _convert(kinds[0], value, path)


def _convert_table(kind: Any, value: object, path: str) -> Mapping[str, object]:
    """A TOML table of values of one kind; "none" is the empty table, which clears what a recipe set."""
    if value == "none":
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path} is a table: set {path}.NAME=VALUE, got {value!r}")
    items = cast(Mapping[str, object], value).items()
    return {name: _convert(kind, item, f"{path}.{name}") for name, item in items}


_KIND_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def to_builtins(value: object) -> object:
    """`value` as dicts, lists, texts and numbers, as JSON holds them; NaN and infinity become None.

    >>> to_builtins({"loss": np.float32("nan"), "matrix": np.eye(2, dtype=int), "range": (0.5, float("inf"))})
    {'loss': None, 'matrix': [[1, 0], [0, 1]], 'range': [0.5, None]}
    """
    return cast(object, msgspec.json.decode(msgspec.json.encode(value, enc_hook=_numpy_to_builtins)))


def _numpy_to_builtins(value: Any) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return cast(object, value.tolist())
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


def from_builtins(kind: type[T], data: object) -> T:
    """The inverse of `to_builtins` for a dataclass; missing fields take their defaults, unknown fields are
    ignored.

    Raises:
        TypeError: A field without a default is missing, or a value is not of the field's type.
    """
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from error
