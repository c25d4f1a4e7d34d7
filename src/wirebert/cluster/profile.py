"""The profile of a table by shards: each is read by one worker, and merged in plan order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import final

from wirebert.cluster.context import context_in_order
from wirebert.cluster.executors import Executor, run_in_order
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.staging import merge_parse_stats, placed_shards, renumber, staged
from wirebert.cluster.storage import Storage, temporary_storage
from wirebert.data.checks.profile import ProfileBuilder, TableProfile
from wirebert.data.flows import Flows
from wirebert.data.folders import check_vocabularies
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.typed_rows import TypedRowsWriter
from wirebert.errors import NoFlowsError
from wirebert.plurals import counted
from wirebert.telemetry.processors import peak_memory_mb
from wirebert.untrusted_text import warn


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfiledShard:
    """What the profile takes from a shard; its typed rows are on disk, if they are wanted."""

    builder: ProfileBuilder
    invalid_values: InvalidValues
    peak_mb: int
    """Most memory of the worker until then."""


@final
@dataclass(frozen=True)
class ProfileShards:
    """A job: read a shard of traffic for its profile."""

    flows: Flows
    num_rows: int
    """Rows that the traffic has at least."""
    rows: Path | None = None
    """Folder for the typed rows of each shard."""

    def load(self) -> Callable[[PlacedShard], ProfiledShard]:
        """What reads a shard."""
        return self._profile

    def _profile(self, placed: PlacedShard) -> ProfiledShard:
        builder = ProfileBuilder(self.flows.schema, first_row=placed.first_row, num_rows=self.num_rows)
        invalid = InvalidValues()
        path = None if self.rows is None else self.rows / placed.shard.id
        with ExitStack() as stack:
            writer = None
            if path is not None:
                writer = stack.enter_context(TypedRowsWriter(path.with_suffix(".partial")))
            for block in stack.enter_context(staged(self.flows, placed)).blocks(invalid):
                builder.add(block)
                if writer is not None:
                    writer.write(block)
            if writer is not None and path is not None:
                writer.finish(path, "", InvalidValues())
        renumber(invalid, self.flows, placed)
        peak_mb = peak_memory_mb()
        return ProfiledShard(builder=builder, invalid_values=invalid, peak_mb=peak_mb)


def profile_by_shards(
    flows: Flows,
    executor: Executor,
    placed: Sequence[PlacedShard] | None = None,
    writer: TypedRowsWriter | None = None,
) -> TableProfile:
    """The profile of all blocks, as `profile_table` makes it.

    Args:
        flows: the traffic.
        executor: what reads the shards.
        placed: all shards, with their context; None: they are planned.
        writer: receives the typed rows, if they are wanted.

    Raises:
        DataError: a file is damaged, or too much of it cannot be used.
        NoFlowsError: there is no flow at all.
    """
    with temporary_storage() as folder:
        if placed is None:
            plan, placed = placed_shards(flows, executor)
            for reason in plan.reasons:
                warn(reason)
            if writer is not None:
                folder = Storage.of(str(writer.folder / "context"))
            placed = context_in_order(flows, placed, executor, folder)
        whole, read, peak_mb = ProfileBuilder(flows.schema), list[tuple[PlacedShard, InvalidValues]](), 0
        labels: list[set[str]] = [set() for _ in flows.parts]
        job = ProfileShards(flows, placed[-1].first_row, None if writer is None else writer.folder)
        done: Iterator[ProfiledShard] = run_in_order(executor, job, placed)
        for one, shard in zip(placed, done, strict=True):
            whole.merge(shard.builder)
            labels[one.shard.part].update(shard.builder.label_codes)
            read.append((one, shard.invalid_values))
            peak_mb = max(peak_mb, shard.peak_mb)
            if writer is not None:
                writer.append(writer.folder / one.shard.id)
        if folder.exists():  # of a writer too, whose folder is kept
            folder.delete()
    if flows.is_trained_on:
        for last in range(1, len(labels)):
            check_vocabularies(flows.parts, labels[: last + 1])
    invalid = merge_parse_stats(flows, read)
    if not invalid.num_rows:
        raise NoFlowsError(flows.no_flows(invalid.lines.events))
    warn(f"{counted(invalid.num_rows, 'row')}; shards: {len(placed):,}, at most {peak_mb:,} MB a worker")
    return whole.result(flows.name, invalid)
