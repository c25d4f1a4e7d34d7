import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.errors import DataError
from wirebert.inference.tail import Position, Tail

ROOM = 1 << 20


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "conn.log"
    path.write_bytes(b"one\ntwo\n")
    return path


Opener = Callable[..., Tail]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Makes readers that are closed after the test."""
    with ExitStack() as tails:

        def open_one(path: Path, position: Position | None = None) -> Tail:
            return tails.enter_context(closing(Tail(path, position)))

        yield open_one


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def read_all(tail: Tail, tries: int = 6) -> bytes:
    return b"".join(tail.read(ROOM) for _ in range(tries))


def test_what_stands_in_the_log_comes_first_then_what_is_appended(log: Path, opened: Opener):
    tail = opened(log)
    assert tail.read(ROOM) == b"one\ntwo\n"
    assert tail.read(ROOM) == b""
    append(log, b"three\n")
    assert tail.read(ROOM) == b"three\n"


def test_a_line_without_end_is_held_back(log: Path, opened: Opener):
    append(log, b"thr")
    tail = opened(log)
    assert read_all(tail) == b"one\ntwo\n"
    append(log, b"ee\nfo")
    assert read_all(tail) == b"three\n"


def test_a_log_that_is_renamed_is_read_to_its_end_before_the_new_one(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    with log.open("ab") as writer:
        log.rename(log.with_name("conn.1.log"))
        writer.write(b"three\n")
    log.write_bytes(b"four\n")
    assert [tail.read(ROOM) for _ in range(4)] == [b"three\n", b"", b"", b"four\n"]


def test_the_last_line_of_a_renamed_log_counts_without_its_end(log: Path, opened: Opener):
    append(log, b"three")
    tail = opened(log)
    tail.read(ROOM)
    log.rename(log.with_name("conn.1.log"))
    log.write_bytes(b"four\n")
    assert read_all(tail) == b"three\nfour\n"


def test_between_two_logs_there_may_be_none(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    log.rename(log.with_name("conn.1.log"))
    assert read_all(tail) == b""
    log.write_bytes(b"three\n")
    assert read_all(tail) == b"three\n"


@pytest.mark.parametrize("content", [b"x\n", b"a longer one than it was\n"])
def test_a_log_that_is_written_anew_is_read_from_its_beginning(log: Path, opened: Opener, content: bytes):
    tail = opened(log)
    tail.read(ROOM)
    log.write_bytes(content)  # the same file, as with logrotate's copytruncate
    assert read_all(tail) == content
    assert tail.num_files == 2


def test_a_new_reader_goes_on_from_a_position(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    append(log, b"three\n")
    again = opened(log, Position(**tail.position.to_dict()))  # pyright: ignore[reportArgumentType]
    assert read_all(again) == b"three\n"


def test_a_log_that_was_renamed_while_nobody_read_is_found_in_its_folder(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    append(log, b"three\n")
    log.rename(log.with_name("conn.2026.log"))
    log.write_bytes(b"four\n")
    again = opened(log, tail.position)
    assert not again.is_rest_lost
    assert read_all(again) == b"three\nfour\n"


def test_a_log_that_is_gone_for_good_is_told(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    position = tail.position
    log.write_bytes(b"a log that begins in another way\n")
    again = opened(log, position)
    assert again.is_rest_lost
    assert read_all(again) == b"a log that begins in another way\n"


def test_a_line_that_never_ends_is_refused(log: Path, opened: Opener):
    append(log, b"x" * 100)
    tail = opened(log)
    assert tail.read(50) == b"one\ntwo\n"
    with pytest.raises(DataError, match="shorter than 50 bytes"):
        tail.read(50)


def test_a_log_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="found none"):
        Tail(tmp_path / "conn.log")


@given(st.integers(0, 2**32))
def test_every_line_comes_once_and_in_order_whatever_happens_to_the_log(
    tmp_path_factory: pytest.TempPathFactory, seed: int
):
    """Appended in pieces, rotated by rename, read in pieces by readers that come and go."""
    generator = random.Random(seed)
    log = tmp_path_factory.mktemp("logs") / "conn.log"
    log.write_bytes(b"")
    written, found, waiting = b"", b"", b""
    tail, num_rotations = Tail(log), 0
    for number in range(60):
        action = generator.random()
        if action < 0.5:
            waiting += b"%d\n" % number
            cut = generator.randint(0, len(waiting))
            append(log, waiting[:cut])
            written, waiting = written + waiting[:cut], waiting[cut:]
        elif action < 0.8:
            found += tail.read(generator.choice([20, ROOM]))
        elif action < 0.9:
            position = tail.position
            tail.close()
            tail = Tail(log, position)
        elif num_rotations < 9 and written.endswith(b"\n"):
            # One at a time: a reader looks for the next log under the first name.
            found += read_all(tail)
            num_rotations += 1
            log.rename(log.with_name(f"conn.{num_rotations}.log"))
            log.write_bytes(b"")
    append(log, waiting)
    assert found + read_all(tail, 20) == written + waiting
    tail.close()
