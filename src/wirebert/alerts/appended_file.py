"""`AppendedFile`: lines in a file, resumed where a saved state ends, so that no line is there twice."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from wirebert.errors import DataError
from wirebert.files import fsync_path, try_lock


@final
class AppendedFile:
    """A sink for a file of lines that only this process appends to; others may rotate it.

    Lines behind the saved end belong to flows that will be scored again, so they are cut off: in the file of
    this name, or in the one that rotation gave another name.

    Args:
        saved: `end` as it was saved; None: the file must be new or empty.
        tell: called with a sentence where the file is not what was saved.

    Raises:
        DataError: it cannot be written, is in use, or is a file of somebody else.
    """

    def __init__(self, path: Path, saved: Mapping[str, Any] | None, tell: Callable[[str], None]) -> None:
        self.path, self._tell = path, tell
        if saved is not None:
            self._cut_renamed(saved)
        self._open()
        status = os.fstat(self._file.fileno())
        is_ours = saved is not None and saved["inode"] == status.st_ino
        if status.st_size and not is_ours:
            self._file.close()
            raise DataError(
                f"--to {path}: expected a new file, or one that this monitor wrote (with its state), found "
                "another one, which is kept; choose another name"
            )
        if saved is not None and is_ours:
            if status.st_size < saved["num_bytes"]:
                tell(
                    f"{path}: expected at least the {saved['num_bytes']:,} bytes of the saved state, found "
                    f"{status.st_size:,}; another program has cut it off, and what is missing is not written "
                    "again"
                )
            self._cut(self._file, saved["num_bytes"])

    @property
    def end(self) -> dict[str, Any]:
        """Where the file ends, to be saved after `flush`."""
        return {"inode": self._inode, "num_bytes": self._num_bytes}

    def write(self, events: Sequence[bytes]) -> None:
        """Append the lines.

        Raises:
            OSError: the disk is full; then none of them is in the file.
        """
        if not events:
            return
        text, before = b"\n".join(events) + b"\n", self._file.seek(0, os.SEEK_END)
        num_written = 0
        try:
            while num_written < len(text):
                num_written += self._file.write(text[num_written:])
        except OSError:
            self._file.truncate(before)
            raise

    def flush(self) -> None:
        """Give what was written to the disk."""
        os.fsync(self._file.fileno())
        self._num_bytes = os.fstat(self._file.fileno()).st_size

    def follow_rotation(self) -> bool:
        """Go on in a new file if this one was renamed; True then. Call it when `end` is saved, and save again
        before the next line: else a line could be in both."""
        try:
            is_same = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_same = False
        if not is_same:
            self._file.close()
            self._open()
        return not is_same

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        """Never through a link; locked, so that two monitors cannot write to it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file: BinaryIO = cast(
                BinaryIO, os.fdopen(os.open(self.path, flags, 0o666), "r+b", buffering=0)
            )
            fsync_path(self.path.parent)
        except OSError as error:
            raise DataError(
                f"--to {self.path}: cannot be written ({error.strerror}); choose another path"
            ) from error
        if not try_lock(self._file):
            self._file.close()
            raise DataError(
                f"--to {self.path}: another process is writing to it; stop it first or choose another name"
            )
        status = os.fstat(self._file.fileno())
        self._inode, self._num_bytes = status.st_ino, status.st_size

    def _cut_renamed(self, saved: Mapping[str, Any]) -> None:
        if os.path.lexists(self.path) and self.path.lstat().st_ino == saved["inode"]:
            return
        for path in self.path.parent.iterdir():
            if path.is_file() and not path.is_symlink() and path.stat().st_ino == saved["inode"]:
                with path.open("r+b") as file:
                    self._cut(file, saved["num_bytes"])
                return
        self._tell(
            f"{self.path}: the file of the saved state is gone or packed; if lines were written to it after "
            "the state was saved, their flows are written again"
        )

    def _cut(self, file: BinaryIO, num_bytes: int) -> None:
        file.truncate(min(num_bytes, os.fstat(file.fileno()).st_size))
        self._num_bytes = os.fstat(file.fileno()).st_size
