"""Files that appear whole or not at all, stay when the power goes, and are written by one process at a time."""

import fcntl
import os
from pathlib import Path
from typing import IO, Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` (a text as UTF-8) beside `path`, and move it there in one step when all of it is on the disk."""
    aside = path.with_name(path.name + ".aside")
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        fsync_path(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: IO[Any]) -> bool:
    """Keep other processes from taking the file until it is closed, however this process ends; False: one was first.

    Where the file system has no locks, nobody is kept out.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
