"""Samples of rows: evenly over a table that is read block by block, in bounded memory, and at random by label."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

SAMPLE_ROWS = 20_000
MAX_TEXT = 200
"""Characters of a text that are kept."""


FEW_ROWS = 200
"""Labels with no more rows are kept whole by `sample_by_name`."""


class Sample(NamedTuple):
    """Some rows of a table and where they stand in it."""

    table: pa.Table
    rows: Int64[np.ndarray, " sampled"]


class RowSampler:
    """Keeps every k-th row of what it is shown; k is the smallest power of two that leaves at most 2 x `num_rows`.

    >>> sampler = RowSampler(num_rows=2)
    >>> sampler.add(pa.table({"n": pa.array(range(100))}))
    >>> sampler.result().rows
    array([ 0, 32, 64, 96])
    """

    def __init__(self, num_rows: int = SAMPLE_ROWS) -> None:
        self.num_rows = num_rows
        self._stride = 1
        self._num_seen = 0
        self._tables: list[pa.Table] = []
        self._rows: list[Int64[np.ndarray, " sampled"]] = []

    def add(self, block: pa.Table) -> None:
        """Take from the next rows."""
        first = (
            -self._num_seen % self._stride
        )  # rows whose number in the whole table is a multiple of the stride
        chosen = np.arange(first, block.num_rows, self._stride, dtype=np.int64)
        self._tables.append(_plain(block.take(pa.array(chosen, pa.int64()))))
        self._rows.append(chosen + self._num_seen)
        self._num_seen += block.num_rows
        while sum(map(len, self._rows)) > 2 * self.num_rows:
            whole = self.result()
            self._tables = [whole.table.take(pa.array(np.arange(0, len(whole.rows), 2), pa.int64()))]
            self._rows = [whole.rows[::2]]
            self._stride *= 2

    def result(self) -> Sample:
        """What was taken so far."""
        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        table = pa.concat_tables(self._tables, promote_options="default") if self._tables else pa.table({})
        return Sample(table.combine_chunks(), rows)


def sample_by_name(name_ids: Int64[np.ndarray, " rows"], most: int, seed: int) -> Bool[np.ndarray, " rows"]:
    """True for about `most` random rows, in proportion to each name's, but for rare names, which are kept whole.

    >>> sample_by_name(np.repeat([0, 1], [100_000, 50]), 1000, 1)[-50:].all()
    np.True_
    """
    order = np.random.default_rng(seed).permutation(len(name_ids))
    shuffled = name_ids[order]
    by_name = np.argsort(shuffled, kind="stable")
    _, starts, sizes = np.unique(shuffled[by_name], return_index=True, return_counts=True)
    place = np.arange(len(name_ids)) - np.repeat(starts, sizes)  # within its name
    allowed = np.maximum(FEW_ROWS, np.ceil(sizes * min(1.0, most / max(1, len(name_ids)))))
    chosen = np.zeros(len(name_ids), bool)
    chosen[order[by_name[place < np.repeat(allowed, sizes)]]] = True
    return chosen


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, so that blocks can be joined, and without the far end of long texts."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns[name] = (
            pc.utf8_slice_codeunits(column, 0, MAX_TEXT) if pa.types.is_string(column.type) else column
        )
    return pa.table(columns)
