"""What is written stays written, also when the power goes."""

import os
from pathlib import Path


def force_to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
