from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.sampling import MAX_TEXT, RowSampler


@given(sizes=st.lists(st.integers(0, 50), max_size=6), num_rows=st.integers(1, 20))
def test_rows_are_taken_evenly_whatever_the_blocks(sizes: list[int], num_rows: int):
    sampler, whole, first = RowSampler(num_rows), RowSampler(num_rows), 0
    for size in sizes:
        sampler.add(pa.table({"n": pa.array(range(first, first + size), pa.int64())}))
        first += size
    whole.add(pa.table({"n": pa.array(range(first), pa.int64())}))
    rows = sampler.result().rows.tolist()
    assert rows == whole.result().rows.tolist()
    assert sampler.result().table["n"].to_pylist() == rows if sizes else rows == []
    assert len(rows) <= 2 * num_rows
    assert len({after - before for before, after in pairwise(rows)}) <= 1


@given(sizes=st.lists(st.integers(0, 50), max_size=6), num_rows=st.integers(1, 20))
def test_samples_of_parts_are_merged_to_that_of_all_rows(sizes: list[int], num_rows: int):
    whole, merged, first = RowSampler(num_rows), RowSampler(num_rows), 0
    for size in sizes:
        rows = pa.table({"n": pa.array(range(first, first + size), pa.int64())})
        part = RowSampler(num_rows, first_row=first, least=first)
        part.add(rows)
        merged.merge(part)
        whole.add(rows)
        first += size
    assert merged.result().rows.tolist() == whole.result().rows.tolist()
    assert merged.result().table.num_rows == len(merged.result().rows)


def test_dictionaries_become_plain_and_long_texts_are_cut():
    sampler = RowSampler()
    sampler.add(pa.table({"t": pa.array(["x" * 1000, None]).dictionary_encode()}))
    sampler.add(pa.table({"t": pa.array(["y"])}))
    assert sampler.result().table["t"].to_pylist() == ["x" * MAX_TEXT, None, "y"]


def test_nothing_seen_is_an_empty_table():
    assert RowSampler().result().table.num_rows == 0
