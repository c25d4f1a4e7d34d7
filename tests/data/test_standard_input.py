import os
import time
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import pytest

from wirebert.data import standard_input
from wirebert.data.dialect import open_bytes, read_head
from wirebert.data.standard_input import StandardInput, arriving


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        yield source, sink


@pytest.mark.parametrize("is_live", [False, True])
def test_what_is_not_live_or_is_a_file_is_there_at_once(is_live: bool, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"a\n1\n")
    with (tmp_path / "f").open("rb") as file:
        whole = StandardInput(file, is_live=is_live)
    assert whole.is_complete
    assert whole.path.read_bytes() == b"a\n1\n"
    assert arriving(whole.path) is None


def test_rows_are_read_while_more_of_them_arrive(pipe: tuple[BinaryIO, BinaryIO]):
    source, sink = pipe
    sink.write(b"a,b\n1,2\n3,")
    live = StandardInput(source, is_live=True)
    assert not live.is_complete
    assert read_head(live.path) == (b"a,b\n1,2\n", "none")
    with open_bytes(live.path, "none") as stream:
        started = time.monotonic()
        assert stream.read(1 << 20) == b"a,b\n1,2\n3,"
        assert time.monotonic() - started < 5
        Thread(target=lambda: (time.sleep(0.2), sink.write(b"4\n"))).start()
        assert stream.read(1 << 20) == b"4\n"
        sink.close()
        assert stream.read(1 << 20) == b""
    assert live.is_complete
    assert read_head(live.path)[0] == b"a,b\n1,2\n3,4\n"


def test_what_was_stopped_ends_with_a_complete_line(pipe: tuple[BinaryIO, BinaryIO]):
    source, sink = pipe
    sink.write(b"a,b\n1,2\n3,")
    live = StandardInput(source, is_live=True)
    stream = open_bytes(live.path, "none")
    live.stop()
    assert stream.read(1 << 20) == b"a,b\n1,2\n"
    assert stream.read(1 << 20) == b""
    stream.close()
    assert arriving(live.path) is None


def test_compressed_and_binary_input_is_awaited(pipe: tuple[BinaryIO, BinaryIO]):
    source, sink = pipe
    sink.write(b"PK\x03\x04 and\nsome\nlines\n")
    Thread(target=lambda: (time.sleep(0.3), sink.write(b"more"), sink.close())).start()
    live = StandardInput(source, is_live=True)
    assert live.is_complete
    assert live.path.read_bytes().endswith(b"more")


def end(live: StandardInput, sink: BinaryIO) -> None:
    """Close the pipe, and wait until all of it is there."""
    sink.close()
    deadline = time.monotonic() + 20
    while not live.is_complete and time.monotonic() < deadline:
        time.sleep(0.01)


def test_what_is_refused_is_drained_until_its_writer_ends_or_falls_silent(pipe: tuple[BinaryIO, BinaryIO]):
    source, sink = pipe
    sink.write(b"a,b\n" * 9)
    live = StandardInput(source, is_live=True)
    writer = Thread(target=lambda: [sink.write(b"a,b\n" * (1 << 18)) for _ in range(4)])
    writer.start()
    live.drain()
    writer.join(20)  # more than a pipe holds was taken
    assert (writer.is_alive(), live.is_complete) == (False, False)
    end(live, sink)
    assert live.size == 4 * (9 + (4 << 18))


def test_an_endless_writer_is_not_drained_for_ever(
    pipe: tuple[BinaryIO, BinaryIO], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(standard_input, "REFUSED_BYTES", 1 << 20)
    monkeypatch.setattr(standard_input, "REFUSED_WAIT_S", 60.0)
    source, sink = pipe
    sink.write(b"a,b\n" * 9)
    live = StandardInput(source, is_live=True)

    is_over = Event()

    def write():
        while not is_over.is_set():
            sink.write(b"a,b\n" * 1_000)

    writer = Thread(target=write)
    writer.start()
    started = time.monotonic()
    live.drain()
    assert time.monotonic() - started < 30
    assert (live.is_complete, writer.is_alive()) == (False, True)
    is_over.set()  # what it writes is still read, so it ends
    writer.join(20)
    end(live, sink)
