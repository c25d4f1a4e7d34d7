"""`ShardPlan`: files and row ranges as shards with stable ids, in the order of the output.

A shard is a whole file, row groups of a Parquet file, or lines of a text file. A text file is cut only where
that is exact: at line ends of plain UTF-8 delimited text, if no value holds one, of JSON lines and Zeek logs.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Literal

import pyarrow as pa

from wirebert.cluster.storage import Storage, is_uri
from wirebert.data.accounting import ParseStats
from wirebert.data.context.context import ContextSource
from wirebert.data.delimited.reader import skip_head
from wirebert.data.dialect import Dialect, damaged
from wirebert.data.files import FlowFile
from wirebert.data.flows import Flows
from wirebert.data.readers.source import LineSource
from wirebert.untrusted_text import printable_name

SHARD_BYTES = 32 << 20
"""Least size of a shard of text; it does not depend on the number of workers, so neither do the shards."""
SHARD_ROWS = 1 << 18
"""Least number of rows of a shard of Parquet, unless the file ends."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """Some rows of a data set."""

    part: int
    """Position of the file among those of the plan."""
    path: str
    size_bytes: int
    """Of the file."""
    unit: Literal["file", "row_groups", "bytes"]
    """What the shard is a range of."""
    start: int = 0
    stop: int = 0
    num_rows: int | None = None
    """None: not known before the rows are counted."""

    @property
    def id(self) -> str:
        """A name from path, size and range: the same for every number of workers, and at each start."""
        named = f"{self.path}\n{self.size_bytes}\n{self.unit}\n{self.start}\n{self.stop}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardCounts:
    """What is known of a shard when its rows were counted."""

    id: str
    num_rows: int
    num_lines: int = 0
    """Lines of its range."""
    time_units: Mapping[str, str] | None = None
    """Column of times -> how the file writes them; None: its first rows do not tell all of them."""
    is_exact: bool = True
    """Whether the range is read as it is within its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlacedShard:
    """A shard, and what its rows follow."""

    shard: Shard
    index: int
    """Position in the plan."""
    first_row: int = 0
    """Usable rows before it."""
    first_file_row: int = 0
    """Usable rows of its file before it."""
    first_line: int = 0
    """Lines of its file before it."""
    time_units: Mapping[str, str] = field(default_factory=dict)
    new_context: Callable[[], ContextSource] | None = None
    """What knows the context of its rows; None: it is computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """All shards of a data set, in the order of its rows."""

    shards: tuple[Shard, ...]
    reasons: tuple[str, ...] = ()
    """Why files, or all of them, are one shard each."""

    def uncounted(self) -> tuple[Shard, ...]:
        """The shards of which something must be known before later ones can be placed."""
        last = len(self.shards) - 1
        several = {one.part for one in self.shards if one.unit != "file" and one.start > 0}
        return tuple(
            one
            for at, one in enumerate(self.shards)
            if one.unit == "bytes"
            or (one.num_rows is None and at < last)
            or (one.unit == "row_groups" and one.start == 0 and one.part in several)
        )

    def exact(self, counts: Mapping[str, ShardCounts]) -> "ShardPlan":
        """The plan with a whole file in place of ranges that would be read in another way."""
        shards: list[Shard] = []
        num_whole = 0
        for _, found in groupby(self.shards, key=lambda one: one.part):
            ranges = list(found)
            counted = [counts[one.id] for one in ranges if one.id in counts]
            if len(ranges) == 1 or (counted[0].time_units is not None and all(c.is_exact for c in counted)):
                shards += ranges
            elif ranges[0].unit == "bytes":
                shards.append(replace(ranges[0], unit="file", stop=0))
            else:
                num_rows = sum(one.num_rows or 0 for one in ranges)
                shards.append(replace(ranges[0], stop=ranges[-1].stop, num_rows=num_rows))
            num_whole += shards[-1].start == 0 and len(ranges) > 1
        if not num_whole:
            return self
        reason = f"{num_whole} files cannot be cut: a value may hold a line end, or no first row a time"
        return ShardPlan(shards=tuple(shards), reasons=(*self.reasons, reason))

    def placed(self, counts: Mapping[str, ShardCounts]) -> tuple[PlacedShard, ...]:
        """Each shard with the rows and lines before it."""
        placed: list[PlacedShard] = []
        first_row = first_file_row = first_line = 0
        units: Mapping[str, str] = {}
        for index, one in enumerate(self.shards):
            counted = counts.get(one.id, ShardCounts(id=one.id, num_rows=one.num_rows or 0))
            if one.start == 0:
                first_file_row = first_line = 0
                units = {}
            placed.append(
                PlacedShard(
                    shard=one,
                    index=index,
                    first_row=first_row,
                    first_file_row=first_file_row,
                    first_line=first_line,
                    time_units=units,
                )
            )
            if one.start == 0:
                units = counted.time_units or {}
            first_row += counted.num_rows
            first_file_row += counted.num_rows
            first_line += counted.num_lines
        return tuple(placed)


def plan_shards(flows: Flows, *, shard_bytes: int = SHARD_BYTES, shard_rows: int = SHARD_ROWS) -> ShardPlan:
    """The shards of opened traffic, of which only footers and heads are read."""
    shards: list[Shard] = []
    for at, part in enumerate(flows.parts):
        size = _size(part)
        whole = Shard(part=at, path=printable_name(part.where), size_bytes=size, unit="file")
        if part.dialect.format == "parquet":
            shards += [
                replace(whole, unit="row_groups", start=start, stop=stop, num_rows=rows)
                for start, stop, rows in _row_groups(part, shard_rows)
            ]
        elif size > shard_bytes and can_be_cut(part):
            cuts = [*line_cuts(part, size, shard_bytes), size]
            shards += [replace(whole, unit="bytes", start=start, stop=stop) for start, stop in pairwise(cuts)]
        else:
            shards.append(whole)
    return ShardPlan(shards=tuple(shards))


def can_be_cut(part: FlowFile) -> bool:
    """Whether rows of a text file can be read without those before them, if every line end ends a row."""
    dialect = part.dialect
    if dialect.compression != "none" or part.path.name.startswith("fd"):
        return False
    if part.source is not None:
        return isinstance(part.source, LineSource) and part.source.can_be_cut()
    return dialect.format == "delimited" and dialect.encoding == "utf-8" and not dialect.footer_lines


def line_cuts(part: FlowFile, size: int, shard_bytes: int) -> Iterator[int]:
    """Where the ranges of a text file begin, each but the first behind a line end."""
    yield 0
    at = 0 if part.source is not None else len(head_of(part))
    with part.path.open("rb") as file:
        while (target := at + shard_bytes) < size:
            file.seek(target - 1)
            file.readline()
            if (at := file.tell()) >= size:
                return
            yield at


def head_of(part: FlowFile) -> bytes:
    """What stands before the rows of delimited text: the header, and lines before it."""
    with part.path.open("rb") as file:
        text, _ = skip_head(file, part.dialect, 1 << 20, ParseStats())
        size = file.tell() - len(text)
        file.seek(0)
        return file.read(size)


def num_head_lines(head: bytes, dialect: Dialect) -> int:
    """Lines of `head_of`."""
    stats = ParseStats()
    skip_head(pa.BufferReader(head), dialect, max(len(head), 1), stats)
    return stats.num_lines


def _row_groups(part: FlowFile, shard_rows: int) -> Iterator[tuple[int, int, int]]:
    """First and next row group of each shard, and its rows."""
    storage = Storage.of(part.where if is_uri(part.where) else str(part.path))
    try:
        with storage.open_parquet("") as file:
            metadata = file.metadata
    except (OSError, pa.ArrowException) as error:
        raise damaged(part.where, "Parquet", error) from error
    start = rows = 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= shard_rows or group == metadata.num_row_groups - 1:
            yield start, group + 1, rows
            start, rows = group + 1, 0
    if not metadata.num_row_groups:
        yield 0, 0, 0


def _size(part: FlowFile) -> int:
    if is_uri(part.where):
        return Storage.of(part.where).size("") or 0
    return part.path.stat().st_size
