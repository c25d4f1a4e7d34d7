from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.evaluation.mistakes import MistakenFlows
from wirebert.inference.detector import Detector

pytestmark = pytest.mark.slow

Blocks = Callable[[int], MistakenFlows]


@pytest.fixture
def collect(trained: Path, traffic: Path) -> Blocks:
    """The surest mistakes on the test file, looked at in blocks of a number of rows."""
    detector = Detector.load(trained / "model")
    table = pa.concat_tables(open_flows(str(traffic / "test.csv"), schema=detector.schema).blocks())
    labels = pa.array(table.column("label").to_pylist(), pa.string())

    def collected(num_rows: int) -> MistakenFlows:
        mistaken = MistakenFlows(detector)
        for first in range(0, table.num_rows, num_rows):
            block = table.slice(first, num_rows)
            rows = np.arange(first, first + block.num_rows, dtype=np.int64)
            own = labels.slice(first, num_rows)
            mistaken.add(block, detector.score(block), rows, own, own)
        return mistaken

    return collected


def test_the_blocks_do_not_matter(collect: Blocks) -> None:
    whole = collect(1000).found()
    assert [mistake.row for mistake in collect(70).found()] == [mistake.row for mistake in whole]
    assert [mistake.flow for mistake in collect(70).found()] == [mistake.flow for mistake in whole]


def test_what_carried_a_verdict_are_features_by_falling_strength(collect: Blocks) -> None:
    for mistake in collect(1000).found():
        assert set(mistake.top_features) & {"label", "ts", "uid"} == set()
        strengths = list(mistake.top_features.values())
        assert strengths == sorted(strengths, reverse=True)
        assert min(strengths, default=1) > 0


def test_flows_without_a_label_are_no_mistakes(trained: Path, traffic: Path) -> None:
    detector = Detector.load(trained / "model")
    table = next(open_flows(str(traffic / "test.csv"), schema=detector.schema).blocks())
    mistaken = MistakenFlows(detector)
    nothing = pa.nulls(table.num_rows, pa.string())
    mistaken.add(table, detector.score(table), np.arange(table.num_rows, dtype=np.int64), nothing, nothing)
    assert mistaken.found() == ()
