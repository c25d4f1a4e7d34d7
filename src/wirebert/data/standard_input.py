"""Standard input, copied to a temporary file while it arrives: it is read several times, and at once."""

import io
import os
import stat
import sys
import time
from pathlib import Path
from threading import Condition, Thread
from typing import BinaryIO, Final

from wirebert.files import path_of, unnamed_file

HEAD_WAIT_S: Final = 1.0
"""Time after the first rows in which more of them may come before the format is detected."""
BLOCK_WAIT_S: Final = 0.5
"""Longest wait for more bytes where some are there."""
REFUSED_WAIT_S: Final = 5.0
"""Longest that who writes is still listened to after the first rows were refused."""
REFUSED_BYTES: Final = 64 << 20
READ_WHOLE: Final = (
    *(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"),
    *(b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"FEA1", b"\xff\xfe", b"\xfe\xff"),
)
"""First bytes of formats that are read when all of it is there: compressed, binary or two bytes a letter."""

_arriving: dict[Path, "StandardInput"] = {}


class StandardInput:
    """A copy of standard input that may still grow; the temporary file goes with this object."""

    def __init__(self, source: BinaryIO | None = None, *, is_live: bool = False) -> None:
        """With `is_live`, rows can be read while more of them arrive; else all is there at once."""
        self._source = sys.stdin.buffer if source is None else source
        try:
            self._descriptor = self._source.fileno()
        except (OSError, ValueError):  # as in tests
            self._descriptor = None
        self._file = unnamed_file("wirebert-stdin-")  # open as long as this object
        self.path = path_of(self._file)
        self._changed = Condition()
        self.size, self.is_complete = 0, False
        is_file = self._descriptor is not None and stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        if not is_live or is_file:
            self._copy()
            return
        Thread(target=self._copy, daemon=True).start()
        _arriving[self.path] = self
        self._wait_for_head()

    def _copy(self) -> None:
        while chunk := self._next_bytes():
            with self._changed:
                if self.is_complete:  # stopped
                    return
                self._file.write(chunk)
                self._file.flush()
                self.size += len(chunk)
                self._changed.notify_all()
        self._end()

    def _next_bytes(self) -> bytes:
        if self._descriptor is None:
            return self._source.read(1 << 20)
        # Not through the buffer: its lock, held by a thread that waits, would abort the end of the process.
        return os.read(self._descriptor, 1 << 20)

    def _end(self) -> None:
        with self._changed:
            self.is_complete = True
            self._changed.notify_all()
        _arriving.pop(self.path, None)

    def stop(self) -> None:
        """Take what has arrived for all there is, without a line that is not complete."""
        with self._changed:
            if not self.is_complete:
                self.size = self.path.read_bytes()[: self.size].rfind(b"\n") + 1
            self._end()

    close = stop

    def drain(self) -> None:
        """Take what is written and not wanted, so that its writer meets an error of ours and no broken pipe.

        It ends with the input, after a second without bytes, and at the limits of time and bytes.
        """
        if self._descriptor is not None and os.isatty(self._descriptor):
            return
        end, size = time.monotonic() + REFUSED_WAIT_S, -1
        with self._changed:
            while size < self.size < REFUSED_BYTES and time.monotonic() < end and not self.is_complete:
                size = self.size
                self._changed.wait(1.0)

    def head(self, num_bytes: int) -> bytes:
        """The complete lines in the first bytes; all of them where nothing more will come."""
        with self.path.open("rb") as file:
            head = file.read(min(num_bytes, self.size))
        return head if self.is_complete or len(head) == num_bytes else head[: head.rfind(b"\n") + 1]

    def wait(self, position: int, num_bytes: int, longest_s: float = BLOCK_WAIT_S) -> None:
        """Wait until so many bytes follow the position or, if there are some, for the longest time."""
        with self._changed:
            self._changed.wait_for(lambda: self.is_complete or self.size > position)
            self._changed.wait_for(lambda: self.is_complete or self.size >= position + num_bytes, longest_s)

    def _wait_for_head(self) -> None:
        started: float | None = None
        while not self.is_complete and self.size < 1 << 18:
            head = self.head(1 << 18)
            rows = [line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")]
            is_whole = head.startswith(READ_WHOLE)
            if not is_whole and len(rows) >= (1 if head.startswith((b"#", b"{")) else 2):
                started = started or time.monotonic()
                if time.monotonic() - started >= HEAD_WAIT_S:
                    return
            with self._changed:
                self._changed.wait(0.1)
        with self._changed:
            if self.head(8).startswith(READ_WHOLE):
                self._changed.wait_for(lambda: self.is_complete)


class ArrivingBytes(io.FileIO):
    """The bytes of a `StandardInput` from its beginning; at their end, reading waits for more."""

    def __init__(self, arriving: StandardInput) -> None:
        super().__init__(arriving.path)
        self._arriving = arriving

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, as many as there are."""
        position, wanted = self.tell(), -1 if size is None else size
        self._arriving.wait(position, wanted)
        left = self._arriving.size - position
        return super().read(left if wanted < 0 else min(wanted, left)) if left > 0 else b""


def arriving(path: Path) -> StandardInput | None:
    """The standard input that is copied to this file and may still grow; None for any other file."""
    return _arriving.get(path)
