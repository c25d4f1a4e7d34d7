"""JSON objects of any types -> Arrow: each line is read alone, and types are unified per column.

Slower than Arrow's own parser, which reads a block only if each field has one type in all of its lines.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.files import MAX_DEPTH, check_depth

MAX_FIELDS = 2_000
"""Different fields of a file; parsers take time with the square of their number."""
MAX_CELLS = 1 << 26
"""Lines times fields of what is parsed at once; a cell takes up to 8 bytes, whether it is filled or not."""
_INT64 = (-(1 << 63), (1 << 63) - 1)
_WHOLE = re.compile(r"\s*-?\d{1,18}\s*")
_TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def table_of_objects(
    block: bytes, schema: pa.Schema | None, parse_stats: ParseStats, known: set[str] | None = None
) -> pa.Table:
    """The objects of a block, one a line; see `parse_json`.

    Without a schema, structures are columns `outer.inner`, and a column of several types is text. There, an
    object whose fields would make the `known` ones more than `MAX_FIELDS` is rejected; others are added.
    """
    known = set() if known is None else known
    rows: list[Mapping[str, int | float | str | None]] = []
    objects: list[Mapping[str, object]] = []
    first_line = parse_stats.num_lines + 1
    lines = block.split(b"\n")
    for index, line in enumerate(lines[:-1] if not lines[-1] else lines):
        parse_stats.num_lines += 1
        if not line.strip():
            parse_stats.num_blank += 1
            continue
        try:
            one = _object_of(line)
            if schema is None:
                rows.append(_row_of(one, known))
            objects.append(one)
        except ValueError as error:
            parse_stats.reject(first_line + index, str(error), line.decode("utf-8", "replace"))
    parse_stats.num_rows += len(objects)
    if schema is None:
        return _inferred(rows)
    first_row = parse_stats.num_rows - len(objects) + 1
    arrays: list[pa.Array] = []
    for field in schema:
        numbered = enumerate(objects, first_row)
        values = [_coerced(one, field.name, field.type, row, parse_stats) for row, one in numbered]
        arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _object_of(line: bytes) -> Mapping[str, object]:
    try:
        value: object = json.loads(line.decode())
    except RecursionError as error:
        raise ValueError(f"structures more than {MAX_DEPTH} deep") from error
    except ValueError as error:
        raise ValueError("expected a JSON object") from error
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        check_depth(value)
    return cast(Mapping[str, object], value)


def _row_of(one: Mapping[str, object], known: set[str]) -> Mapping[str, int | float | str | None]:
    row = dict(_leaves(one, ""))
    if len(known.union(row)) > MAX_FIELDS:
        raise ValueError(f"with it there would be more than {MAX_FIELDS:,} different fields")
    known.update(row)
    return row


def _inferred(rows: Sequence[Mapping[str, int | float | str | None]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        return pa.table({"": pa.nulls(len(rows))}).select([])
    return pa.table({name: _array([row.get(name) for row in rows]) for name in names})


def _leaves(one: Mapping[str, object], prefix: str) -> Iterator[tuple[str, int | float | str | None]]:
    for name, value in one.items():
        path = prefix + _clean(name)
        if isinstance(value, dict):
            yield from _leaves(cast(Mapping[str, object], value), f"{path}.")
        else:
            yield path, _cell(value)


def _cell(value: object) -> int | float | str | None:
    """Numbers and text unchanged, booleans as 1 and 0, lists of values joined by commas, other lists as their
    length."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        items = cast(list[object], value)
        if any(isinstance(item, dict | list) for item in items):
            return len(items)
        return ",".join(_text(item) for item in items if item is not None)
    if isinstance(value, str):
        return _clean(value)
    return cast(int | float | None, value)


def _array(values: Sequence[int | float | str | None]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and all(
        value is None or _INT64[0] <= cast(int, value) <= _INT64[1] for value in values
    ):
        return pa.array(values, pa.int64() if kinds else pa.string())
    if kinds <= {int, float}:
        return pa.array(
            [None if value is None else _float(cast(int | float, value)) for value in values], pa.float64()
        )
    return pa.array([None if value is None else _text(value) for value in values], pa.string())


def _float(number: int | float) -> float:
    return float(number) if abs(number) < 1e308 or isinstance(number, float) else float("inf")


def _text(value: object) -> str:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clean(text: str) -> str:
    """The text without halves of surrogate pairs, which are no Unicode."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _coerced(
    one: Mapping[str, object], name: str, kind: pa.DataType, row: int, parse_stats: ParseStats
) -> object:
    value = one.get(name)
    if value is None:
        return None
    if pa.types.is_struct(kind) and isinstance(value, dict):
        inner = cast(Mapping[str, object], value)
        return {field.name: _coerced(inner, field.name, field.type, row, parse_stats) for field in kind}
    fitting = _fitting(value, kind)
    if fitting is None:
        parse_stats.count_odd(name, row, str(value))
    return fitting


def _fitting(value: object, kind: pa.DataType) -> Any:
    """The value as this type; None where it does not fit."""
    if pa.types.is_list(kind):
        items = cast(list[object], value) if isinstance(value, list) else [value]
        return [_fitting(item, kind.value_type) for item in items]
    if pa.types.is_struct(kind):
        return (
            {
                field.name: _fitting(cast(dict[str, object], value).get(field.name), field.type)
                for field in kind
            }
            if isinstance(value, dict)
            else None
        )
    if isinstance(value, list) and len(cast(list[object], value)) == 1:
        return _fitting(cast(list[object], value)[0], kind)
    if isinstance(value, dict | list) or value is None:
        return None
    text = _text(value)
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind):
        return _TRUTH.get(text.strip().lower())
    if pa.types.is_integer(kind):
        return int(text) if _WHOLE.fullmatch(text) and not isinstance(value, bool) else None
    try:
        return float(text)
    except ValueError:
        return None
