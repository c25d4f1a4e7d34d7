"""Running totals against a loop."""

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.sliding import running_totals


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
    found = running_totals(totals, columns[0], np.array(moments, np.int64), columns[1:])
    assert found.tolist() == expected.tolist()
    assert totals.tolist() == slow.tolist()
