"""What the messages of Arrow data declare, read from their heads alone: before any buffer is unpacked.

Source: Arrow columnar format, Message.fbs; FlatBuffers internals.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

DAMAGED: Final = (pa.ArrowException, OSError, ValueError, struct.error, OverflowError, MemoryError)
"""Errors raised when damaged Arrow data is read."""
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_HEADER_TYPE, _HEADER, _DATA = 1, 2, 1
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3
"""Fields of Arrow's flatbuffer tables, numbered as in Message.fbs."""


@dataclass(frozen=True, slots=True)
class DeclaredBatch:
    """A batch of rows, or of values of a dictionary, as its head describes it."""

    num_rows: int
    num_bytes: int
    """Bytes of its buffers, once unpacked."""
    is_compressed: bool


def declared_batches(reader: pa.ipc.MessageReader) -> Iterator[DeclaredBatch]:
    """The batches of a stream.

    Raises:
        one of `DAMAGED`: a head is damaged.
    """
    for message in reader:
        head = message.metadata.to_pybytes()
        batch = _batch_at(head)
        if batch is None:
            continue
        length_at = _field(head, batch, _LENGTH)
        num_rows = int(struct.unpack_from("<q", head, length_at)[0]) if length_at else 0
        body = memoryview(message.body or b"")
        is_compressed = _field(head, batch, _COMPRESSION) is not None
        num_bytes = sum(_unpacked_sizes(head, batch, body)) if is_compressed else len(body)
        yield DeclaredBatch(num_rows, num_bytes, is_compressed)


def _unpacked_sizes(head: bytes, batch: int, body: memoryview) -> Iterator[int]:
    """Bytes of each compressed buffer, which it begins with; -1 there: it is plain."""
    buffers_at = _field(head, batch, _BUFFERS)
    vector = 0 if buffers_at is None else _table(head, buffers_at)
    for number in range(int(struct.unpack_from("<I", head, vector)[0]) if vector else 0):
        start, length = struct.unpack_from("<qq", head, vector + 4 + 16 * number)
        if length:
            size = int(struct.unpack_from("<q", body, start)[0])
            yield size if size >= 0 else int(length)


def _batch_at(head: bytes) -> int | None:
    """Position of the batch that a message holds; None for another message."""
    message = int(struct.unpack_from("<I", head)[0])
    kind_at, batch_at = _field(head, message, _HEADER_TYPE), _field(head, message, _HEADER)
    if kind_at is None or batch_at is None or head[kind_at] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return None
    batch = _table(head, batch_at)
    if head[kind_at] == _RECORD_BATCH:
        return batch
    data_at = _field(head, batch, _DATA)
    return None if data_at is None else _table(head, data_at)


def _table(head: bytes, at: int) -> int:
    return at + int(struct.unpack_from("<I", head, at)[0])


def _field(head: bytes, table: int, number: int) -> int | None:
    """Position of a table's field; None if it is absent."""
    layout = table - int(struct.unpack_from("<i", head, table)[0])
    if layout < 0:
        raise ValueError("a head that points outside itself")
    size = int(struct.unpack_from("<H", head, layout)[0])
    entry = 4 + 2 * number
    offset = int(struct.unpack_from("<H", head, layout + entry)[0]) if entry + 2 <= size else 0
    return table + offset if offset else None
