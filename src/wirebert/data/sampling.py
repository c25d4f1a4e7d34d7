"""Samples of rows: evenly over a table that is read block by block, in bounded memory, and at random by
label."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.shapes import Bool, Int64

SAMPLE_ROWS = 20_000
MAX_TEXT = 200
"""Characters kept of a text."""
FEW_ROWS = 200
"""Labels with at most this many rows are kept completely by `sample_by_name`."""


class Sample(NamedTuple):
    """Some rows of a table and their row numbers."""

    table: pa.Table
    rows: Int64[np.ndarray, " sampled"]


class RowSampler:
    """Keeps every k-th row; k is the smallest power of two that keeps at most 2 x `num_rows` rows.

    >>> sampler = RowSampler(num_rows=2)
    >>> sampler.add(pa.table({"n": pa.array(range(100))}))
    >>> sampler.result().rows
    array([ 0, 32, 64, 96])
    """

    def __init__(
        self,
        num_rows: int = SAMPLE_ROWS,
        prepare: Callable[[pa.Table], pa.Table] | None = None,
        *,
        first_row: int = 0,
        least: int = 0,
    ) -> None:
        """A sampler whose first row is `first_row` of a table that has at least `least` rows.

        `prepare` is applied to the kept rows of each block; None: dictionaries are decoded and long texts
        cut.
        """
        self.num_rows = num_rows
        self._prepare = prepare or _plain
        self._stride = 1
        while -(-least // self._stride) > 2 * num_rows:
            self._stride *= 2
        self._num_rows = first_row
        self._tables: list[pa.Table] = []
        self._rows: list[Int64[np.ndarray, " sampled"]] = []

    def add(self, block: pa.Table) -> None:
        """Take from the next rows."""
        # Rows whose number in the whole table is a multiple of the stride.
        first = -self._num_rows % self._stride
        chosen = np.arange(first, block.num_rows, self._stride, dtype=np.int64)
        self._tables.append(self._prepare(block.take(pa.array(chosen, pa.int64()))))
        self._rows.append(chosen + self._num_rows)
        self._num_rows += block.num_rows
        self._limit()

    def merge(self, later: "RowSampler") -> None:
        """Take from the next rows, of which another sampler has taken."""
        stride = max(self._stride, later._stride)
        for sampler in (self, later):
            if sampler._stride < stride:
                sampler._widen(stride)
        self._tables += later._tables
        self._rows += later._rows
        self._num_rows = later._num_rows
        self._limit()

    def _limit(self) -> None:
        while sum(map(len, self._rows)) > 2 * self.num_rows:
            self._widen(2 * self._stride)

    def _widen(self, stride: int) -> None:
        whole = self.result()
        chosen = np.flatnonzero(whole.rows % stride == 0)
        self._tables = [whole.table.take(pa.array(chosen, pa.int64()))] if self._tables else []
        self._rows = [whole.rows[chosen]]
        self._stride = stride

    def result(self) -> Sample:
        """The rows kept so far."""
        rows = np.concatenate([np.empty(0, np.int64), *self._rows])
        table = pa.concat_tables(self._tables, promote_options="default") if self._tables else pa.table({})
        return Sample(table.combine_chunks(), rows)


def sample_by_name(name_ids: Int64[np.ndarray, " rows"], most: int, seed: int) -> Bool[np.ndarray, " rows"]:
    """True for about `most` random rows, in proportion to the rows of each name; all rows of rare names are
    kept.

    >>> sample_by_name(np.repeat([0, 1], [100_000, 50]), 1000, 1)[-50:].all()
    np.True_
    """
    order = np.random.default_rng(seed).permutation(len(name_ids))
    shuffled = name_ids[order]
    by_name = np.argsort(shuffled, kind="stable")
    _, starts, sizes = np.unique(shuffled[by_name], return_index=True, return_counts=True)
    rank = np.arange(len(name_ids)) - np.repeat(starts, sizes)  # within its name
    allowed = np.maximum(FEW_ROWS, np.ceil(sizes * min(1.0, most / max(1, len(name_ids)))))
    chosen = np.zeros(len(name_ids), bool)
    chosen[order[by_name[rank < np.repeat(allowed, sizes)]]] = True
    return chosen


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, so that blocks can be joined, and with long texts cut."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_string(column.type):
            column = pc.utf8_slice_codeunits(column, 0, MAX_TEXT)
        columns[name] = column
    return pa.table(columns)
