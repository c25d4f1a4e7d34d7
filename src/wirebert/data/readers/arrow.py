"""Arrow files (Feather version 2) and Arrow streams -> blocks of columns, typed like those of Parquet."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import flat
from wirebert.data.dialect import Compression, clean_names, damaged, reason_of
from wirebert.data.readers.arrow_messages import DAMAGED, declared_batches
from wirebert.data.readers.parquet import block_rows, in_blocks, plain
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError

FILE_MAGIC, STREAM_MAGIC = b"ARROW1", b"\xff\xff\xff\xff"
MAX_BATCH_BYTES = 1 << 28
"""A batch is unpacked as a whole."""
MAX_EMPTY_ROWS = 1 << 20
"""Rows beyond one for each bit of a batch: they hold nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrowTable:
    """A table in one of Arrow's own formats, memory-mapped."""

    path: Path
    where: str
    names: tuple[str, ...]
    title: str
    schema: FlowSchema | None = None
    joined_files: tuple[Path, ...] = ()
    format: str = "arrow"

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of rows in file order, about `block_bytes` each."""
        try:
            for batch in _batches(self.path, self.title):
                batch.validate(
                    full=True
                )  # Arrow trusts a file, and an index out of bounds would end the process
                if parse_stats:
                    parse_stats.num_rows += batch.num_rows
                    parse_stats.num_lines += batch.num_rows
                rows = block_rows(batch.nbytes, batch.num_rows, block_bytes)
                for start in range(0, batch.num_rows, rows):
                    table = flat(pa.Table.from_batches([batch.slice(start, rows)]))
                    table = table.rename_columns(list(self.names))
                    texts = {name: plain(table[name], name, self.path) for name in self.names}
                    yield from in_blocks(pa.table(texts), block_bytes)
        except DAMAGED as error:
            raise damaged(self.where, "Arrow", error) from error


def open_arrow(path: Path, head: bytes, compression: Compression, where: str) -> ArrowTable | None:
    """The Arrow data that begins with `head`; None for another file."""
    titles = {FILE_MAGIC: "Arrow file", STREAM_MAGIC: "Arrow stream"}
    title = next((title for magic, title in titles.items() if head.startswith(magic)), None)
    if title is None:
        return None
    if compression != "none":
        raise DataError(f"{where}: expected plain Arrow data, found it inside {compression}; unpack it first")
    try:
        names = flat(_schema(path, title).empty_table()).column_names
        _check_sizes(path, title, where)
    except DAMAGED as error:
        raise DataError(f"{where}: expected Arrow data, found it damaged ({reason_of(error)})") from error
    return ArrowTable(path=path, where=where, names=clean_names(names)[0], title=title)


def _schema(path: Path, title: str) -> pa.Schema:
    with pa.memory_map(os.fsencode(path)) as file:  # pyright: ignore[reportArgumentType]
        if title == "Arrow file":
            return pa.ipc.open_file(file).schema
        return pa.ipc.open_stream(file).schema


def _check_sizes(path: Path, title: str, where: str) -> None:
    """Refuse batches that would unfold into far more than the file holds."""
    with _stream(path, title) as file:
        for batch in declared_batches(pa.ipc.MessageReader.open_stream(file)):
            if batch.num_bytes > MAX_BATCH_BYTES:
                raise DataError(
                    f"{where}: expected batches of at most {MAX_BATCH_BYTES:,} bytes, found one of "
                    f"{batch.num_bytes:,}; write it in smaller batches"
                )
            if batch.num_rows > 8 * batch.num_bytes + MAX_EMPTY_ROWS:
                raise DataError(
                    f"{where}: expected rows of flows, found {batch.num_rows:,} rows in {batch.num_bytes:,} "
                    "bytes, which hold nothing; drop them"
                )


def _batches(path: Path, title: str) -> Iterator[pa.RecordBatch]:
    with _stream(path, title) as file:
        yield from pa.ipc.open_stream(file)


def _stream(path: Path, title: str) -> pa.MemoryMappedFile:
    """The stream of a file, which stands behind its magic bytes; its footer could name other batches."""
    file = pa.memory_map(os.fsencode(path))  # pyright: ignore[reportArgumentType]
    file.seek(8 if title == "Arrow file" else 0)
    return file
