import gzip
import os
import random
import time
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

        def open_one(
            path: Path, position: Position | None = None, tell: Callable[[str], None] = lambda _: None
        ) -> Tail:
            return tails.enter_context(closing(Tail(path, position, tell)))

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
    again = opened(log, Position.from_plain(tail.saved_position))
    assert read_all(again) == b"three\n"


def test_a_log_that_was_renamed_while_nobody_read_is_found_in_its_folder(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    append(log, b"three\n")
    log.rename(log.with_name("conn.2026.log"))
    log.write_bytes(b"four\n")
    told: list[str] = []
    again = opened(log, tail.position, told.append)
    assert read_all(again) == b"three\nfour\n"
    assert not told


def logrotate(log: Path, *, compress: bool = False, copytruncate: bool = False) -> None:
    """Rotate as logrotate does: conn.log -> conn.log.1 -> conn.log.2, with times kept."""
    numbers = [9, 8, 7, 6, 5, 4, 3, 2, 1]
    for number in numbers:
        for ending in ("", ".gz"):
            old = log.with_name(f"{log.name}.{number}{ending}")
            if old.exists():
                old.rename(log.with_name(f"{log.name}.{number + 1}{ending}"))
    first = log.with_name(f"{log.name}.1")
    if copytruncate:
        first.write_bytes(log.read_bytes())
        log.write_bytes(b"")
    else:
        log.rename(first)
        log.write_bytes(b"")
    if compress:
        status = first.stat()
        packed = first.with_name(f"{first.name}.gz")
        packed.write_bytes(gzip.compress(first.read_bytes()))
        os.utime(packed, ns=(status.st_atime_ns, status.st_mtime_ns))
        first.unlink()


@pytest.mark.parametrize("is_read_before", [False, True])
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("copytruncate", [False, True])
def test_several_rotations_between_two_looks_lose_nothing(
    log: Path, opened: Opener, *, is_read_before: bool, compress: bool, copytruncate: bool
):
    told: list[str] = []
    tail = opened(log, None, told.append)
    if is_read_before:
        assert tail.read(ROOM) == b"one\ntwo\n"
    position = tail.position
    for text in (b"three\n", b"four\n", b"five\n"):
        append(log, text)
        logrotate(log, compress=compress, copytruncate=copytruncate)
    append(log, b"six\n")
    expected = b"" if is_read_before else b"one\ntwo\n"
    expected += b"three\nfour\nfive\nsix\n"
    assert read_all(opened(log, position, told.append), 20) == expected
    assert read_all(tail, 20) == expected
    assert not told


def test_numbers_that_count_up_are_read_in_the_order_of_their_times(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    for number in (1, 2, 3):
        append(log, b"%d\n" % number)
        log.rename(log.with_name(f"conn.{number}.log"))
        time.sleep(0.02)
        log.write_bytes(b"")
    assert read_all(tail, 20) == b"1\n2\n3\n"


def test_archives_from_before_are_not_read(log: Path, opened: Opener):
    log.with_name("conn.log.1").write_bytes(b"zero\n")
    log.write_bytes(log.read_bytes())
    tail = opened(log)
    tail.read(ROOM)
    append(log, b"three\n")
    logrotate(log)
    append(log, b"four\n")
    assert read_all(tail, 20) == b"three\nfour\n"


def test_an_archive_that_was_read_and_is_packed_later_is_not_read_again(log: Path, opened: Opener):
    tail = opened(log)
    assert read_all(tail) == b"one\ntwo\n"
    logrotate(log)
    append(log, b"three\n")
    assert read_all(tail) == b"three\n"
    packed = log.with_name("conn.log.1")
    packed.with_name("conn.log.1.gz").write_bytes(gzip.compress(packed.read_bytes()))  # with a new time
    packed.unlink()
    logrotate(log)
    append(log, b"four\n")
    assert read_all(opened(log, tail.position), 20) == b"four\n"


def test_a_damaged_archive_is_told_with_its_size(log: Path, opened: Opener):
    told: list[str] = []
    tail = opened(log, None, told.append)
    tail.read(ROOM)
    logrotate(log)
    append(log, b"three\n" * 100)
    logrotate(log, compress=True)
    archive = log.with_name("conn.log.1.gz")
    archive.write_bytes(archive.read_bytes()[:-9])
    append(log, b"four\n")
    assert read_all(tail, 20) == b"four\n"
    assert [str(archive) in one and f"{archive.stat().st_size:,} bytes" in one for one in told] == [True]


def test_a_log_with_a_long_header_that_was_written_anew_is_read_from_its_beginning(log: Path, opened: Opener):
    header = b",".join(b"a_long_name_%d" % number for number in range(200)) + b"\n"
    log.write_bytes(header + b"one\ntwo\n")
    tail = opened(log)
    tail.read(ROOM)
    log.write_bytes(header + b"three\nfour\nfive\n")
    told: list[str] = []
    assert read_all(opened(log, tail.position, told.append)) == header + b"three\nfour\nfive\n"
    assert len(told) == 1  # what was written behind `two` before is unknown


def test_a_log_that_is_gone_for_good_is_told(log: Path, opened: Opener):
    tail = opened(log)
    tail.read(ROOM)
    position = tail.position
    log.write_bytes(b"a log that begins in another way\n")
    told: list[str] = []
    again = opened(log, position, told.append)
    assert "after 8 bytes were read" in told[0]
    assert read_all(again) == b"a log that begins in another way\n"


@pytest.mark.parametrize("num_bytes", [50, 100, 101, 1000])
def test_a_line_that_is_too_long_is_skipped_once_it_has_its_end(num_bytes: int, log: Path, opened: Opener):
    append(log, b"x" * num_bytes)
    tail = opened(log)
    assert tail.read(50) == b"one\ntwo\n"
    assert tail.read(50) == b""
    position = tail.position
    assert position.offset == 8  # who starts anew must not take its end for a line
    append(log, b"xx\nthree\n")
    for one in (tail, opened(log, position)):
        assert b"".join(one.read(50) for _ in range(4)) == b"three\n"
        ((line, text),) = [(row.line, row.text) for row in one.rejected]
        assert (line, text) == (3, "x" * 50)
        assert one.position.num_lines == 4


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
