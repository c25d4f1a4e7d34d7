"""Equal rows, by ranges of hashes of any size, are those that a plain count finds."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.checks import equal_rows as module
from wirebert.data.checks.equal_rows import equal_rows, is_among

SPREAD = 0x1234_5678_9ABC_DEF1
"""Odd, so that few small numbers become hashes of all sizes."""
ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 2)), min_size=1, max_size=40)


def hashes_of(numbers: list[int]) -> np.ndarray:
    return np.array([number * SPREAD % 2**64 for number in numbers], np.uint64)


@given(rows=ROWS, part_rows=st.integers(1, 50), num_threads=st.integers(1, 3))
def test_equal_rows_are_counted_whatever_is_sorted_at_a_time(
    rows: list[tuple[int, int]], part_rows: int, num_threads: int
):
    classes = {-1: -1, 0: 0, 1: 1, 2: 0}  # two labels are one class
    repeats = [at for at, row in enumerate(rows) if row[0] in [one for one, _ in rows[:at]]]
    same = [at for at, row in enumerate(rows) if row in rows[:at]]
    of_hash = {one: {classes[label] for other, label in rows if other == one} - {-1} for one, _ in rows}
    conflicts = [at for at, (one, label) in enumerate(rows) if label >= 0 and len(of_hash[one]) > 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_ROWS", part_rows)
        patch.setattr(module, "_LOOK_ROWS", 1 + part_rows // 2)
        patch.setattr(module, "_num_threads", lambda: num_threads)
        found = equal_rows(
            hashes_of([one for one, _ in rows]),
            np.array([label for _, label in rows], np.int32),
            np.array([0, 1, 0, -1]),
        )
    assert (found.num_repeats, found.num_same_label) == (len(repeats), len(same))
    assert not repeats or found.first_repeat == repeats[0]
    assert found.num_conflicts == len(conflicts)
    assert not conflicts or found.first_conflict == conflicts[0]
    assert found.num_groups == found.num_mixed == sum(len(found) > 1 for found in of_hash.values())


@given(
    rows=st.lists(st.integers(0, 9), max_size=30),
    others=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=30),
    part_rows=st.integers(1, 40),
)
def test_rows_among_others_are_found(rows: list[int], others: list[tuple[int, bool]], part_rows: int):
    known, chosen = hashes_of([one for one, _ in others]), np.array([is_in for _, is_in in others], bool)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_ROWS", part_rows)
        patch.setattr(module, "_LOOK_ROWS", 1 + part_rows // 2)
        assert is_among(hashes_of(rows), known).tolist() == [row in dict(others) for row in rows]
        found = is_among(hashes_of(rows), known, chosen)
    assert found.tolist() == [(row, True) in others for row in rows]


@pytest.mark.parametrize("num_different", [3, 1_000_000])
def test_memory_is_that_of_the_rows_sorted_at_a_time(monkeypatch: pytest.MonkeyPatch, num_different: int):
    monkeypatch.setattr(module, "PART_ROWS", 1 << 16)
    monkeypatch.setattr(module, "_LOOK_ROWS", 1 << 14)
    numbers = np.random.default_rng(0).integers(0, num_different, 1_000_000).astype(np.uint64)
    hashes, labels = numbers * np.uint64(SPREAD), np.zeros(1_000_000, np.int32)
    tracemalloc.start()
    try:
        found = equal_rows(hashes, labels, np.array([0, -1]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.num_repeats == 1_000_000 - len(np.unique(numbers))
    assert peak < 160 * (1 << 16)
