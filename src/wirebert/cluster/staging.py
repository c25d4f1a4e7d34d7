"""A shard as `Flows` of one file, read as its rows are read within the whole file; and counting its rows."""

import io
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast, final

import pyarrow as pa
from pyarrow import parquet

from wirebert.cluster.executors import Executor
from wirebert.cluster.plan import (
    PlacedShard,
    Shard,
    ShardCounts,
    ShardPlan,
    head_of,
    num_head_lines,
    plan_shards,
)
from wirebert.cluster.storage import PIECE_BYTES, Storage, is_uri
from wirebert.data.accounting import ParseStats
from wirebert.data.files import FlowFile
from wirebert.data.flows import Flows
from wirebert.data.grammar import line_ends_end_rows
from wirebert.data.readers.source import LineSource
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.data.schema.schema import ColumnKind
from wirebert.errors import DataError
from wirebert.files import path_of, unnamed_file


def placed_shards(flows: Flows, executor: Executor) -> tuple[ShardPlan, tuple[PlacedShard, ...]]:
    """The plan and its shards with the rows before each, which are counted where no footer tells them."""
    plan = plan_shards(flows)
    counts = {one.id: one for one in executor.run(CountRows(flows), plan.uncounted())}
    exact = plan.exact(counts)
    if exact is not plan:
        new = [one for one in exact.uncounted() if one.id not in counts]
        counts |= {one.id: one for one in executor.run(CountRows(flows), new)}
    return exact, exact.placed(counts)


@contextmanager
def staged(flows: Flows, placed: PlacedShard) -> Generator[Flows]:
    """The rows of a shard of `flows`, as a file of their own."""
    shard = placed.shard
    part = flows.parts[shard.part]
    # What is lost is counted over the whole file.
    one = replace(
        flows,
        listing=(),
        can_be_empty=True,
        is_trained_on=False,
        time_units=placed.time_units,
        new_context=placed.new_context,
    )
    if shard.unit == "row_groups" and not is_uri(part.where):
        groups = range(shard.start, shard.stop)
        yield replace(one, parts=(replace(part, row_groups=groups),))
    elif shard.unit == "file":
        yield replace(one, parts=(part,))
    else:
        with unnamed_file("wirebert-shard-", in_memory=True) as file:
            if shard.unit == "bytes":
                _copy_lines(part, shard, cast(io.BufferedIOBase, file))
            else:
                _copy_row_groups(flows, part, shard, cast(io.BufferedIOBase, file))
            file.flush()
            path = path_of(file)
            source = part.source
            if source is not None:
                source = cast(LineSource, source).of_lines(path)
            yield replace(one, parts=(replace(part, path=path, source=source),))


@final
@dataclass(frozen=True)
class CountRows:
    """A job: the number of rows and lines of a shard, and how the first one of a file writes its times."""

    flows: Flows

    def load(self) -> Callable[[Shard], ShardCounts]:
        """What counts a shard."""
        return self._count

    def _count(self, shard: Shard) -> ShardCounts:
        time_units = None
        with staged(self.flows, PlacedShard(shard=shard, index=0)) as flows:
            part, block_bytes, stats = flows.parts[0], flows.config.block_mb << 20, ParseStats()
            if shard.unit != "file" and shard.start == 0:
                time_units = _time_units(flows, block_bytes)
            if shard.num_rows is not None:
                return ShardCounts(id=shard.id, num_rows=shard.num_rows, time_units=time_units)
            num_rows = sum(block.num_rows for block in part.raw_blocks(block_bytes, stats))
            is_exact = True
            if shard.unit == "bytes":
                text, source = part.path.read_bytes(), self.flows.parts[shard.part].source
                is_exact = (
                    line_ends_end_rows(text, part.dialect.grammar)
                    if source is None
                    else cast(LineSource, source).is_exact(text)
                )
        num_lines = stats.num_lines - (_head_lines(self.flows.parts[shard.part]) if shard.start else 0)
        return ShardCounts(
            id=shard.id, num_rows=num_rows, num_lines=num_lines, time_units=time_units, is_exact=is_exact
        )


def line_shift(flows: Flows, placed: PlacedShard) -> int:
    """What is added to the line numbers of a staged shard."""
    if placed.shard.unit != "bytes" or not placed.shard.start:
        return 0
    return placed.first_line - _head_lines(flows.parts[placed.shard.part])


def renumber(invalid_values: InvalidValues, flows: Flows, placed: PlacedShard) -> None:
    """Count rows and lines from the beginning of the file, where they were counted from that of the shard."""
    shift, lines = line_shift(flows, placed), invalid_values.lines
    lines.examples = [replace(row, line=row.line + shift) for row in lines.examples]
    lines.footer = [replace(row, line=row.line + shift) for row in lines.footer]
    for name, found in invalid_values.examples.items():
        numbered = [replace(one, row=one.row + placed.first_file_row) for one in found]
        invalid_values.examples[name] = numbered


def merge_parse_stats(flows: Flows, counted: Iterable[tuple[PlacedShard, InvalidValues]]) -> InvalidValues:
    """What all shards count together, given in plan order.

    Raises:
        DataError: too much of a file cannot be used.
    """
    whole = InvalidValues()
    for part, found in groupby(counted, key=lambda pair: pair[0].shard.part):
        merged = InvalidValues()
        for _, invalid in found:
            if invalid.lines.num_rows:
                merged.lines.go_on()  # lines at the end of the shard before were not the end of the file
            merged.merge(invalid)
        where = flows.parts[part].where
        flows.check_usable(merged, where)
        whole.merge(merged, where if len(flows.parts) > 1 else "")
    return whole


def _head_lines(part: FlowFile) -> int:
    return 0 if part.source is not None else num_head_lines(head_of(part), part.dialect)


def _time_units(flows: Flows, block_bytes: int) -> dict[str, str] | None:
    """How the first rows write each column of times; None if one of them has no value there."""
    part = flows.parts[0]
    invalid = InvalidValues()
    for block in part.raw_blocks(block_bytes, ParseStats(), wanted=flows.schema.names):
        convert(
            block,
            flows.schema,
            invalid=invalid,
            first_row=1,
            decimal_comma=part.dialect.decimal_comma,
            factors=part.match.factors,
        )
        break
    times = [
        one.name for one in flows.schema.columns if one.kind is ColumnKind.TIME and one.name in part.names
    ]
    return dict(invalid.time_units) if all(name in invalid.time_units for name in times) else None


def _copy_lines(part: FlowFile, shard: Shard, into: io.BufferedIOBase) -> None:
    """The lines of a range, behind the head of its file."""
    if shard.start and part.source is None:
        into.write(head_of(part))
    left = shard.stop - shard.start
    with part.path.open("rb") as file:
        file.seek(shard.start)
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            into.write(piece)
            left -= len(piece)
    if left:
        raise DataError(f"{part.where}: is shorter than when it was opened; give files at rest")


def _copy_row_groups(flows: Flows, part: FlowFile, shard: Shard, into: io.BufferedIOBase) -> None:
    """Row groups of a file in an object store: the columns that the model reads, others without values."""
    in_file = {part.match.renamed.get(name, name) for name in flows.schema.names}
    try:
        with Storage.of(part.where).open_parquet("") as file:
            schema = file.schema_arrow
            kept = [name for name in schema.names if name in in_file]
            is_flat = len(kept) == len(set(kept)) and not any("." in name for name in schema.names)
            has_structures = any(pa.types.is_struct(one.type) for one in schema)
            columns = kept if kept and is_flat and not has_structures else None
            with parquet.ParquetWriter(cast(Any, into), schema) as writer:
                for group in range(shard.start, shard.stop):
                    table = file.read_row_group(group, columns=columns)
                    if columns is not None:
                        table = pa.table(
                            [
                                table[one.name] if one.name in kept else pa.nulls(table.num_rows, one.type)
                                for one in schema
                            ],
                            schema=schema,
                        )
                    writer.write_table(table)
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{part.where}: cannot be read ({reason}); check that it is complete") from error
