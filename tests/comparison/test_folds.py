from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.comparison.folds import (
    AT_RANDOM,
    ATTACKS_WHOLE,
    joined_texts,
    leave_attacks_out,
    read_search_pool,
)
from wirebert.config import resolve_run
from wirebert.data.sampling import FEW_ROWS, sample_by_name
from wirebert.run_folder import RunFolder
from wirebert.workflows.prepare import prepare, write_typed_rows

RNG = np.random.default_rng(0)
NAMES = RNG.integers(0, 8, 600)
CLASS_OF = np.array([0, 1, 1, 1, 2, 2, 2, 3])
CLASSES = CLASS_OF[NAMES]
HASHES = RNG.integers(0, 400, 600).astype(np.uint64)


def test_an_attack_name_is_held_out_whole_and_its_class_keeps_another() -> None:
    folds = leave_attacks_out(NAMES, CLASSES, HASHES, 0, num_folds=3, seed=1)
    assert folds.statement == ATTACKS_WHOLE
    for fold in range(3):
        is_train, is_held_out = folds.train_and_held_out(fold)
        held = set(NAMES[is_held_out].tolist()) - {0, 7}  # benign, and the only name of its class
        assert held
        assert not held & set(NAMES[is_train].tolist())
        assert set(CLASSES[is_train].tolist()) == {0, 1, 2, 3}


def test_benign_rows_are_spread_over_all_folds() -> None:
    folds = leave_attacks_out(NAMES, CLASSES, HASHES, 0, num_folds=3, seed=1)
    assert set(folds.held_out[NAMES == 0].tolist()) == {0, 1, 2}


def test_equal_rows_never_stand_on_both_sides() -> None:
    folds = leave_attacks_out(NAMES, CLASSES, HASHES, 0, num_folds=3, seed=1)
    for fold in range(3):
        is_train, is_held_out = folds.train_and_held_out(fold)
        assert not set(HASHES[is_train].tolist()) & set(HASHES[is_held_out].tolist())


def test_where_each_class_has_one_name_folds_are_random_and_say_so() -> None:
    folds = leave_attacks_out(CLASSES, CLASSES, HASHES, 0, num_folds=3, seed=1)
    assert folds.statement == AT_RANDOM
    for class_id in range(4):
        assert set(folds.held_out[class_id == CLASSES].tolist()) == {0, 1, 2}


def test_every_row_is_held_out_once() -> None:
    folds = leave_attacks_out(NAMES, CLASSES, HASHES, None, num_folds=3, seed=1)
    held = sum(folds.train_and_held_out(fold)[1].astype(np.int64) for fold in range(3))
    assert np.array_equal(held, np.ones(600))


def test_names_of_benign_rows_are_not_held_out_whole() -> None:
    """Benign traffic of several names, such as of two captures, is drawn row by row."""
    names = np.where(NAMES == 7, 0, NAMES) * 2 + RNG.integers(0, 2, 600) * (NAMES == 0)
    classes = np.where(NAMES == 7, 0, CLASSES)
    folds = leave_attacks_out(names, classes, np.arange(600, dtype=np.uint64), 0, num_folds=3, seed=1)
    for name in (0, 1):
        assert set(folds.held_out[names == name].tolist()) == {0, 1, 2}


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
    run = replace(run, comparison=replace(run.comparison, num_folds=2, max_search_rows=400))
    data = prepare(run, write_typed_rows(run, RunFolder(tmp_path)))
    ground = read_search_pool(run, data)
    assert data.test is not None
    assert data.test.rows is not None
    assert not data.test.rows[ground.row_numbers].any()
    assert len(ground.row_numbers) == (~data.test.rows).sum()
    assert ground.features.num_rows == len(ground.class_ids) == len(ground.texts or [])
    for fold in range(2):
        is_train, is_stop, is_held_out = ground.fold_split(fold, 0.1, 1)
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
