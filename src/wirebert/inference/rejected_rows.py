"""The file of rejected rows beside a file of verdicts: where each stands, why it has none, and its text."""

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import msgspec

from wirebert.data.accounting import RejectedRow
from wirebert.errors import DataError
from wirebert.files import atomic_file


def rejected_path(out: Path) -> Path:
    """The file of the rows that have no verdict in `out`."""
    return out.with_name(f"{out.name}.rejected.jsonl")


@contextmanager
def rejected_rows_file(out: Path) -> Generator[Callable[[RejectedRow], None]]:
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
            sinks[0].write(rejected_line(row) + b"\n")

        yield keep


def rejected_line(row: RejectedRow) -> bytes:
    """The row as one line of JSON, without its end."""
    plain = asdict(row)
    plain["text"] = row.text.encode("utf-8", "replace").decode()
    return msgspec.json.encode({"file": plain.pop("file").encode("utf-8", "replace").decode(), **plain})
