"""`StreamedLines`: whole lines as they come, from standard input or a stream of messages."""

import os
import select
from collections.abc import Callable
from typing import Any, BinaryIO, final

from wirebert.data.accounting import KEPT_CHARACTERS, RejectedRow
from wirebert.data.dialect import HEAD_BYTES


@final
class StreamedLines:
    """Lines of bytes that come in pieces and cannot be read again; the first are kept as the head.

    Its face is that of `Tail`: name, place, position, and lines that were too long.

    Args:
        fetch: the next bytes, at most so many; empty: none yet; None: there will be no more.
        num_behind: bytes or messages that are there and not fetched yet.
    """

    num_files = 1

    def __init__(
        self, name: str, fetch: Callable[[int], bytes | None], num_behind: Callable[[], int]
    ) -> None:
        self.name = self.file_name = name
        self.num_behind, self._fetch = num_behind, fetch
        self.rejected: list[RejectedRow] = []
        self.saved_position: dict[str, Any] | None = None
        self.is_over = False
        self.offset = self.num_lines = 0
        self._head = self._unfinished = self._long = b""
        self._skipped = 0
        """Bytes of a line that is too long so far; its beginning is `_long`."""

    def head(self, max_bytes: int) -> bytes:
        """The complete lines in the first bytes."""
        return self._head[: self._head.rfind(b"\n", 0, max_bytes) + 1]

    def forget_head(self) -> None:
        """Take the next lines for the first ones."""
        self._head = b""

    def read(self, max_bytes: int) -> bytes:
        """The next complete lines; a line longer than `max_bytes` is skipped, and is among `rejected`."""
        chunk = self._fetch(max_bytes)
        if chunk == b"":
            return b""
        self.is_over = chunk is None
        chunk = self._unfinished + (chunk or b"")
        if self.is_over and chunk and not chunk.endswith(b"\n"):
            chunk += b"\n"
        lines, self._unfinished = chunk[: (end := chunk.rfind(b"\n") + 1)], chunk[end:]
        if self._skipped and lines:
            rest, _, lines = lines.partition(b"\n")
            self._reject(self._skipped + len(rest) + 1, max_bytes)
        if len(self._unfinished) >= max_bytes or (self._skipped and not end):
            self._long = self._long or self._unfinished[: 4 * KEPT_CHARACTERS]
            self._skipped, self._unfinished = self._skipped + len(self._unfinished), b""
        if len(self._head) < HEAD_BYTES:
            self._head += lines
        self.offset += len(lines)
        self.num_lines += lines.count(b"\n")
        return lines

    def close(self) -> None:
        """Nothing is held."""

    def _reject(self, num_bytes: int, max_bytes: int) -> None:
        reason = f"expected lines of at most {max_bytes:,} bytes, found one of {num_bytes:,}"
        text = self._long.decode("utf-8", "replace")[:KEPT_CHARACTERS]
        self.num_lines += 1
        self.rejected.append(RejectedRow(self.num_lines, reason, text, self.file_name))
        self._skipped, self._long = 0, b""


def piped_lines(pipe: BinaryIO) -> StreamedLines:
    """Standard input as it comes; while nobody reads, the one who writes to the pipe waits."""
    descriptor = pipe.fileno()

    def is_ready() -> int:
        return len(select.select([descriptor], [], [], 0)[0])

    def fetch(max_bytes: int) -> bytes | None:
        chunks: list[bytes] = []
        while sum(map(len, chunks)) < max_bytes and is_ready():
            # Not through the buffer, whose lock would abort the end of the process.
            if not (chunk := os.read(descriptor, min(max_bytes, 1 << 20))):
                return b"".join(chunks) or None  # the end is seen again by the next call
            chunks.append(chunk)
        return b"".join(chunks)

    return StreamedLines("stdin", fetch, is_ready)
