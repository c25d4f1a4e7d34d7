"""`Tail`: the whole lines of a log that is still written, across rotation, truncation and restarts of the
reader.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, final

from wirebert.errors import DataError

HEAD_BYTES = 256
"""By so many first bytes (a header with its date, or a first flow with its time) a file is known again."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has been read."""

    inode: int
    offset: int
    head: str
    """Hexadecimal digits of the file's first bytes, at most `HEAD_BYTES` and none behind the offset."""

    def to_dict(self) -> dict[str, object]:
        """Plain data, from which `Position(**plain)` comes back."""
        return asdict(self)


@final
class Tail:
    """Reads a log from its beginning, or on from a position, and then what is appended.

    A log that was renamed is read to its end before the new one of its name; where that happened while nobody
    read, it is looked for in its folder. A log that became shorter, or begins differently, was written anew
    and is read from its beginning: what stood in it since the last look is lost, as with any reader.

    Raises:
        DataError: there is no such log.
    """

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self.num_files = 0
        """Files begun so far, the one that is being read among them."""
        place = path if position is None else _find(path, position)
        self.is_rest_lost = place is None
        """Whether the log was replaced since `position`, and the rest of the one before cannot be found."""
        file = _open(place or path)
        if file is None:
            raise DataError(f"{path}: expected a log to follow, found none; check the path")
        self._begin(file)
        if position is not None and place is not None:
            self._offset, self._head = position.offset, bytes.fromhex(position.head)

    @property
    def position(self) -> Position:
        """Behind the last line that was given."""
        return Position(os.fstat(self._file.fileno()).st_ino, self._offset, self._head.hex())

    def head(self, max_bytes: int) -> bytes:
        """The whole lines in the first bytes of the file that is being read."""
        chunk = os.pread(self._file.fileno(), max_bytes, 0)
        return chunk[: chunk.rfind(b"\n") + 1]

    def read(self, max_bytes: int) -> bytes:
        """The next whole lines of one file; nothing where there are none yet. A last line without end is held
        back.

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
        if not self._is_renamed:  # who writes may need a moment to change over: one more look later
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
        """Whether the file is not what it was, up to where it was read."""
        if os.fstat(self._file.fileno()).st_size < self._offset:
            return True
        return os.pread(self._file.fileno(), len(self._head), 0) != self._head

    def _is_replaced(self) -> bool:
        """Whether another file bears the name now; between two files none may."""
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
    """The file that the position is of: the one of its name or, after a rotation, another in its folder."""
    head = bytes.fromhex(position.head)
    for place in (path, *sorted(path.parent.iterdir())):
        try:
            found = place.stat()
            if found.st_ino == position.inode and found.st_size >= position.offset:
                with place.open("rb") as file:
                    if file.read(len(head)) == head:
                        return place
        except OSError:
            continue
    return None
