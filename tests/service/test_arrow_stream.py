import io
import struct

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.service.arrow_stream import read_stream
from wirebert.service.limits import Limits, RequestError

LIMITS = Limits(max_rows=50, max_columns=8, max_field_characters=20)


def stream(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:  # pyright: ignore[reportArgumentType]
        writer.write_table(table)
    return sink.getvalue()


def test_wanted_columns_come_back_and_others_do_not():
    table = pa.table({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]})
    found = read_stream(stream(table), {"a", "b"}, LIMITS)
    assert found.to_pydict() == {"a": [1.0, 2.0], "b": ["x", None]}


def test_truth_values_times_and_dictionaries_are_read():
    table = pa.table(
        {
            "a": [True, None],
            "b": pa.array([0, 10**6], pa.timestamp("us")),
            "c": pa.array(["tcp", "tcp"]).dictionary_encode(),
            "d": pa.nulls(2),
        }
    )
    found = read_stream(stream(table), set("abcd"), Limits())
    assert found.to_pydict() == {
        "a": ["1", None],
        "b": ["1970-01-01T00:00:00.000000", "1970-01-01T00:00:01.000000"],
        "c": ["tcp", "tcp"],
        "d": [None, None],
    }
    assert pa.types.is_dictionary(found["c"].type)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_before_they_are_unfolded(codec: str):
    bomb = stream(pa.table({"a": pa.array([0.0] * 100_000)}), compression=codec)
    with pytest.raises(RequestError, match="compressed") as caught:
        read_stream(bomb, {"a"}, LIMITS)
    assert caught.value.status == 415


def test_a_compressed_dictionary_is_refused_too():
    table = pa.table({"a": pa.array(["x" * 1000] * 3).dictionary_encode()})
    with pytest.raises(RequestError, match="compressed"):
        read_stream(stream(table, compression="zstd"), {"a"}, LIMITS)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (pa.table({"a": pa.nulls(10**9)}), "50 flows"),
        (pa.table({f"c{number}": [1] for number in range(9)}), "8 columns"),
        (pa.table({"a": ["x" * 21]}), "20 bytes"),
        (pa.table({"a": pa.array(["x" * 21]).dictionary_encode()}), "20 bytes"),
        (pa.table({"a": [[1, 2]]}), "found list"),
        (pa.table({"a": [{"b": 1}]}), "found struct"),
        (pa.table({"a": pa.array([b"\xff"])}), "found binary"),
        (
            pa.table({"a": pa.RunEndEncodedArray.from_arrays(pa.array([10**6]), pa.array([1]))}),
            "found run_end_encoded",
        ),
        (pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "'a' twice"),
    ],
)
def test_what_goes_beyond_a_limit_is_refused(table: pa.Table, told: str):
    with pytest.raises(RequestError, match=told):
        read_stream(stream(table), {"a"}, LIMITS)


def test_text_that_is_no_utf8_is_refused():
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<ii", 0, 1)), pa.py_buffer(b"\xff"))
    with pytest.raises(RequestError, match="damaged"):
        read_stream(stream(pa.table({"a": bad})), {"a"}, LIMITS)


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff\xff", b"ARROW1\0\0", b"\xff" * 100, b"{}"])
def test_what_is_no_stream_is_refused(body: bytes):
    with pytest.raises(RequestError):
        read_stream(body, {"a"}, LIMITS)


def status_of(body: bytes) -> int | None:
    """Of the refusal, if there is one."""
    try:
        assert read_stream(body, {"a", "b"}, LIMITS).num_rows < 50
    except RequestError as error:
        return error.status
    return None


SOUND = stream(pa.table({"a": [1.0, 2.0, None], "b": pa.array(["x", "yy", None]).dictionary_encode()}))


@given(st.integers(0, len(SOUND) - 1))
def test_a_stream_that_is_cut_off_is_refused_or_read(end: int):
    assert status_of(SOUND[:end]) in (None, 400)


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_stream_with_changed_bytes_is_refused_or_read(changes: list[tuple[int, int]]):
    body = bytearray(SOUND)
    for place, byte in changes:
        body[place] = byte
    assert status_of(bytes(body)) in (None, 400, 413, 415, 422)
