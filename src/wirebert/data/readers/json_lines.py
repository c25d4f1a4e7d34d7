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
from wirebert.data.dialect import HEAD_BYTES, Compression, read_head
from wirebert.data.readers.json_layout import is_json_lines, json_blocks, layout_of
from wirebert.data.readers.json_values import MAX_CELLS, MAX_FIELDS, table_of_objects
from wirebert.data.readers.lines import parse_json
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.standard_input import arriving

FIELD_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"\s*+:')
NESTED = re.compile(rb"[:\[,]\s*\{")
MAX_NESTED = 40_000
"""Fields beside structures that Arrow parses at once: it takes time with the square of those that differ."""


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
        known = set(self.names)
        for block in _pieces(json_blocks(self.path, self.compression, block_bytes, self.where, stats)):
            table = _read_block(block, stats, known)
            nulls = pa.nulls(table.num_rows, pa.string())
            found = dict(zip(table.column_names, table.columns, strict=True))
            yield pa.table({name: _plain(found[name]) if name in found else nulls for name in self.names})

    def can_be_cut(self) -> bool:
        """Whether it is plain text of one object a line."""
        return self.compression == "none" and is_json_lines(read_head(self.path)[0])

    def of_lines(self, path: Path) -> "JsonLines":
        """The reader of a file of some of its lines."""
        return replace(self, path=path)

    def is_exact(self, lines: bytes) -> bool:
        """Whether some of its lines are read alone as within the file."""
        return layout_of(lines[:HEAD_BYTES]) is None or is_json_lines(lines)


def open_json_lines(
    path: Path, head: bytes, compression: Compression, where: str, block_bytes: int
) -> JsonLines | None:
    """The JSON of a file whose events begin with `head`, one a line; None for another file."""
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return None
    names: dict[str, None] = {}
    if arriving(path) is not None:  # its first lines have to do
        names = dict.fromkeys(_read_block(head, ParseStats(), set()).column_names)
        return JsonLines(path=path, where=where, compression=compression, names=tuple(names))
    stats, known = ParseStats(), set[str]()
    for block in _pieces(json_blocks(path, compression, block_bytes, where, stats)):
        names.update(dict.fromkeys(_read_block(block, stats, known).column_names))
    if not names and stats.num_rejected:
        stats.check(0.0, where)
    return JsonLines(path=path, where=where, compression=compression, names=tuple(names))


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks, cut at line ends where a table of them might take much memory: each field of one line takes
    some in every line.
    """
    for block in blocks:
        start = at = num_lines = num_fields = 0
        is_nested = NESTED.search(block) is not None
        if not is_nested and block.count(b"\n") * len(set(FIELD_NAME.findall(block))) <= MAX_CELLS:
            at = len(block)
        while at < len(block):
            end = block.find(b"\n", at) + 1 or len(block)
            more = block.count(b":", at, end)  # at least as many as its fields
            is_full = is_nested and num_fields + more > MAX_NESTED
            if num_lines and (is_full or (num_lines + 1) * (num_fields + more) > MAX_CELLS):
                yield block[start:at]
                start, num_lines, num_fields = at, 0, 0
            num_lines, num_fields, at = num_lines + 1, num_fields + more, end
        yield block[start:]


def _read_block(block: bytes, parse_stats: ParseStats, known: set[str]) -> pa.Table:
    """The rows of a block. A line that makes the known fields too many is rejected; others are added."""
    before = replace(parse_stats)
    is_odd = NESTED.search(block) and (len(known) > MAX_FIELDS // 2 or block.count(b":") > MAX_NESTED)
    if not is_odd and len(set(FIELD_NAME.findall(block))) <= MAX_FIELDS:
        table = parse_json(block, None, parse_stats, known)
        if any(pa.types.is_timestamp(field.type) for field in table.schema):
            # Arrow reads some text as times; the text itself is needed.
            fields = [
                field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field
                for field in table.schema
            ]
            table = parse_json(block, pa.schema(fields), ParseStats())
        table = flat(table)
        names = set(table.column_names)
        if len(names) == table.num_columns and len(known | names) <= MAX_FIELDS:
            known |= names
            return table
        # Too many, or a field named `a.b` beside one in a structure.
        for name in ("num_lines", "num_rows", "num_not_text"):
            setattr(parse_stats, name, getattr(before, name))
    return table_of_objects(parse_stats.as_utf8(block), None, parse_stats, known)


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
