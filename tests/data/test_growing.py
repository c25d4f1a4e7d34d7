import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.growing import Growing


@given(st.lists(st.integers(0, 50_000), max_size=12))
def test_blocks_of_any_length_stand_one_after_the_other(lengths: list[int]):
    growing = Growing(np.dtype(np.int32))
    for number, length in enumerate(lengths):
        growing.add(np.full(length, number, np.int32))
    expected = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    assert np.array_equal(growing.values, expected)
    assert growing.values.dtype == np.int32


def test_nothing_added_differs_from_no_rows():
    growing = Growing(np.dtype(np.uint64))
    growing.add(None)
    assert not growing.has_any
    growing.add(np.empty(0, np.uint64))
    assert growing.has_any
