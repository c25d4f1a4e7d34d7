from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.config import resolve_run
from wirebert.data.checks.sampling import (FEW_ROWS, sample_by_name)
from wirebert.ground import joined_texts, read_ground
from wirebert.preparing import prepare
from wirebert.run_folder import RunFolder


def test_a_sample_keeps_rare_names_whole_and_the_proportions_of_the_others() -> None:
    names = np.repeat(np.arange(3), [60_000, 30_000, 100])
    chosen = sample_by_name(names, 9000, seed=1)
    counts = np.bincount(names[chosen])
    assert counts[2] == 100 <= FEW_ROWS
    assert counts[0] == pytest.approx(2 * counts[1], abs=2)
    assert chosen.sum() == pytest.approx(9000, rel=0.02)


@pytest.mark.slow
def test_no_test_row_is_among_the_rows_to_choose_from(traffic: Path, tmp_path: Path) -> None:
    run = resolve_run(given={"train": str(traffic / "train.csv"), "data": {"test_fraction": 0.3}})
    run = replace(run, protocol=replace(run.protocol, num_folds=2, max_search_rows=400))
    data = prepare(run, RunFolder(tmp_path))
    ground = read_ground(run, data)
    assert data.test is not None
    assert data.test.rows is not None
    assert not data.test.rows[ground.row_numbers].any()
    assert len(ground.row_numbers) == (~data.test.rows).sum()
    assert ground.measured.num_rows == len(ground.class_ids) == len(ground.texts or [])
    for fold in range(2):
        is_train, is_stop, is_held_out = ground.sides(fold, 0.1, 1)
        assert not (is_train & is_stop).any()
        assert not set(ground.hashes[is_held_out].tolist()) & set(ground.hashes[is_train | is_stop].tolist())
        part = ground.part("held_out", data.train, is_held_out)
        assert part.rows is not None
        assert (np.flatnonzero(part.rows) == ground.row_numbers[is_held_out]).all()
    task, coding = ground.task(~ground.is_valid, ground.is_valid)
    assert len(task.train) == (~ground.is_valid).sum()
    assert np.array_equal(ground.rows(coding, ground.is_valid).numbers, task.stop.numbers, equal_nan=True)
    table = pa.table({"uri": ["/a", None], "user_agent": ["b", "c"]})
    assert joined_texts(table, data.flows.schema) == ["/a b", " c"]
