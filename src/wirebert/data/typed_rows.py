"""Typed rows on disk: the blocks that parsing a traffic file gave, written once and read by every later pass.

The file is a series of Arrow IPC streams, one for each run of blocks of the same columns, with its buffers
compressed.
It is read block by block: a pass holds one block in memory, whatever the number of rows.

Beside it lies an account of the parsing (rows that could not be used, values that are not valid), so that a
resumed run
reports it without parsing again.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, cast

import pyarrow as pa
from pyarrow import ipc

from wirebert.data.arrow_columns import combine_chunks
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import DataError
from wirebert.files import fsync_path, read_json_file, remove_folder, write_atomic

FORMAT: Final = 2
ROWS: Final = "rows.arrows"
INDEX: Final = "index.json"
COMPRESSION: Final = "zstd"
PIECE_ROWS: Final = 1 << 18
"""Least number of rows of a piece, but of the last: what one process reads for others."""


class TypedPiece(NamedTuple):
    """Whole streams of a file of typed rows, which can be read without those before them."""

    start: int
    """First byte."""
    stop: int
    first_row: int
    num_rows: int


_COPY_BYTES = 1 << 22


class TypedRowsWriter:
    """Writes blocks of typed rows into a partial folder, which `finish` moves to its final place at once."""

    def __init__(self, partial: Path) -> None:
        self.folder = self._partial = partial
        self._num_rows = 0
        self._pieces: list[TypedPiece] = []
        self._writer: ipc.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> "TypedRowsWriter":
        remove_folder(self._partial)  # an interrupted writer's
        self._partial.mkdir(parents=True)
        self._file = pa.OSFile(os.fsencode(self._partial / ROWS), "wb")  # pyright: ignore[reportArgumentType]
        return self

    def write(self, block: pa.Table) -> None:
        """Append a block; it is read again with the same columns, types and dictionaries."""
        if self._writer is None or block.schema != self._schema:
            self._end_stream()
            options = ipc.IpcWriteOptions(compression=COMPRESSION)
            self._writer = ipc.new_stream(self._file, block.schema, options=options)
            self._schema = block.schema
        arrays = [combine_chunks(column) for column in block.columns]
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=block.schema))
        self._num_rows += block.num_rows
        if self._num_rows - self._end[1] >= PIECE_ROWS:
            self._end_piece()

    def append(self, path: Path) -> None:
        """Append the pieces that another writer wrote to a folder, and delete the folder."""
        self._end_piece()
        at, first = self._file.tell(), self._num_rows
        with (path / ROWS).open("rb") as file:
            while content := file.read(_COPY_BYTES):
                self._file.write(content)
        for piece in read_pieces(path):
            moved = TypedPiece(piece.start + at, piece.stop + at, piece.first_row + first, piece.num_rows)
            self._pieces.append(moved)
            self._num_rows += piece.num_rows
        remove_folder(path)

    def _end_stream(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _end_piece(self) -> None:
        self._end_stream()
        start, first = self._end
        if self._num_rows > first:
            self._pieces.append(TypedPiece(start, self._file.tell(), first, self._num_rows - first))

    @property
    def _end(self) -> tuple[int, int]:
        """Bytes and rows of the pieces so far."""
        last = self._pieces[-1] if self._pieces else TypedPiece(0, 0, 0, 0)
        return last.stop, last.first_row + last.num_rows

    def finish(self, folder: Path, fingerprint: str, invalid_values: InvalidValues) -> None:
        """Move the rows to `folder`, whole, with the account of the parsing.

        Args:
            folder: Beside the folder that is written to; an older one is replaced.
            fingerprint: Of the content of the files that were parsed.
            invalid_values: As the parsing counted them.
        """
        self._end_piece()
        num_bytes = self._file.tell()
        self._file.close()
        index = {
            "format": FORMAT,
            "fingerprint": fingerprint,
            "num_rows": self._num_rows,
            "num_bytes": num_bytes,
            "pieces": self._pieces,
            "invalid_values": invalid_values.to_dict(),
        }
        write_atomic(self._partial / INDEX, json.dumps(index))
        fsync_path(self._partial / ROWS)
        fsync_path(self._partial)
        remove_folder(folder)
        self._partial.rename(folder)
        fsync_path(folder.parent)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self._file.close()
        remove_folder(self._partial)


def read_pieces(folder: Path) -> tuple[TypedPiece, ...]:
    """The pieces that `read_typed_rows` reads one by one."""
    index = cast(dict[str, Any], read_json_file(folder / INDEX))
    return tuple(TypedPiece(*piece) for piece in index["pieces"])


def read_typed_rows(folder: Path, piece: TypedPiece | None = None) -> Iterator[pa.Table]:
    """The blocks in the order in which they were written, or of a piece, each read when it is asked for.

    Raises:
        DataError: the rows are missing or damaged.
    """
    path = folder / ROWS
    try:
        size = path.stat().st_size if piece is None else piece.stop
        with pa.OSFile(os.fsencode(path), "rb") as file:  # pyright: ignore[reportArgumentType]
            file.seek(0 if piece is None else piece.start)
            while file.tell() < size:
                with ipc.open_stream(file) as stream:
                    for batch in stream:
                        yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: expected typed rows of the training data, could not read them ({error}); "
            f"delete the folder {folder} and run the command again"
        ) from error


def read_index(folder: Path) -> tuple[str, InvalidValues] | None:
    """Fingerprint of the parsed files and account of their parsing; None where the rows are not whole."""
    try:
        index = cast(dict[str, Any], read_json_file(folder / INDEX))
        size = (folder / ROWS).stat().st_size
        if (index["format"], index["num_bytes"]) != (FORMAT, size):
            return None
        return str(index["fingerprint"]), InvalidValues.from_dict(index["invalid_values"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def restore(into: InvalidValues, saved: InvalidValues) -> None:
    """Make one account equal to another."""
    for field in fields(InvalidValues):
        setattr(into, field.name, getattr(saved, field.name))


def free_bytes(folder: Path) -> int:
    """Bytes that can be written to the disk of a folder, which need not exist yet."""
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    import shutil  # here, as it loads every compression

    return shutil.disk_usage(existing).free
