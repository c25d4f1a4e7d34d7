"""JSON lines -> blocks of columns. Structures become columns `outer.inner`, lists become text."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import combine_chunks
from wirebert.data.dialect import Compression
from wirebert.data.readers.lines import line_blocks, parse_json
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError


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
        for block in line_blocks(self.path, self.compression, block_bytes, self.where):
            table = _read_block(block, self.where, parse_stats or ParseStats())
            nulls = pa.nulls(table.num_rows, pa.string())
            yield pa.table(
                {name: _plain(table[name]) if name in table.column_names else nulls for name in self.names}
            )


def open_json_lines(
    path: Path, head: bytes, compression: Compression, where: str, block_bytes: int
) -> JsonLines | None:
    """The JSON lines of a file that begins with `head`; None for another file.

    Raises:
        DataError: the file is one JSON array, or a line is not an object.
    """
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"["):
        if start[1:].lstrip().startswith(b"{"):
            raise DataError(
                f"{where}: expected one JSON object a line, found one array of them; write each on a line "
                "(jq -c '.[]')"
            )
        return None
    if not start.startswith(b"{"):
        return None
    names: dict[str, None] = {}
    for block in line_blocks(path, compression, block_bytes, where):
        names.update(dict.fromkeys(_read_block(block, where, ParseStats()).column_names))
    return JsonLines(path=path, where=where, compression=compression, names=tuple(names))


def _read_block(block: bytes, where: str, parse_stats: ParseStats) -> pa.Table:
    table = parse_json(block, None, where, parse_stats)
    if any(pa.types.is_timestamp(field.type) for field in table.schema):
        # Arrow reads some text as times; the text itself is needed.
        fields = [
            field.with_type(pa.string()) if pa.types.is_timestamp(field.type) else field
            for field in table.schema
        ]
        table = parse_json(block, pa.schema(fields), where, ParseStats())
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Numbers and text unchanged, booleans as 1 and 0, lists of values joined by commas, other lists as their
    length."""
    array = combine_chunks(column)
    kind = array.type
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.string())
    if pa.types.is_list(kind):
        if pa.types.is_nested(kind.value_type) or pa.types.is_null(kind.value_type):
            return pc.list_value_length(array).cast(pa.int64())
        return cast(pa.Array, pc.binary_join(array.cast(pa.list_(pa.string())), ","))
    return array.cast(pa.string()) if pa.types.is_timestamp(kind) else array
