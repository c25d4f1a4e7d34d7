"""The archives of a log: files that rotation has renamed, copied, dated or compressed, oldest first."""

import os
import re
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, cast

from wirebert.data.dialect import compression_of, damage, open_bytes, reason_of
from wirebert.errors import DataError
from wirebert.files import unnamed_file

BEGINNING_BYTES = 1 << 16
"""Bytes by which files that were read are known, whatever their names become."""
_PACKED = re.compile(r"\.(?:gz|bz2|xz|zst|zip)$")
_ADDED = re.compile(r"(?:[._-]\d[\dT:Z._+-]*)?(?:[._-](?:old|bak|orig|\d+))?")
_NUMBERED = re.compile(r"\.(\d{1,4})$")
_SECOND_NS = 1_000_000_000


def archives_of(log: Path, inode: int | None, since_ns: int) -> list[tuple[Path, os.stat_result]]:
    """Archives of `log` that were written after the file of `inode`, oldest first.

    Names are the log's with a number or date behind it or before its ending. Numbers behind the name count
    back from the newest, as logrotate's do; others are in the order of their last change.

    Args:
        inode: that file, which is not among them; None: only the time counts.
        since_ns: time of its last change, or of the last look at it.
    """
    found: list[tuple[Path, os.stat_result]] = []
    for path in log.parent.iterdir():
        try:
            is_in_work = bool(_PACKED.search(path.name)) and path.with_suffix("").exists()
            if is_archive(path.name, log.name) and path.is_file() and not is_in_work:
                found.append((path, path.stat()))
        except OSError:
            continue
    numbers = {path: _NUMBERED.search(_PACKED.sub("", path.name)[len(log.name) :]) for path, _ in found}
    own = next((path for path, status in found if status.st_ino == inode), None)
    own_number = None if own is None else numbers[own]

    def is_newer(path: Path, status: os.stat_result) -> bool:
        if (match := numbers[path]) and own_number is not None:
            return int(match[1]) < int(own_number[1])
        # Packed files have their times in whole seconds.
        unit = _SECOND_NS if _PACKED.search(path.name) else 1
        return status.st_ino != inode and status.st_mtime_ns // unit >= since_ns // unit

    def age(one: tuple[Path, os.stat_result]) -> tuple[int, int]:
        match = numbers[one[0]]
        back, time_ns = -int(match[1]) if match else 0, one[1].st_mtime_ns
        return (back, time_ns) if all(numbers.values()) else (time_ns, back)

    return sorted((one for one in found if is_newer(*one)), key=age)


def is_archive(name: str, log: str) -> bool:
    """Whether a file is an archive of a log, by its name.

    >>> [is_archive(name, "conn.log") for name in ("conn.log.2.gz", "conn.1.log", "conn-20260302.log")]
    [True, True, True]
    >>> [is_archive(name, "conn.log") for name in ("conn.log", "dns.log", "conn-summary.log")]
    [False, False, False]
    """
    if name == log:
        return False
    plain = _PACKED.sub("", name)
    stem, _, ending = log.rpartition(".")
    for before, behind in ((log, ""), (stem, f".{ending}")):
        if before and plain.startswith(before) and plain.endswith(behind):
            added = plain[len(before) : len(plain) - len(behind)]
            if _ADDED.fullmatch(added):
                return True
    return False


def open_plain(path: Path) -> tuple[BinaryIO, os.stat_result] | None:
    """The file, or an unnamed copy of what it has packed, and the state of the file; None if it is gone.

    Raises:
        DataError: it is damaged.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    status = os.fstat(file.fileno())
    if not _PACKED.search(path.name) or (compression := compression_of(path)) == "none":
        return file, status
    file.close()
    plain = unnamed_file("wirebert-archive-")
    try:
        with open_bytes(path, compression) as stream:
            while chunk := stream.read(1 << 20):
                plain.write(chunk)
    except damage() as error:
        plain.close()
        raise DataError(f"damaged: {reason_of(error)}") from error
    plain.flush()
    return cast(BinaryIO, plain), status


def begins_as(file: BinaryIO) -> str:
    """What a file begins with, as a digest."""
    return sha256(os.pread(file.fileno(), BEGINNING_BYTES, 0)).hexdigest()
