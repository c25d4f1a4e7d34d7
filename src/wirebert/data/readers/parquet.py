"""Parquet -> blocks of columns. Numbers stay numbers, booleans become "0" and "1", dates become text.

Structures become columns `outer.inner`; lists become text, or their length (see `list_cells`).
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import combine_chunks, flat, is_list, list_cells, of_used_values
from wirebert.data.dialect import damaged
from wirebert.errors import DataError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 1_024, 262_144
MAX_TEXT_CHARACTERS = 1 << 13
"""Text of a dictionary is cut off behind them; the model reads less."""
_CODED = pa.dictionary(pa.int32(), pa.string())


def read_parquet_names(path: Path) -> tuple[tuple[str, ...], int]:
    """Column names as in the file, and the number of rows."""
    with _open(path) as file:
        try:
            return tuple(flat(file.schema_arrow.empty_table()).column_names), file.metadata.num_rows
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise damaged(path, "Parquet", error) from error


def read_parquet(
    path: Path,
    block_bytes: int,
    *,
    names: tuple[str, ...],
    wanted: Collection[str] | None = None,
    row_groups: range | None = None,
) -> Iterator[pa.Table]:
    """Blocks of rows in file order, about `block_bytes` of uncompressed data each.

    Args:
        names: The columns, under other names than in the file.
        wanted: The names that are read; None: all.
        row_groups: The row groups that are read; None: all.

    Raises:
        DataError: the file is damaged, or a column holds neither numbers, text, times, lists nor structures.
    """
    with _open(path) as file:
        metadata = file.metadata
        num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        try:
            columns, read = _columns_of(file.schema_arrow, names, wanted)
            for batch in file.iter_batches(
                block_rows(num_bytes, metadata.num_rows, block_bytes),
                row_groups=None if row_groups is None else list(row_groups),
                columns=columns,
            ):
                table = flat(pa.Table.from_batches([batch])).rename_columns(read)
                texts = {name: plain(table[name], name, path) for name in read if _is_in(name, wanted)}
                yield from in_blocks(pa.table(texts), block_bytes)
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise damaged(path, "Parquet", error) from error


def _columns_of(
    schema: pa.Schema, names: tuple[str, ...], wanted: Collection[str] | None
) -> tuple[list[str] | None, list[str]]:
    """Columns of the file that hold `wanted` ones (None: all are read), and the names of what they give."""
    top = schema.names
    if len(set(top)) < len(top) or any("." in name for name in top):
        return None, list(names)  # Arrow selects columns by paths
    columns: list[str] = []
    read: list[str] = []
    at = 0
    for field in schema:
        inner = names[at : at + len(flat(pa.schema([field]).empty_table()).column_names)]
        at += len(inner)
        if any(_is_in(name, wanted) for name in inner):
            columns.append(field.name)
            read += inner
    return (columns, read) if columns else (None, list(names))


def _is_in(name: str, wanted: Collection[str] | None) -> bool:
    return wanted is None or name in wanted


def block_rows(num_bytes: int, num_rows: int, block_bytes: int) -> int:
    """Rows of a block of about `block_bytes`."""
    return min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, block_bytes * num_rows // max(1, num_bytes)))


def in_blocks(table: pa.Table, block_bytes: int) -> Iterator[pa.Table]:
    """The table in pieces whose texts are bounded, also if a value of a dictionary is long and frequent."""
    chunks = (chunk for column in table.columns for chunk in column.chunks)
    coded = [chunk.dictionary for chunk in chunks if isinstance(chunk, pa.DictionaryArray)]
    longest = sum(map(_longest, coded))
    rows = block_rows(longest, 1, block_bytes)
    if rows >= table.num_rows:
        yield table
        return
    for start in range(0, table.num_rows, rows):
        piece = table.slice(start, rows)
        yield pa.table({name: _piece(piece[name]) for name in piece.column_names})


def _piece(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A part of a column, without the values of other parts: each block converts and encodes those it has."""
    if not pa.types.is_dictionary(column.type):
        return column
    chunks = [of_used_values(cast(pa.DictionaryArray, one)) for one in column.chunks]
    return pa.chunked_array(chunks, cast(Any, column.type))


def plain(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """A column as float64, integers or text (dictionary-encoded or not)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if kind.value_type in (pa.string(), pa.large_string(), pa.string_view()):
            return pa.chunked_array([_coded(chunk) for chunk in column.chunks], cast(Any, _CODED))
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.string())
    if is_list(kind):
        return pa.chunked_array([list_cells(combine_chunks(column))])
    if pa.types.is_string(kind):
        column.validate(full=True)  # Arrow trusts a file to hold UTF-8
        return column
    if pa.types.is_integer(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.float64())
    if pa.types.is_timestamp(kind):
        zone = "Z" if kind.tz else ""
        if zone:
            column = column.cast(pa.timestamp(kind.unit, "UTC"))
        return pa.chunked_array(
            [pc.strftime(chunk, format=f"%Y-%m-%dT%H:%M:%S{zone}") for chunk in column.chunks], pa.string()
        )
    if pa.types.is_duration(kind):  # as text with its unit, such as `985441us`
        counts = column.cast(pa.int64()).cast(pa.string())
        return cast(Any, pc).binary_join_element_wise(counts, kind.unit, "")
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}, column {name!r}: expected numbers, text, booleans or times, found {kind}; "
            "flatten or drop the column"
        ) from error


def _longest(texts: pa.Array) -> int:
    """Bytes of the longest text."""
    return pc.max(pc.binary_length(cast(pa.StringArray, texts))).as_py() or 0


def _coded(chunk: pa.Array) -> pa.DictionaryArray:
    """Text that stays a dictionary: spelled out, one long value could fill the memory."""
    coded = of_used_values(cast(pa.DictionaryArray, chunk))  # a batch has those of all batches before it too
    texts = coded.dictionary.cast(pa.string())
    texts.validate(full=True)  # Arrow trusts a file to hold UTF-8
    if _longest(texts) > MAX_TEXT_CHARACTERS:
        texts = pc.utf8_slice_codeunits(texts, 0, MAX_TEXT_CHARACTERS)
    return pa.DictionaryArray.from_arrays(coded.indices.cast(pa.int32()), texts)


def _open(path: Path) -> "pq.ParquetFile":
    try:
        return _with_coded_texts(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise damaged(path, "Parquet", error) from error


def _with_coded_texts(path: Path) -> "pq.ParquetFile":
    """The file, its texts read as dictionaries."""
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(pa.OSFile(os.fsencode(path), "rb"))  # pyright: ignore[reportArgumentType]
    kinds = (pa.types.is_string, pa.types.is_large_string)
    texts = [field.name for field in opened.schema_arrow if any(test(field.type) for test in kinds)]
    if not texts:
        return opened
    opened.close()
    return pq.ParquetFile(pa.OSFile(os.fsencode(path), "rb"), read_dictionary=texts)  # pyright: ignore[reportArgumentType]
