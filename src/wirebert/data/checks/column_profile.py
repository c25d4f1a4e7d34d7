"""Counts and range of one column, in one pass and bounded memory; counts of shards are merged.

Distinct values are counted by the lowest hashes, each with its rows: those of two parts of a table give those
of the table, in any order and with any blocks.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa

from wirebert.data.hashing import NULL_HASH, mix, number_hashes, text_hashes
from wirebert.data.schema.schema import Column, ColumnKind
from wirebert.shapes import Float64, Int64, UInt64

DISTINCT_CAP = 10_000
"""Distinct values of a column are counted exactly up to this number."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnProfile:
    """Counts and range of one column."""

    column: Column
    num_rows: int
    num_missing: int
    num_distinct: int
    """Distinct values that are not missing; `DISTINCT_CAP` + 1 if there are more."""
    no_value_repeats: bool
    """No value repeats; of more than `DISTINCT_CAP` distinct values, none of the lowest hashes. That misses
    repeats of fewer than one in 3,300 distinct values once in twenty times, or more often."""
    minimum: float | None
    """Smallest number; None for other kinds and if all values are missing."""
    maximum: float | None
    """Largest number; None for other kinds and if all values are missing."""
    is_whole: bool
    """Every value is a whole number (False for other kinds of columns)."""
    example: str | None
    """The first value, as text."""
    num_negative: int = 0
    num_infinite: int = 0

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name

    @property
    def kind(self) -> ColumnKind:
        """Kind of the values."""
        return self.column.kind

    @property
    def is_feature(self) -> bool:
        """Whether the column is an input of the model."""
        return self.column.is_feature

    @property
    def is_constant(self) -> bool:
        """Whether all rows have the same value (or all are missing)."""
        return self.num_distinct + (self.num_missing > 0) <= 1

    @property
    def distinct_text(self) -> str:
        """Number of distinct values for people: `12`, or `>10,000`."""
        return f"{self.num_distinct:,}" if self.num_distinct <= DISTINCT_CAP else f">{DISTINCT_CAP:,}"


@dataclass(frozen=True, slots=True)
class ValueHashes:
    """Hashes of distinct values, and the index of each row's value (None: row i has hash i)."""

    values: UInt64[np.ndarray, " values"]
    index: Int64[np.ndarray, " rows"] | None

    def mixed_with(self, seed: np.uint64) -> UInt64[np.ndarray, " rows"]:
        """The hash of each row's value under a seed."""
        mixed = mix(self.values ^ seed)
        return mixed if self.index is None else mixed.take(self.index)


@final
class ColumnAccumulator:
    """Running counts of one column."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.num_rows = 0
        self.num_missing = 0
        # Sorted, at most DISTINCT_CAP + 1: the lowest hashes of all values, with the rows of each.
        self.distinct_hashes = np.empty(0, np.uint64)
        self.distinct_counts = np.empty(0, np.int64)
        self.minimum, self.maximum = np.inf, -np.inf
        self.is_whole = column.kind.is_numeric
        self.example: str | None = None
        self.num_negative = self.num_infinite = 0

    def add(self, chunk: pa.Array) -> ValueHashes:
        """Count the next rows."""
        if isinstance(chunk, pa.DictionaryArray):
            return self._add_dictionary(chunk)
        if pa.types.is_string(chunk.type):
            return self._add_dictionary(chunk.dictionary_encode())
        numbers: Float64[np.ndarray, " rows"] = chunk.to_numpy(zero_copy_only=False)
        hashes = number_hashes(numbers)
        present = ~np.isnan(numbers)
        self._note_numbers(numbers[present], np.ones(int(present.sum()), np.int64))
        if self.example is None and present.any():
            self.example = f"{numbers[int(np.argmax(present))]:g}"
        self._note_distinct(*np.unique(self._lowest(hashes[present]), return_counts=True))
        self._note_rows(len(numbers), len(numbers) - int(present.sum()))
        return ValueHashes(hashes, None)

    def merge(self, later: "ColumnAccumulator") -> None:
        """Add what was counted in later rows."""
        self._note_distinct(later.distinct_hashes, later.distinct_counts)
        self.minimum, self.maximum = min(self.minimum, later.minimum), max(self.maximum, later.maximum)
        self.is_whole = self.is_whole and later.is_whole
        self.example = later.example if self.example is None else self.example
        self.num_negative += later.num_negative
        self.num_infinite += later.num_infinite
        self._note_rows(later.num_rows, later.num_missing)

    def _add_dictionary(self, chunk: pa.DictionaryArray) -> ValueHashes:
        values = chunk.dictionary
        is_number = pa.types.is_floating(values.type)
        hashes = number_hashes(values.to_numpy(zero_copy_only=False)) if is_number else text_hashes(values)
        hashes = np.append(hashes, NULL_HASH)
        indices = chunk.indices.fill_null(len(values)) if chunk.indices.null_count else chunk.indices
        # Counting and gathering are faster with the machine's own integer width.
        index = indices.to_numpy().astype(np.int64)
        counts = np.bincount(index, minlength=len(hashes))
        occurs = (counts > 0) & (hashes != NULL_HASH)
        if is_number:
            self._note_numbers(values.to_numpy(zero_copy_only=False)[occurs[:-1]], counts[:-1][occurs[:-1]])
        if self.example is None and occurs.any():
            first = values[int(index[np.argmax(occurs[index])])].as_py()
            self.example = f"{first:g}" if is_number else str(first)
        self._note_distinct(hashes[occurs], counts[occurs])
        self._note_rows(len(index), int(counts[hashes == NULL_HASH].sum()))
        return ValueHashes(hashes, index)

    def _lowest(self, hashes: UInt64[np.ndarray, " values"]) -> UInt64[np.ndarray, " lowest"]:
        """The hashes that may be among the lowest."""
        is_full = len(self.distinct_hashes) > DISTINCT_CAP
        return hashes[hashes <= self.distinct_hashes[-1]] if is_full else hashes

    def _note_distinct(
        self, hashes: UInt64[np.ndarray, " values"], counts: Int64[np.ndarray, " values"]
    ) -> None:
        merged, index = np.unique(np.concatenate([self.distinct_hashes, hashes]), return_inverse=True)
        totals = np.zeros(len(merged), np.int64)
        np.add.at(totals, index, np.concatenate([self.distinct_counts, counts]))
        self.distinct_hashes = merged[: DISTINCT_CAP + 1]
        self.distinct_counts = totals[: DISTINCT_CAP + 1]

    def _note_numbers(
        self, numbers: Float64[np.ndarray, " values"], counts: Int64[np.ndarray, " values"]
    ) -> None:
        if not len(numbers):
            return
        self.num_negative += int(counts[numbers < 0].sum())
        self.num_infinite += int(counts[np.isinf(numbers)].sum())
        self.minimum = min(self.minimum, float(numbers.min()))
        self.maximum = max(self.maximum, float(numbers.max()))
        self.is_whole = self.is_whole and bool((np.floor(numbers) == numbers).all())

    def _note_rows(self, num_rows: int, num_missing: int) -> None:
        self.num_rows += num_rows
        self.num_missing += num_missing

    def result(self) -> ColumnProfile:
        """What was counted."""
        has_numbers = self.minimum <= self.maximum
        return ColumnProfile(
            column=self.column,
            num_rows=self.num_rows,
            num_missing=self.num_missing,
            num_distinct=len(self.distinct_hashes),
            no_value_repeats=bool((self.distinct_counts == 1).all()),
            minimum=self.minimum if has_numbers else None,
            maximum=self.maximum if has_numbers else None,
            is_whole=self.is_whole and has_numbers,
            example=self.example,
            num_negative=self.num_negative,
            num_infinite=self.num_infinite,
        )
