"""`Source`: a file with its own reader. Sensor logs, Arrow tables and JSON lines are sources."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.schema.schema import FlowSchema


@runtime_checkable
class Source(Protocol):
    """A file with its own reader."""

    @property
    def format(self) -> str:
        """Name of the format, as in `Dialect.format`."""
        ...

    @property
    def title(self) -> str:
        """The format for people, with details of this file."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that `read` gives."""
        ...

    @property
    def schema(self) -> FlowSchema | None:
        """The canonical schema of these columns; None for columns without a fixed meaning."""
        ...

    @property
    def joined_files(self) -> tuple[Path, ...]:
        """Other files that are read together with this one."""
        ...

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of rows, made from about `block_bytes` of text each; `parse_stats` counts the lines.

        Raises:
            DataError: the file is damaged.
        """
        ...


@runtime_checkable
class LineSource(Source, Protocol):
    """A source of text whose lines may be read without those before them."""

    def can_be_cut(self) -> bool:
        """Whether every line end of the file ends a row, as far as its head tells."""
        ...

    def of_lines(self, path: Path) -> Source:
        """The reader of a file of some of its lines."""
        ...

    def is_exact(self, lines: bytes) -> bool:
        """Whether some of its lines are read alone as within the file."""
        ...
