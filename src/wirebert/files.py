"""Files and folders that are complete or absent, survive a power failure, and have one writer at a time."""

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path` in one step: a reader sees the old file or the new one."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Generator[Path]:
    """A temporary path next to `path`; the file written there is renamed to `path` when the block ends.

    It is flushed to disk first. If the block raises, it is deleted and `path` stays as it was.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        yield temporary
        fsync_path(temporary)
        temporary.replace(path)
        fsync_path(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Generator[Path]:
    """An empty temporary folder next to `folder`, which replaces `folder` when the block ends.

    Its files are flushed to disk first. If the block raises, it is deleted and `folder` stays as it was. If
    the process is killed between the two renames, the old content is at `previous_folder(folder)` alone.
    """
    temporary, previous = folder.with_name(f"{folder.name}.part"), previous_folder(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            fsync_path(path)
        if folder.exists():
            shutil.rmtree(previous, ignore_errors=True)
            folder.replace(previous)
        temporary.replace(folder)
        fsync_path(folder.parent)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def previous_folder(folder: Path) -> Path:
    """Name of the old folder while `atomic_folder` replaces it."""
    return folder.with_name(f"{folder.name}.old")


def fsync_path(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(file: IO[Any]) -> bool:
    """Lock the file until it is closed or the process ends; False if another process holds the lock.

    On a file system without locks the result is True.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
