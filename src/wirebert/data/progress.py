"""A moving bar on a terminal while files are read; nothing anywhere else."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from wirebert.console import SafeConsole
from wirebert.data.checks.profile import FlowSource
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import FlowSchema

Block = TypeVar("Block")


def progress_bar(
    blocks: Iterable[Block],
    what: str,
    num_rows: Callable[[Block], int],
    *,
    total: int | None = None,
    console: Console | None = None,
) -> Iterator[Block]:
    """The blocks, with a bar that says what is done, how many rows are through, and of how many.

    Args:
        blocks: what is read.
        what: one word for it: reading, encoding.
        num_rows: rows of a block.
        total: rows in all; None where nobody knows yet.
        console: where the bar moves; None: standard error, if it is a terminal.
    """
    console = console or SafeConsole(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total, rows="")
        done = 0
        for block in blocks:
            done += num_rows(block)
            progress.update(task, completed=done, rows=f"{done:,} rows")
            yield block


@dataclass(frozen=True, slots=True)
class TrackedFlows:
    """Traffic that shows a bar while it is read."""

    flows: FlowSource
    console: Console | None = field(default=None, kw_only=True)

    @property
    def name(self) -> str:
        """How messages call the data."""
        return self.flows.name

    @property
    def schema(self) -> FlowSchema:
        """What the columns mean."""
        return self.flows.schema

    def blocks(self, misfits: InvalidValues | None = None) -> Iterator[pa.Table]:
        """Typed tables in file order."""
        return progress_bar(
            self.flows.blocks(misfits), "reading", lambda block: block.num_rows, console=self.console
        )
