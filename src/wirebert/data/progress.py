"""A progress bar on a terminal while files are read; nothing elsewhere."""

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from rich.console import Console

Block = TypeVar("Block")


def progress_bar(
    blocks: Iterable[Block],
    what: str,
    num_rows: Callable[[Block], int],
    *,
    total: int | None = None,
    console: "Console | None" = None,
) -> Iterator[Block]:
    """The blocks, with a bar that shows the activity and the number of rows done.

    Args:
        blocks: the blocks to pass on.
        what: the activity in one word: reading, encoding.
        num_rows: rows of a block.
        total: number of all rows; None where it is unknown.
        console: where the bar is drawn; None: standard error, if it is a terminal.
    """
    if not (sys.stderr.isatty() if console is None else console.is_terminal):
        yield from blocks
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
    )
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total, rows="")
        done = 0
        for block in blocks:
            done += num_rows(block)
            progress.update(task, completed=done, rows=f"{done:,} rows")
            yield block


def reading_bar(blocks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The tables, with a bar while they are read."""
    return progress_bar(blocks, "reading", lambda block: block.num_rows)
