import numpy as np

from wirebert.evaluation.folds import AT_RANDOM, ATTACKS_WHOLE, leave_attacks_out

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
