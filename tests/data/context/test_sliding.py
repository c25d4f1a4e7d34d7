"""Running totals against a loop."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.context.sliding import RingBuffer, rolling_sums


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9), st.integers(-9, 9)), max_size=40), st.randoms()
)
def test_running_totals_are_those_of_a_loop(events: list[tuple[int, int, int]], random: Random):
    moments = random.sample(range(100), len(events))
    slow = np.arange(12).reshape(2, 6)
    expected = np.zeros((2, len(events)), np.int64)
    for place in np.argsort(moments):
        key, *amounts = events[place]
        expected[:, place] = slow[:, key]
        slow[:, key] += amounts
    totals = np.arange(12).reshape(2, 6)
    columns = np.array(events, np.int64).reshape(-1, 3).T
    found = rolling_sums(totals, columns[0], np.array(moments, np.int64), columns[1:])
    assert found.tolist() == expected.tolist()
    assert totals.tolist() == slow.tolist()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=30), st.integers(0, 1_000))
def test_rows_are_those_of_a_list(steps: list[tuple[int, int]], first: int):
    rows, known = RingBuffer({"x": np.int32}, first), list(range(first))
    for num_new, num_dropped in steps:
        new = np.arange(len(known), len(known) + num_new)
        rows.add({"x": new})
        known += new.tolist()
        rows.drop(min(rows.first + num_dropped, rows.stop))
        assert rows.stop == len(known)
        assert rows.of("x", rows.first).tolist() == known[rows.first :]


def test_memory_follows_the_rows_that_are_kept():
    rows = RingBuffer({"x": np.int64})
    for _ in range(200):
        rows.add({"x": np.zeros(100, np.int64)})
        rows.drop(rows.stop - 50)
    assert rows.size_bytes < 8 * 300


def test_what_is_written_into_a_column_stays():
    rows = RingBuffer({"x": np.int64})
    rows.add({"x": np.array([1, 2])})
    rows.of("x", 1)[:] = 7
    assert rows.of("x", 0).tolist() == [1, 7]
