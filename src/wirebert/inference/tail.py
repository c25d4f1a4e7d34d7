"""`Tail`: the complete lines of a growing log, across rotation, truncation and restarts of the reader."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, final

from wirebert.data.accounting import KEPT_CHARACTERS, RejectedRow
from wirebert.errors import DataError
from wirebert.inference.log_archives import archives_of, begins_as, open_plain

GUARD_BYTES = 1_024
"""Bytes before the offset that identify a file: the last lines that were read, never a header alone."""
MAX_FINISHED = 64


@dataclass(frozen=True, slots=True)
class Position:
    """How far a log has been read."""

    inode: int
    offset: int
    num_lines: int
    """Lines before the offset."""
    guard: str
    """Sha256 of the last bytes before the offset, at most `GUARD_BYTES`."""
    modified_ns: int
    """When the file was last written to."""
    finished: tuple[str, ...] = ()
    """What the last files that were read to their end begin with; see `begins_as`."""

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Position":
        """The inverse of `asdict`, also after a way through JSON."""
        values: dict[str, Any] = {**plain, "finished": tuple(plain["finished"])}
        return cls(**values)


@final
class Tail:
    """Reads a log from its beginning, or from a saved position, and then the lines appended to it.

    A renamed log is read to its end, then those that were rotated since (renamed, compressed or copied, see
    `archives_of`), in order, then the one of its name. A file is the same if the bytes before the offset are;
    a log that was cut off or written anew is continued in its copy, then read from its beginning. What is
    found nowhere is told.

    Args:
        tell: called with a sentence for each part of the log that is lost.

    Raises:
        DataError: there is no such log.
    """

    def __init__(
        self, path: Path, position: Position | None = None, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        self.path, self.name, self._tell = path, str(path), tell
        self.num_files = 0
        """Number of files begun so far, including the current one."""
        self.is_over = False
        """A log may always grow."""
        self.rejected: list[RejectedRow] = []
        """Lines that were too long since the last look."""
        self._finished: deque[str] = deque(() if position is None else position.finished, MAX_FINISHED)
        self._modified_ns = 0 if position is None else position.modified_ns
        found = path if position is None else self._find(position)
        if found is None and position is not None:
            found = self._next_archive(position.inode)
            if position.offset or found is None:
                self._lose(position.offset)
        opened = open_plain(found or path)
        if opened is None:
            raise DataError(f"{path}: expected a log to follow, found none; check the path")
        self._begin(opened, found or path)
        if position is None:
            self._forget_older_archives()
        elif self._matches(self._file, position):
            self._offset, self._num_lines = position.offset, position.num_lines
            self._guard = _bytes_before(self._file, position.offset)

    @property
    def position(self) -> Position:
        """The position after the last line returned."""
        guard = sha256(self._guard).hexdigest()
        modified = self._modified_ns
        return Position(self._inode, self._offset, self._num_lines, guard, modified, tuple(self._finished))

    @property
    def saved_position(self) -> dict[str, Any]:
        """The position as plain data."""
        return asdict(self.position)

    @property
    def offset(self) -> int:
        """Bytes of the current file before the next line."""
        return self._offset

    @property
    def num_lines(self) -> int:
        """Lines of the current file before the next one."""
        return self._num_lines

    def num_behind(self) -> int:
        """Bytes that are in the log and not read yet; those of packed archives count as they are."""
        behind = os.fstat(self._file.fileno()).st_size - self._offset
        newer = archives_of(self.path, self._inode, self._modified_ns) if self._is_over() else []
        with suppress(OSError):
            if newer or self._is_over():
                behind += self.path.stat().st_size
        return max(0, behind) + sum(status.st_size for _, status in newer)

    @property
    def file_name(self) -> str:
        """The name that the current file had when it was begun."""
        return str(self._file_path)

    def head(self, max_bytes: int) -> bytes:
        """The complete lines in the first bytes of the current file."""
        chunk = os.pread(self._file.fileno(), max_bytes, 0)
        return chunk[: chunk.rfind(b"\n") + 1]

    def read(self, max_bytes: int) -> bytes:
        """The next complete lines of one file, empty if there are none yet. An unfinished line is held back.

        A line longer than `max_bytes` is skipped, and is among `rejected`.
        """
        if not self._offset and self._file_path == self.path and (older := self._next_archive(None)):
            self._switch_to(older)  # the log was rotated before anything of it was read
        guard_bytes = len(self._guard)
        chunk = os.pread(self._file.fileno(), guard_bytes + max_bytes, self._offset - guard_bytes)
        if chunk[:guard_bytes] != self._guard:
            self._go_on_in_copy()
            return b""
        chunk = chunk[guard_bytes:]
        num_bytes = chunk.rfind(b"\n") + 1
        if num_bytes:
            self._take(chunk[:num_bytes])
            return chunk[:num_bytes]
        if len(chunk) == max_bytes and self._skip_line(chunk, is_over=self._is_renamed):
            return b""
        if not self._is_over():
            return b""
        if not self._is_renamed:  # the writer may need a moment to switch files: check once more later
            self._is_renamed = True
            return b""
        if chunk:
            self._take(chunk)
            return chunk + b"\n"
        self._go_on()
        return b""

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _begin(self, opened: tuple[BinaryIO, os.stat_result], path: Path) -> None:
        self._file, status = opened
        self._file_path = path
        self._offset, self._num_lines, self._guard = 0, 0, b""
        self._is_renamed = False
        self._skipped = 0
        self._inode, self._modified_ns = status.st_ino, status.st_mtime_ns
        self.num_files += 1

    def _forget_older_archives(self) -> None:
        """Those that are there before the log is followed for the first time are not read."""
        while (older := self._next_archive(self._inode)) and (opened := open_plain(older)):
            with opened[0] as file:
                self._finished.append(begins_as(file))

    def _take(self, lines: bytes) -> None:
        self._offset += len(lines)
        self._num_lines += lines.count(b"\n")
        self._guard = (self._guard + lines)[-GUARD_BYTES:]
        if self._file_path == self.path:
            self._modified_ns = os.fstat(self._file.fileno()).st_mtime_ns

    def _skip_line(self, beginning: bytes, *, is_over: bool) -> bool:
        """Pass over a line that is too long; False as long as it has no end."""
        self._skipped = max(self._skipped, len(beginning))
        while chunk := os.pread(self._file.fileno(), len(beginning), self._offset + self._skipped):
            end = chunk.find(b"\n") + 1
            self._skipped += end or len(chunk)
            if end:
                break
        else:
            if not is_over:
                return False
        reason = f"expected lines of at most {len(beginning):,} bytes, found one of {self._skipped:,}"
        text = beginning[: 4 * KEPT_CHARACTERS].decode("utf-8", "replace")[:KEPT_CHARACTERS]
        self.rejected.append(RejectedRow(self._num_lines + 1, reason, text, self.file_name))
        self._offset += self._skipped
        self._num_lines += 1
        self._guard = _bytes_before(self._file, self._offset)
        self._skipped = 0
        return True

    def _is_over(self) -> bool:
        """Whether another file has the name now; between two files there may be none."""
        try:
            return self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            return self._next_archive(self._inode) is not None and self._file_path != self.path

    def _go_on(self) -> None:
        """Begin the file that was written after the current one, which is read to its end."""
        after = self._next_archive(self._inode, begins_as(self._file))
        self._finished.append(begins_as(self._file))
        self._switch_to(after or self.path)

    def _switch_to(self, path: Path) -> None:
        opened = open_plain(path)
        if opened is not None:
            self._file.close()
            self._begin(opened, path)

    def _go_on_in_copy(self) -> None:
        """Begin the copy of the current file, which was cut off or written anew; itself if there is none."""
        position, modified_ns = self.position, self._modified_ns
        copy = next(self._copies(position), None)
        if copy is None:
            self._lose(position.offset)
        path = copy or self._next_archive(self._inode) or self.path
        opened = open_plain(path)
        if opened is None:
            return  # gone meanwhile: the next look tells
        self._file.close()
        self._begin(opened, path)
        self._modified_ns = max(modified_ns, self._modified_ns)
        if copy is not None:
            self._offset, self._num_lines = position.offset, position.num_lines
            self._guard = _bytes_before(self._file, position.offset)

    def _lose(self, offset: int) -> None:
        self._tell(
            f"{self.path}: was replaced or cut off after {offset:,} bytes were read; what was written to it "
            "then is not in its folder (its size is unknown) and has no verdicts"
        )

    def _next_archive(self, inode: int | None, beginning: str = "") -> Path | None:
        """The first of the log's archives that were written after the file, and are not read yet."""
        finished = {*self._finished, beginning}
        for archive, status in archives_of(self.path, inode, self._modified_ns):
            damaged = f"damaged {status.st_ino}"
            if damaged in finished:
                continue
            try:
                opened = open_plain(archive)
            except DataError as error:
                self._tell(f"{archive}: {status.st_size:,} bytes of the log have no verdicts: {error}")
                self._finished.append(damaged)
                continue
            if opened is not None:
                with opened[0] as file:
                    if os.fstat(file.fileno()).st_size and begins_as(file) not in finished:
                        return archive
        return None

    def _find(self, position: Position) -> Path | None:
        """The file of the position: of its inode and content, else (a copy) of its content."""
        if not position.offset and (unread := self._next_archive(None)):
            return unread
        for place in (self.path, *sorted(self.path.parent.iterdir())):
            try:
                if place.stat().st_ino == position.inode and self._holds(place, position):
                    return place
            except OSError:
                continue
        copy = next(self._copies(position), None)
        return self.path if copy is None and position.offset and self._holds(self.path, position) else copy

    def _copies(self, position: Position) -> Iterator[Path]:
        """Archives with the content of the position's file up to there."""
        if position.offset:
            for archive, _ in archives_of(self.path, None, position.modified_ns):
                if self._holds(archive, position):
                    yield archive

    def _holds(self, place: Path, position: Position) -> bool:
        try:
            opened = open_plain(place)
        except (DataError, OSError):
            return False
        if opened is None:
            return False
        with opened[0] as file:
            return self._matches(file, position)

    @staticmethod
    def _matches(file: BinaryIO, position: Position) -> bool:
        is_long_enough = os.fstat(file.fileno()).st_size >= position.offset
        guard = _bytes_before(file, position.offset)
        return is_long_enough and sha256(guard).hexdigest() == position.guard


def _bytes_before(file: BinaryIO, offset: int) -> bytes:
    start = max(0, offset - GUARD_BYTES)
    return os.pread(file.fileno(), offset - start, start)
