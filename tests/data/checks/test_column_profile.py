# The pyarrow stubs lack type arguments at run time.
# pyright: reportMissingTypeArgument=false

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.checks.column_profile import DISTINCT_CAP, ColumnAccumulator, ColumnProfile
from wirebert.data.schema.schema import Column, ColumnKind

BYTES = Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True)


def profile(*blocks: np.ndarray, is_merged: bool = False) -> ColumnProfile:
    whole = ColumnAccumulator(BYTES)
    for block in blocks:
        part = ColumnAccumulator(BYTES) if is_merged else whole
        part.add(pa.array(block, pa.float64()))
        if is_merged:
            whole.merge(part)
    return whole.result()


@pytest.mark.parametrize("is_merged", [False, True])
def test_distinct_values_are_counted_up_to_a_cap(is_merged: bool):
    numbers = np.arange(DISTINCT_CAP + 500, dtype=np.float64)
    found = profile(numbers, numbers + 7, is_merged=is_merged)
    assert found.distinct_text == ">10,000"
    assert not found.no_value_repeats
    assert profile(numbers[:300], numbers[200:400], is_merged=is_merged).distinct_text == "400"


@pytest.mark.parametrize("is_merged", [False, True])
def test_values_that_never_repeat_are_noticed_beyond_the_cap(is_merged: bool):
    numbers = np.random.default_rng(0).permutation(3 * DISTINCT_CAP).astype(np.float64)
    assert profile(*np.split(numbers, 3), is_merged=is_merged).no_value_repeats
    assert not profile(*np.split(numbers, 3), numbers[:100], is_merged=is_merged).no_value_repeats


def test_repeats_of_one_in_3300_values_are_missed_once_in_twenty_times():
    """Of N distinct values, a fraction f repeats: none is among the 10,001 lowest with (1 - f) ** 10,001."""
    generator, num_missed = np.random.default_rng(0), 0
    for _ in range(100):
        numbers = np.unique(generator.integers(0, 1 << 50, 40_000)).astype(np.float64)
        num_missed += profile(numbers, numbers[: len(numbers) // 3_300]).no_value_repeats
    assert 0 <= num_missed <= 14  # five are expected; more than 14 once in 4,000 times


def test_the_example_is_the_first_value_whatever_the_dictionary():
    accumulator = ColumnAccumulator(Column(name="service", kind=ColumnKind.CATEGORY, is_feature=True))
    indices, values = pa.array([None, 2, 0], pa.int32()), pa.array(["dns", "ftp", "http"])
    accumulator.add(pa.DictionaryArray.from_arrays(indices, values))
    assert accumulator.result().example == "http"
