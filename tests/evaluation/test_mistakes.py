from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.evaluation.mistakes import MistakenFlows
from wirebert.inference.detector import Detector

pytestmark = pytest.mark.slow

Blocks = Callable[..., MistakenFlows]


@pytest.fixture(scope="module")
def detector(trained: Path) -> Detector:
    return Detector.load(trained / "model")


@pytest.fixture
def collect(detector: Detector, traffic: Path) -> Blocks:
    """The surest mistakes on the test file, looked at in blocks of a number of rows, or merged of them."""
    table = pa.concat_tables(open_flows(str(traffic / "test.csv"), schema=detector.schema).blocks())
    labels = pa.array(table.column("label").to_pylist(), pa.string())

    def collected(num_rows: int, *, is_merged: bool = False) -> MistakenFlows:
        mistaken = MistakenFlows()
        for first in range(0, table.num_rows, num_rows):
            block = table.slice(first, num_rows)
            rows = np.arange(first, first + block.num_rows, dtype=np.int64)
            own, part = labels.slice(first, num_rows), MistakenFlows() if is_merged else mistaken
            part.add(block, detector.score(block), rows, own, own)
            if is_merged:
                mistaken.merge(MistakenFlows.from_bytes(part.to_bytes()))
        return mistaken

    return collected


def test_the_blocks_do_not_matter(collect: Blocks, detector: Detector) -> None:
    whole = collect(1000).found(detector)
    for some in (collect(70), collect(70, is_merged=True)):
        found = some.found(detector)
        assert [mistake.row for mistake in found] == [mistake.row for mistake in whole]
        assert [mistake.flow for mistake in found] == [mistake.flow for mistake in whole]


def test_what_carried_a_verdict_are_features_by_falling_strength(collect: Blocks, detector: Detector) -> None:
    for mistake in collect(1000).found(detector):
        assert set(mistake.top_features) & {"label", "ts", "uid"} == set()
        strengths = list(mistake.top_features.values())
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths, default=1) > 0


def test_flows_without_a_label_are_no_mistakes(detector: Detector, traffic: Path) -> None:
    table = next(open_flows(str(traffic / "test.csv"), schema=detector.schema).blocks())
    mistaken = MistakenFlows()
    nothing = pa.nulls(table.num_rows, pa.string())
    mistaken.add(table, detector.score(table), np.arange(table.num_rows, dtype=np.int64), nothing, nothing)
    assert mistaken.found(detector) == ()
