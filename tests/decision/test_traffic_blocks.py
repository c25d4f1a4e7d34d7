from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.traffic_blocks import (
    FEWEST_FLOWS,
    NUM_BLOCKS,
    SCORES,
    ScoredFlows,
    TrafficBlocks,
    cell_sizes,
)
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.matrix import slot_ids
from wirebert.encoding.tokenizer import FlowTokenizer


def scored(tokenizer: FlowTokenizer, table: pa.Table, seed: int = 0) -> ScoredFlows:
    rng, size = np.random.default_rng(seed), table.num_rows
    return ScoredFlows(
        tokenizer.encode(table),
        rng.random(size) < 0.2,
        rng.random(size),
        rng.exponential(2, size),
        rng.random(size) < 0.1,
    )


@pytest.mark.parametrize("omit", [True, False])
def test_each_flow_counts_once_in_each_slot_and_score_left_out_values_too(
    schema: FlowSchema, table: pa.Table, omit: bool
) -> None:
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), EncodingConfig(omit_most_frequent=omit))
    flows = scored(tokenizer, table)
    blocks = TrafficBlocks(tokenizer)
    blocks.add(flows)
    assert blocks.counts.shape == (2, sum(cell_sizes(tokenizer)))  # of 60 flows, ten wait for more
    starts = np.cumsum([0, *cell_sizes(tokenizer)])[:-1]
    assert (np.add.reduceat(blocks.counts, starts, axis=1) == FEWEST_FLOWS).all()
    tokens = slot_ids(tokenizer, flows.block)[:FEWEST_FLOWS] - tokenizer.slot_special.min()
    expected = np.bincount(tokens.ravel(), minlength=starts[-len(SCORES)])
    np.testing.assert_array_equal(blocks.counts[0, : starts[-len(SCORES)]], expected)
    assert flows.is_alert is not None
    assert blocks.counts[0, starts[-2] + 1] == flows.is_alert[:FEWEST_FLOWS].sum()
    assert blocks.counts[0, starts[-1] + 1] == flows.has_unseen[:FEWEST_FLOWS].sum()


def test_memory_is_bounded_and_counts_do_not_depend_on_how_flows_arrive(
    schema: FlowSchema, table: pa.Table
) -> None:
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]))
    long = pa.concat_tables([table] * 80).combine_chunks()  # 4,800 flows: 192 blocks of 25
    whole, pieces = TrafficBlocks(tokenizer), TrafficBlocks(tokenizer)
    flows = scored(tokenizer, long)
    whole.add(flows)
    for first in range(0, 4_800, 700):
        some = slice(first, first + 700)
        block = tokenizer.encode(long.slice(first, 700))
        parts = (flows.has_unseen, flows.attack_score, flows.novelty, flows.is_alert)
        pieces.add(ScoredFlows(block, *(part[some] for part in parts if part is not None)))
    assert NUM_BLOCKS <= len(whole.counts) < 2 * NUM_BLOCKS
    assert whole.num_flows == 4 * FEWEST_FLOWS
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    last = TrafficBlocks(tokenizer, 100, window=3)
    last.add(flows)
    np.testing.assert_array_equal(last.counts, whole.counts[-3:])
    assert last.num_closed == 48


def test_scores_can_be_set_when_the_threshold_is_known(schema: FlowSchema, table: pa.Table) -> None:
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]))
    flows = scored(tokenizer, table)
    expected, changed = TrafficBlocks(tokenizer), TrafficBlocks(tokenizer)
    expected.add(flows)
    changed.add(ScoredFlows(flows.block, flows.has_unseen, np.zeros(60), flows.novelty))
    assert flows.attack_score is not None
    assert flows.is_alert is not None
    changed.set_scores(flows.attack_score, flows.is_alert)
    np.testing.assert_array_equal(changed.counts, expected.counts)


@pytest.mark.parametrize("cuts", [[], [10], [30, 31, 2_000], [4_790]])
def test_blocks_of_parts_of_a_log_are_merged_to_those_of_the_log(
    schema: FlowSchema, table: pa.Table, cuts: list[int]
) -> None:
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]))
    long = pa.concat_tables([table] * 80).combine_chunks()
    flows, whole = scored(tokenizer, long), TrafficBlocks(tokenizer)
    whole.add(flows)
    merged = whole.of_part(4_800, 0)
    for first, stop in pairwise([0, *cuts, 4_800]):
        part = TrafficBlocks(tokenizer).of_part(4_800, first)
        block = tokenizer.encode(long.slice(first, stop - first))
        some = (flows.has_unseen, flows.attack_score, flows.novelty, flows.is_alert)
        part.add(ScoredFlows(block, *(None if one is None else one[first:stop] for one in some)))  # pyright: ignore[reportArgumentType]
        read = TrafficBlocks(tokenizer).of_part(4_800, first)
        read.read_bytes(part.to_bytes(), stop - first)
        merged.merge(read)
    assert merged.num_flows == whole.num_flows
    for blocks in (merged, whole):  # both go on in the block that is open
        blocks.add(ScoredFlows(tokenizer.encode(long.slice(0, 50)), np.zeros(50, bool)))
    np.testing.assert_array_equal(merged.counts, whole.counts)
