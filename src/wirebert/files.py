"""Files that appear whole or not at all, and stay when the power goes."""

import os
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` (a text as UTF-8) beside `path`, and move it there in one step when all of it is on the disk."""
    aside = path.with_name(path.name + ".aside")
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        force_to_disk(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def force_to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
