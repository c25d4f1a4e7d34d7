"""JSON of any layout -> blocks of columns. Structures become columns `outer.inner`, lists become text."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import combine_chunks, flat, is_list, list_cells
from wirebert.data.dialect import Compression
from wirebert.data.readers.json_layout import json_blocks
from wirebert.data.readers.json_values import MAX_FIELDS, table_of_objects
from wirebert.data.readers.lines import parse_json
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.standard_input import arriving
from wirebert.errors import DataError

FIELD_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"\s*+:')


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonLines:
    """A file of one JSON object a line; its columns are the fields of all objects."""

    path: Path
    where: str
    compression: Compression
    names: tuple[str, ...]
    title: str = "JSON lines"
    schema: FlowSchema | None = None
    joined_files: tuple[Path, ...] = ()
    format: str = "json_lines"

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of rows in file order, all with the same columns; a field that is absent in a line is
        null."""
        stats = parse_stats or ParseStats()
        for block in json_blocks(self.path, self.compression, block_bytes, self.where, stats):
            table = _read_block(block, self.where, stats)
            nulls = pa.nulls(table.num_rows, pa.string())
            found = dict(zip(table.column_names, table.columns, strict=True))
            yield pa.table({name: _plain(found[name]) if name in found else nulls for name in self.names})


def open_json_lines(
    path: Path, head: bytes, compression: Compression, where: str, block_bytes: int
) -> JsonLines | None:
    """The JSON of a file whose events begin with `head`, one a line; None for another file."""
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return None
    names: dict[str, None] = {}
    if arriving(path) is not None:  # its first lines have to do
        names = dict.fromkeys(_read_block(head, where, ParseStats()).column_names)
        return JsonLines(path=path, where=where, compression=compression, names=tuple(names))
    for block in json_blocks(path, compression, block_bytes, where):
        names.update(dict.fromkeys(_read_block(block, where, ParseStats()).column_names))
        _check_number(len(names), where)
    return JsonLines(path=path, where=where, compression=compression, names=tuple(names))


def _read_block(block: bytes, where: str, parse_stats: ParseStats) -> pa.Table:
    _check_number(len(set(FIELD_NAME.findall(block))), where)
    before = replace(parse_stats)
    table = parse_json(block, None, parse_stats)
    if any(pa.types.is_timestamp(field.type) for field in table.schema):
        # Arrow reads some text as times; the text itself is needed.
        fields = [
            field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field
            for field in table.schema
        ]
        table = parse_json(block, pa.schema(fields), ParseStats())
    table = flat(table)
    if len(set(table.column_names)) < table.num_columns:  # a field named `a.b` beside one in a structure
        for name in ("num_lines", "num_rows"):
            setattr(parse_stats, name, getattr(before, name))
        table = table_of_objects(block, None, parse_stats)
    return table


def _check_number(num_fields: int, where: str) -> None:
    if num_fields > MAX_FIELDS:
        raise DataError(
            f"{where}: expected at most {MAX_FIELDS:,} different fields, found {num_fields:,}; write names "
            "that are values as values"
        )


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Numbers and text unchanged, booleans as 1 and 0, lists of values joined by commas, other lists as their
    length."""
    array = combine_chunks(column)
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.string())
    if is_list(kind):
        return list_cells(array)
    return array.cast(pa.string()) if pa.types.is_timestamp(kind) else array
