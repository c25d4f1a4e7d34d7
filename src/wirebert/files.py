"""Files and folders that are complete or absent, survive a power failure, and have one writer at a time.

What is parsed as a whole is bounded in size and depth.
"""

import errno
import fcntl
import io
import json
import mmap
import os
import stat
import tomllib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal, cast

MAX_TEXT_BYTES = 64 << 20
"""Largest file that is parsed as a whole; the manifest of a large model has 3 MB."""
MAX_DEPTH = 64
"""Structures inside each other; deeper ones are none of ours, and would exhaust the stack."""
MAX_TOML_BYTES = 4 << 20
"""Settings and schemas are smaller, and the parser is slow."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) to `path` in one step: a reader sees the old file or the new one."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, replaces: bool = True) -> Generator[Path]:
    """An empty file next to `path`, to write to; it gets the name `path` when the block ends.

    It is flushed to disk first. If the block raises, it is deleted and `path` stays as it was. What a killed
    process left under its name is removed; what another process is writing, and a link, is not.

    Args:
        replaces: whether a file that has the name `path` by then is replaced.

    Raises:
        FileExistsError: `path` exists and may not be replaced, or a link has the temporary name.
        BlockingIOError: another process is writing the same file.
    """
    temporary = path.with_name(f"{path.name}.part")
    descriptor = _create(temporary)
    try:
        yield temporary
        fsync_path(temporary)
        if replaces:
            temporary.replace(path)
        else:
            _rename_new(temporary, path)
        fsync_path(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _create(path: Path) -> int:
    """A descriptor of the new file, locked while it is open."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            _remove_left_behind(path)
        else:
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor


def _remove_left_behind(path: Path) -> None:
    """Remove a file that a killed process was writing."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "a link or a device is in the way", str(path))
    with open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as left:  # noqa: PTH123
        if not try_lock(left):
            raise BlockingIOError(errno.EBUSY, "another process is writing it", str(path))
        if os.fstat(left.fileno()).st_ino == path.lstat().st_ino:
            path.unlink()


def _rename_new(source: Path, path: Path) -> None:
    """Rename a file to a name that is free; a rename alone would replace a file that came meanwhile."""
    try:
        os.link(source, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "it exists", str(path)) from None
        source.rename(path)


@contextmanager
def atomic_folder(folder: Path) -> Generator[Path]:
    """An empty temporary folder next to `folder`, which replaces `folder` when the block ends.

    Its files are flushed to disk first. If the block raises, it is deleted and `folder` stays as it was. If
    the process is killed between the two renames, the old content is at `previous_folder(folder)` alone.
    """
    temporary, previous = folder.with_name(f"{folder.name}.part"), previous_folder(folder)
    remove_folder(temporary)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            fsync_path(path)
        if folder.exists():
            remove_folder(previous)
            folder.replace(previous)
        temporary.replace(folder)
        fsync_path(folder.parent)
        remove_folder(previous)
    finally:
        remove_folder(temporary)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as that can be."""
    import shutil  # here, as it loads every compression

    shutil.rmtree(folder, ignore_errors=True)


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


def open_plain_file(path: Path) -> io.BufferedReader:
    """A plain file, or that to which a link leads, open for reading. A pipe is not waited for.

    Raises:
        OSError: it cannot be read, or is a folder, a device or a pipe.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is a device or a pipe", str(path))
    return file


def read_plain_file(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The content of a plain file.

    Raises:
        OSError: as `open_plain_file`, or it is larger than `max_bytes`.
    """
    with open_plain_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes >> 20} MB", str(path))
    return content


def read_json_file(path: Path) -> object:
    """The value in a JSON file, bounded in size and depth.

    Raises:
        OSError: see `read_plain_file`.
        ValueError: it is no JSON, or too deep.
    """
    return decode_json(read_plain_file(path))


def decode_json(text: str | bytes) -> object:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or deeper than `MAX_DEPTH`.
    """
    try:
        value: object = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"structures more than {MAX_DEPTH} deep") from error
    check_depth(value)
    return value


def read_toml_file(path: Path, errors: Literal["strict", "surrogateescape"] = "strict") -> dict[str, object]:
    """The content of a TOML file, bounded in size and depth.

    Raises:
        OSError: see `read_plain_file`.
        ValueError: it is no TOML, or too deep.
    """
    text = read_plain_file(path, MAX_TOML_BYTES).decode(errors=errors)
    try:
        value = tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError as error:
        raise ValueError(f"structures more than {MAX_DEPTH} deep") from error
    check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Raise a ValueError for structures more than `MAX_DEPTH` deep; counted level by level."""
    depth, level = 0, [value]
    while level := [inner for one in level if isinstance(one, dict | list) for inner in _inside(one)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"structures more than {MAX_DEPTH} deep")


def _inside(value: object) -> Sequence[object]:
    is_table = isinstance(value, dict)
    return list(cast(dict[str, object], value).values()) if is_table else cast(list[object], value)


def unnamed_file(prefix: str, *, in_memory: bool = False) -> IO[bytes]:
    """A temporary file of which nothing is left when the process ends, however it ends; see `path_of`."""
    if in_memory and hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create(prefix), "w+b")
    has_descriptors = Path("/proc/self/fd").is_dir()
    import tempfile

    file = tempfile.NamedTemporaryFile(prefix=prefix, delete=not has_descriptors)  # noqa: SIM115 -- is returned
    if has_descriptors:
        Path(file.name).unlink()
    return cast(IO[bytes], file)


def path_of(file: IO[bytes]) -> Path:
    """A path under which an unnamed file can be opened while it is open."""
    if isinstance(file.name, str) and Path(file.name).exists():
        return Path(file.name)
    return Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


def mapped(file: IO[bytes]) -> memoryview:
    """The content of a file that is not empty, of which pages are read when they are looked at."""
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def try_lock(file: IO[Any]) -> bool:
    """Lock the file until it is closed or the process ends; False if another process holds the lock.

    On a file system without locks the result is True.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, BlockingIOError)
    return True
