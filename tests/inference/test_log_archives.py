import gzip
import os
from pathlib import Path

import pytest

from wirebert.errors import DataError
from wirebert.inference.log_archives import archives_of, begins_as, is_archive, open_plain


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("conn.log.1", True),
        ("conn.log.12.gz", True),
        ("conn.2.log", True),
        ("conn.log-20260302.xz", True),
        ("conn.2026-03-02-00-00-00.log", True),
        ("conn.log.old", True),
        ("conn.log.gz", True),
        ("conn.log", False),
        ("conn.log.state", False),
        ("connection.log.1", False),
        ("conn_long.log", False),
        ("dns.log.1", False),
    ],
)
def test_archives_are_known_by_their_names(name: str, expected: bool):
    assert is_archive(name, "conn.log") is expected


def write(path: Path, content: bytes, time_ns: int) -> int:
    path.write_bytes(content)
    os.utime(path, ns=(time_ns, time_ns))
    return path.stat().st_ino


def test_numbers_behind_the_name_count_back_whatever_the_times_say(tmp_path: Path):
    log = tmp_path / "conn.log"
    inodes = {number: write(tmp_path / f"conn.log.{number}", b"x", number) for number in (1, 2, 3, 10)}
    names = [path.name for path, _ in archives_of(log, inodes[3], since_ns=99)]
    assert names == ["conn.log.2", "conn.log.1"]
    names = [path.name for path, _ in archives_of(log, None, since_ns=2)]
    assert names == ["conn.log.10", "conn.log.3", "conn.log.2"]


def test_a_file_that_is_still_being_packed_is_passed_over(tmp_path: Path):
    write(tmp_path / "conn.log.1", b"x", 5)
    write(tmp_path / "conn.log.1.gz", b"\x1f\x8b", 6)
    names = [path.name for path, _ in archives_of(tmp_path / "conn.log", None, since_ns=0)]
    assert names == ["conn.log.1"]


def test_a_packed_file_is_read_as_what_is_in_it(tmp_path: Path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"one\n"))
    (tmp_path / "a").write_bytes(b"one\n")
    opened = [open_plain(tmp_path / name) for name in ("a.gz", "a")]
    beginnings = set[str]()
    for one in opened:
        assert one is not None
        with one[0] as file:
            beginnings.add(begins_as(file))
    assert len(beginnings) == 1
    assert open_plain(tmp_path / "b") is None
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"one\n" * 100)[:-5])
    with pytest.raises(DataError, match="damaged"):
        open_plain(tmp_path / "c.gz")
