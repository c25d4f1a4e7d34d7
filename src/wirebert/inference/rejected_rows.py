"""The file of rejected rows beside a file of verdicts: where each stands, why it has none, and its text."""

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, Protocol, final

import msgspec

from wirebert.data.accounting import RejectedRow
from wirebert.errors import DataError
from wirebert.files import atomic_file


def rejected_path(out: Path) -> Path:
    """The file of the rows that have no verdict in `out`."""
    return out.with_name(f"{out.name}.rejected.jsonl")


class KeepRow(Protocol):
    """Keeps a rejected row."""

    def __call__(self, row: RejectedRow, /) -> None:
        """Write it."""
        ...


@contextmanager
def rejected_rows_file(out: Path) -> Generator[KeepRow]:
    """Writes rejected rows of a whole file; the file appears when the block ends, if there are any.

    Raises:
        DataError: the file exists already (it is kept).
    """
    path = rejected_path(out)
    if os.path.lexists(path):
        raise DataError(f"{path}: expected a new file, but it exists and is kept; choose another --out")
    with ExitStack() as stack:
        sinks: list[BinaryIO] = []

        def keep(row: RejectedRow) -> None:
            if not sinks:
                temporary = stack.enter_context(atomic_file(path, replaces=False))
                sinks.append(stack.enter_context(temporary.open("wb")))
            sinks[0].write(rejected_line(row))

        yield keep


@final
class RejectedRows:
    """Rejected rows of a log that is followed, beside its verdicts: resumed where the saved state ends."""

    def __init__(self, out: Path | None, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._path = None if out is None else rejected_path(out)
        self._file: BinaryIO | None = None
        if self._path is not None and os.path.lexists(self._path):
            self._open(self._path)

    def __call__(self, row: RejectedRow, /) -> None:
        """Write it, unless there is no file of verdicts."""
        if self._path is None:
            return
        file = self._file or self._open(self._path)
        self.num_bytes += file.write(rejected_line(row))

    def flush(self, *, to_disk: bool = False) -> None:
        """Give what was written to the system, or to the disk."""
        if self._file is not None:
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _open(self, path: Path) -> BinaryIO:
        self._file = open_own(path)
        self._file.truncate(self.num_bytes)
        self._file.seek(self.num_bytes)
        return self._file


def open_own(path: Path) -> BinaryIO:
    """A file to go on with, or a new one; never through a link.

    Raises:
        DataError: it cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise DataError(f"--out {path}: cannot be written ({error.strerror}); choose another path") from error
    return os.fdopen(descriptor, "r+b")


def rejected_line(row: RejectedRow) -> bytes:
    """The row as a line of JSON."""
    plain = asdict(row)
    plain["text"] = row.text.encode("utf-8", "replace").decode()
    return (
        msgspec.json.encode({"file": plain.pop("file").encode("utf-8", "replace").decode(), **plain}) + b"\n"
    )
