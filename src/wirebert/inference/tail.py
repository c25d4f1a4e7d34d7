"""`Tail`: the complete lines of a growing log, across rotation, truncation and restarts of the reader."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, final

from wirebert.errors import DataError

HEAD_BYTES = 256
"""First bytes that identify a file (a header with its date, or a first flow with its time)."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has been read."""

    inode: int
    offset: int
    head: str
    """The file's first bytes in hexadecimal, at most `HEAD_BYTES` and none beyond the offset."""

    def to_dict(self) -> dict[str, object]:
        """Plain data; the inverse is `Position(**plain)`."""
        return asdict(self)


@final
class Tail:
    """Reads a log from its beginning, or from a saved position, and then the lines appended to it.

    A renamed log is read to its end before the new one of its name; if it was renamed while no process read,
    it is searched for in its folder. A log that became shorter, or begins differently, was rewritten and is
    read from its beginning: lines that it held since the last read are lost, as with any reader.

    Raises:
        DataError: there is no such log.
    """

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self.num_files = 0
        """Number of files begun so far, including the current one."""
        found_path = path if position is None else _find(path, position)
        self.is_rest_lost = found_path is None
        """Whether the log was replaced since `position`, and the rest of the old one cannot be found."""
        file = _open(found_path or path)
        if file is None:
            raise DataError(f"{path}: expected a log to follow, found none; check the path")
        self._begin(file)
        if position is not None and found_path is not None:
            self._offset, self._head = position.offset, bytes.fromhex(position.head)

    @property
    def position(self) -> Position:
        """The position after the last line returned."""
        return Position(os.fstat(self._file.fileno()).st_ino, self._offset, self._head.hex())

    def head(self, max_bytes: int) -> bytes:
        """The complete lines in the first bytes of the current file."""
        chunk = os.pread(self._file.fileno(), max_bytes, 0)
        return chunk[: chunk.rfind(b"\n") + 1]

    def read(self, max_bytes: int) -> bytes:
        """The next complete lines of one file, empty if there are none yet. An unfinished line is held back.

        Raises:
            DataError: a line is longer than `max_bytes`.
        """
        if self._is_rewritten():
            self._begin(self._file)
        chunk = os.pread(self._file.fileno(), max_bytes, self._offset)
        num_bytes = chunk.rfind(b"\n") + 1
        if num_bytes:
            self._take(num_bytes)
            return chunk[:num_bytes]
        if len(chunk) == max_bytes:
            raise DataError(
                f"{self.path}: expected lines shorter than {max_bytes:,} bytes, found a longer one; is it a "
                "log of flows?"
            )
        if not self._is_replaced():
            return b""
        if not self._is_renamed:  # the writer may need a moment to switch files: check once more later
            self._is_renamed = True
            return b""
        if chunk:
            self._take(len(chunk))
            return chunk + b"\n"
        file = _open(self.path)
        if file is not None:
            self._file.close()
            self._begin(file)
        return b""

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _begin(self, file: BinaryIO) -> None:
        self._file, self._offset, self._head = file, 0, b""
        self._is_renamed = False
        self.num_files += 1

    def _take(self, num_bytes: int) -> None:
        self._offset += num_bytes
        if len(self._head) < HEAD_BYTES and num_bytes:
            self._head = os.pread(self._file.fileno(), min(HEAD_BYTES, self._offset), 0)

    def _is_rewritten(self) -> bool:
        """Whether the part of the file that was already read has changed."""
        if os.fstat(self._file.fileno()).st_size < self._offset:
            return True
        return os.pread(self._file.fileno(), len(self._head), 0) != self._head

    def _is_replaced(self) -> bool:
        """Whether another file has the name now; between two files there may be none."""
        try:
            return self.path.stat().st_ino != os.fstat(self._file.fileno()).st_ino
        except FileNotFoundError:
            return False


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _find(path: Path, position: Position) -> Path | None:
    """The file of the position: the one with its name or, after a rotation, another in its folder."""
    head = bytes.fromhex(position.head)
    for place in (path, *sorted(path.parent.iterdir())):
        try:
            status = place.stat()
            if status.st_ino == position.inode and status.st_size >= position.offset:
                with place.open("rb") as file:
                    if file.read(len(head)) == head:
                        return place
        except OSError:
            continue
    return None
