from contextlib import suppress

import pyarrow as pa
import pytest

from wirebert.data.readers.arrow_messages import DAMAGED, DeclaredBatch, declared_batches


def stream(table: pa.Table, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def declared(data: bytes) -> list[DeclaredBatch]:
    return list(declared_batches(pa.ipc.MessageReader.open_stream(data)))


def test_compressed_batches_declare_what_plain_ones_hold():
    table = pa.table({"a": list(range(1000)), "b": ["x"] * 1000})
    ((plain,), (packed,)) = declared(stream(table)), declared(stream(table, "zstd"))
    assert (plain.num_rows, packed.num_rows) == (1000, 1000)
    assert not plain.is_compressed
    assert packed.is_compressed
    assert packed.num_bytes == 1000 * 8 + 1001 * 4 + 1000
    assert 0 <= plain.num_bytes - packed.num_bytes < 200  # padding


def test_a_dictionary_is_a_batch_of_its_own():
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode()})
    assert [batch.num_rows for batch in declared(stream(table))] == [2, 3]


def test_a_damaged_head_raises_what_is_listed():
    data = bytearray(stream(pa.table({"a": [1, 2, 3]})))
    for place in range(8, len(data)):
        spoiled = bytearray(data)
        spoiled[place] ^= 0xFF
        with suppress(*DAMAGED):
            declared(bytes(spoiled))
    with pytest.raises(DAMAGED):
        declared(bytes(data[: len(data) // 2]))
