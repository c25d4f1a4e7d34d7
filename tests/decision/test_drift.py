import numpy as np
import pyarrow as pa
import pytest
from tests.decision.drifting import SCHEMA, counted, traffic

from wirebert.decision.drift import FALSE_ALARM_RATE, MIN_BLOCKS, DriftReference, MeasureDrift
from wirebert.decision.traffic_blocks import FEWEST_FLOWS, TrafficBlocks
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ArtifactError, DataError


def compare(reference: DriftReference, tokenizer: FlowTokenizer, table: pa.Table) -> dict[str, MeasureDrift]:
    blocks = counted(tokenizer, table, reference.new_blocks(tokenizer))
    return {one.name: one for one in reference.compare(blocks, tokenizer)}


@pytest.mark.parametrize("num_flows", [1_000, 4_000])
def test_bursts_alone_are_hardly_ever_drift(
    reference: DriftReference, tokenizer: FlowTokenizer, num_flows: int
) -> None:
    told = 0
    for seed in range(60):
        measures = compare(reference, tokenizer, traffic(num_flows, 1_000 + seed)).values()
        told += any(one.has_moved for one in measures)
    assert told <= 60 * FALSE_ALARM_RATE + 3  # 4 or more of 60 at a rate of 1 %: one time in 300


def test_the_feature_that_changed_is_told_and_no_other(
    reference: DriftReference, tokenizer: FlowTokenizer
) -> None:
    measures = compare(reference, tokenizer, traffic(2_000, 7, factor=8))
    assert {one.name for one in measures.values() if one.has_moved} == {"bytes", "unseen values"}  # <above>
    assert measures["bytes"].distance > 0.3
    assert measures["bytes"].distance == pytest.approx(
        sum(abs(a - b) for a, b in zip(measures["bytes"].reference, measures["bytes"].now, strict=True)) / 2
    )
    assert "novelty" not in measures  # nobody measured it


def test_an_absent_column_and_new_values_have_bins_of_their_own(
    reference: DriftReference, tokenizer: FlowTokenizer
) -> None:
    absent = compare(reference, tokenizer, traffic(2_000, 7).drop_columns(["proto"]))["proto"]
    assert absent.has_moved
    assert absent.shares("<absent>") == (0.0, 1.0)
    assert absent.distance == pytest.approx(1)
    table = traffic(2_000, 7)
    names = np.where(np.arange(2_000) % 10 == 0, "sctp", table["proto"].to_numpy(zero_copy_only=False))
    measures = compare(reference, tokenizer, table.set_column(1, "proto", pa.array(names)))
    assert measures["proto"].shares("<unseen>") == (0.0, pytest.approx(0.1))
    assert measures["proto"].change == ("<unseen>", 0.0, pytest.approx(0.1))
    # Protocols come in bursts, so that a tenth is little beside their distance; new values never came at all.
    assert measures["unseen values"].has_moved


def test_a_stretch_as_far_out_as_one_of_the_reference_is_no_drift(tokenizer: FlowTokenizer) -> None:
    nights = [traffic(500, seed, factor=0.2 if seed < 14 else 1.0) for seed in range(40)]
    blocks = counted(tokenizer, pa.concat_tables(nights), TrafficBlocks(tokenizer))
    reference = DriftReference.fit(blocks, tokenizer)
    assert reference is not None
    night = compare(reference, tokenizer, traffic(6_000, 100, factor=0.2))["bytes"]
    assert night.p <= FALSE_ALARM_RATE  # hardly any exchange draws so many blocks of the night
    assert not night.has_moved
    assert night.distance <= night.usual
    assert compare(reference, tokenizer, traffic(6_000, 100, factor=0.05))["bytes"].has_moved


def test_a_reference_survives_saving_and_is_refused_beside_another_tokenizer(
    reference: DriftReference, tokenizer: FlowTokenizer
) -> None:
    again = DriftReference.of(reference.arrays, tokenizer)
    table = traffic(2_000, 7, factor=8)
    assert compare(again, tokenizer, table) == compare(reference, tokenizer, table)
    other = FlowTokenizer.fit(SCHEMA, lambda: iter([traffic(60, 1)]))
    with pytest.raises(ArtifactError, match="another tokenizer"):
        DriftReference.of(reference.arrays, other)
    damaged = reference.arrays | {"bins": reference.bin_of_cell[::-1]}
    with pytest.raises(ArtifactError, match="another tokenizer"):
        DriftReference.of(damaged, tokenizer)


def test_too_few_flows_make_no_reference_and_no_comparison(
    reference: DriftReference, tokenizer: FlowTokenizer
) -> None:
    few = traffic(MIN_BLOCKS * FEWEST_FLOWS - 1, 0)
    assert DriftReference.fit(counted(tokenizer, few, TrafficBlocks(tokenizer)), tokenizer) is None
    blocks = counted(tokenizer, traffic(reference.fewest_flows - 1, 0), reference.new_blocks(tokenizer))
    with pytest.raises(DataError, match=rf"conn\.log: expected at least {reference.fewest_flows:,} flows"):
        reference.compare(blocks, tokenizer, name="conn.log")


def test_blocks_of_a_sample_span_the_flows_it_was_drawn_from(tokenizer: FlowTokenizer) -> None:
    blocks = counted(tokenizer, traffic(1_000, 0), TrafficBlocks(tokenizer))
    sampled = DriftReference.fit(blocks, tokenizer, stride=9.5)
    assert sampled is not None
    assert sampled.num_flows == 238  # 25 of every 9.5
