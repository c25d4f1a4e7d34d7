import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.splits import duplicate_safe_split
from wirebert.errors import ConfigError, DataError

# Groups of rows: (class of the group, rows in it).
GROUPS = st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 6)), min_size=2, max_size=60)


def rows_of(groups: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.repeat(np.arange(len(groups), dtype=np.uint64) * np.uint64(977), [size for _, size in groups])
    class_ids = np.repeat(
        np.array([class_id for class_id, _ in groups], np.int64), [size for _, size in groups]
    )
    return hashes, class_ids


def has_a_class_of_two_groups(groups: list[tuple[int, int]]) -> bool:
    return len({class_id for class_id, _ in groups}) < len(groups)


@given(
    groups=GROUPS.filter(has_a_class_of_two_groups), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_groups_stay_together_and_classes_of_two_groups_are_on_both_sides(
    groups: list[tuple[int, int]], fraction: float, seed: int
):
    hashes, class_ids = rows_of(groups)
    is_valid = duplicate_safe_split(hashes, class_ids, fraction, seed)
    assert not set(hashes[is_valid]) & set(hashes[~is_valid])
    for class_id in set(class_ids.tolist()):
        of_class = class_ids == class_id
        num_groups = len(set(hashes[of_class]))
        assert is_valid[of_class].any() == (num_groups > 1)
        assert not is_valid[of_class].all()


@given(
    groups=GROUPS.filter(has_a_class_of_two_groups), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_the_share_of_each_class_is_as_near_as_its_largest_group_allows(
    groups: list[tuple[int, int]], fraction: float, seed: int
):
    hashes, class_ids = rows_of(groups)
    is_valid = duplicate_safe_split(hashes, class_ids, fraction, seed)
    for class_id in set(class_ids.tolist()):
        sizes = [size for group_class, size in groups if group_class == class_id]
        if len(sizes) > 1:
            target = fraction * sum(sizes)
            assert abs(is_valid[class_ids == class_id].sum() - target) <= max(sizes)


def test_a_large_class_of_single_rows_is_split_to_the_row():
    hashes, class_ids = np.arange(10_000, dtype=np.uint64), np.repeat(np.arange(2), [9_000, 1_000])
    is_valid = duplicate_safe_split(hashes, class_ids, 0.1, 0)
    assert np.bincount(class_ids[is_valid]).tolist() == [900, 100]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    hashes, class_ids = np.arange(200, dtype=np.uint64), np.zeros(200, np.int64)
    first, again, other = (duplicate_safe_split(hashes, class_ids, 0.2, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_a_mixed_group_counts_to_the_class_of_most_of_its_rows():
    # Group 1 is of class 0 (two rows of three), so class 1 has one group only and trains whole.
    hashes = np.array([1, 1, 1, 2, 3], np.uint64)
    class_ids = np.array([0, 0, 1, 0, 1])
    for seed in range(5):
        assert not duplicate_safe_split(hashes, class_ids, 0.5, seed)[4]


def test_a_tie_goes_to_the_rarer_class():
    # Rows 0 and 1 are equal: their group is of class 1, which thereby has two groups and is on both sides.
    hashes = np.array([1, 1, 2, 3, 4, 5], np.uint64)
    class_ids = np.array([0, 1, 1, 0, 0, 0])
    for seed in range(5):
        is_valid = duplicate_safe_split(hashes, class_ids, 0.3, seed)
        assert is_valid[1] != is_valid[2]


def test_a_group_larger_than_the_share_trains_and_the_share_is_one_of_the_others():
    hashes, class_ids = rows_of([(0, 50), *[(0, 1)] * 50])
    for seed in range(5):
        is_valid = duplicate_safe_split(hashes, class_ids, 0.1, seed)
        assert is_valid.sum() == 5
        assert not is_valid[0]


def test_nothing_to_split_is_refused():
    for num_rows in (0, 1, 5):
        with pytest.raises(DataError, match="two different rows"):
            duplicate_safe_split(np.zeros(num_rows, np.uint64), np.zeros(num_rows, np.int64), 0.1, 0)


def test_a_fraction_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"valid_fraction must be in \(0, 1\), got 1"):
        duplicate_safe_split(np.zeros(2, np.uint64), np.zeros(2, np.int64), 1.0, 0)


def test_where_every_group_is_larger_than_the_share_one_of_them_is_drawn():
    hashes = np.repeat(np.arange(3, dtype=np.uint64), 100)
    is_valid = duplicate_safe_split(hashes, np.zeros(300, np.int64), valid_fraction=0.1, seed=1)
    assert is_valid.sum() == 100
