"""Parquet -> blocks of columns. Numbers stay numbers, booleans become "0" and "1", dates become text.

Structures become columns `outer.inner`; lists become text, or their length (see `list_cells`).
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wirebert.data.arrow_columns import combine_chunks, flat, is_list, list_cells
from wirebert.data.dialect import reason_of
from wirebert.errors import DataError

MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 1_024, 262_144


def read_parquet_names(path: Path) -> tuple[tuple[str, ...], int]:
    """Column names as in the file, and the number of rows."""
    with _open(path) as file:
        try:
            return tuple(flat(file.schema_arrow.empty_table()).column_names), file.metadata.num_rows
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the Parquet data is damaged ({reason_of(error)})") from error


def read_parquet(path: Path, block_bytes: int, *, names: tuple[str, ...]) -> Iterator[pa.Table]:
    """Blocks of rows in file order, about `block_bytes` of uncompressed data each.

    Raises:
        DataError: the file is damaged, or a column holds neither numbers, text, times, lists nor structures.
    """
    with _open(path) as file:
        metadata = file.metadata
        num_bytes = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        row_bytes = max(1, num_bytes // max(1, metadata.num_rows))
        block_rows = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, block_bytes // row_bytes))
        try:
            for batch in file.iter_batches(batch_size=block_rows):
                table = flat(pa.Table.from_batches([batch])).rename_columns(list(names))
                yield pa.table({name: plain(table[name], name, path) for name in names})
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise DataError(f"{path}: the Parquet data is damaged ({reason_of(error)})") from error


def plain(column: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    """A column as float64, integers or text (dictionary-encoded or not)."""
    kind = column.type
    if pa.types.is_dictionary(kind):
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
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise DataError(
            f"{path}, column {name!r}: expected numbers, text, booleans or times, found {kind}; "
            "flatten or drop the column"
        ) from error


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a Parquet file, found a damaged one ({reason_of(error)})"
        ) from error
