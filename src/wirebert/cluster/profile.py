"""The profile of a table by shards: each is read by one worker, and merged in plan order."""

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from wirebert.cluster.executors import Executor
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.staging import in_plan_order, merge_parse_stats, placed_shards, renumber, staged
from wirebert.console import warn
from wirebert.data.checks.profile import ProfileBuilder, TableProfile, profile_table
from wirebert.data.context.context import has_context
from wirebert.data.flows import Flows
from wirebert.data.folders import check_vocabularies
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import NoFlowsError


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfiledShard:
    """What the profile takes from a shard."""

    placed: PlacedShard
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

    def load(self) -> Callable[[PlacedShard], ProfiledShard]:
        """What reads a shard."""
        return self._profile

    def _profile(self, placed: PlacedShard) -> ProfiledShard:
        builder = ProfileBuilder(self.flows.schema, first_row=placed.first_row, num_rows=self.num_rows)
        invalid = InvalidValues()
        with staged(self.flows, placed) as flows:
            for block in flows.blocks(invalid):
                builder.add(block)
        renumber(invalid, self.flows, placed)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        return ProfiledShard(placed=placed, builder=builder, invalid_values=invalid, peak_mb=peak_mb)


def profile_by_shards(
    flows: Flows, executor: Executor, placed: Sequence[PlacedShard] | None = None
) -> TableProfile:
    """The profile of all blocks, as `profile_table` makes it.

    Args:
        placed: all shards, with their context; None: they are planned.

    Raises:
        DataError: a file is damaged, or too much of it cannot be used.
        NoFlowsError: there is no flow at all.
    """
    if placed is None:
        if flows.schema.context is not None and has_context(flows.parts[0].names):
            warn("context columns depend on earlier flows: the profile is made by one process")
            return profile_table(flows)
        plan, placed = placed_shards(flows, executor)
        for reason in plan.reasons:
            warn(reason)
    whole, read = ProfileBuilder(flows.schema), list[tuple[PlacedShard, InvalidValues]]()
    labels: list[set[str]] = [set() for _ in flows.parts]
    peak_mb = 0
    for one in in_plan_order(executor.run(ProfileShards(flows, placed[-1].first_row), placed)):
        whole.merge(one.builder)
        labels[one.placed.shard.part].update(one.builder.label_codes)
        read.append((one.placed, one.invalid_values))
        peak_mb = max(peak_mb, one.peak_mb)
    if flows.is_trained_on:
        for last in range(1, len(labels)):
            check_vocabularies(flows.parts, labels[: last + 1])
    invalid = merge_parse_stats(flows, read)
    if not invalid.num_rows:
        raise NoFlowsError(flows.no_flows(invalid.lines.events))
    warn(f"{invalid.num_rows:,} rows in {len(placed):,} shards, at most {peak_mb:,} MB a worker")
    return whole.result(flows.name, invalid)
