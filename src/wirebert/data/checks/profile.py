"""The profile of a traffic table, computed in one pass: counts per column, labels, and hashes of the rows.

Memory is bounded: 12 to 28 bytes per row (hashes and label), at most `DISTINCT_CAP` distinct values per
column, and a sample of rows.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32, Int64, Shaped, UInt64

from wirebert.data.arrow_columns import dictionary_encode
from wirebert.data.hashing import NULL_HASH, mix, number_hashes, text_hashes
from wirebert.data.labels import ClassMap
from wirebert.data.sampling import RowSampler, Sample
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema


class ArrayBuilder:
    """An array that grows by blocks. Joining many small arrays at the end would take twice the memory."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._buffer = np.empty(1 << 16, dtype)
        self._length = 0
        self.has_any = False

    def add(self, block: Shaped[np.ndarray, " rows"] | None) -> None:
        """Append a block; None appends nothing."""
        if block is None:
            return
        self.has_any = True
        end = self._length + len(block)
        if end > len(self._buffer):
            grown = np.empty(max(end, 2 * len(self._buffer)), self._buffer.dtype)
            grown[: self._length] = self.values
            self._buffer = grown
        self._buffer[self._length : end] = block
        self._length = end

    @property
    def values(self) -> Shaped[np.ndarray, " rows"]:
        """All appended values."""
        return self._buffer[: self._length]


DISTINCT_CAP = 10_000
"""Distinct values of a column are counted exactly up to this number."""

_ENDS = (ColumnKind.ADDRESS, ColumnKind.PORT)
_NOT_INNER = (*_ENDS, ColumnKind.TIME, ColumnKind.IDENTIFIER, ColumnKind.LABEL, ColumnKind.LABEL_DERIVED)


@runtime_checkable
class FlowSource(Protocol):
    """Typed tables that can be read more than once."""

    @property
    def name(self) -> str:
        """The name of the data in messages."""
        ...

    @property
    def schema(self) -> FlowSchema:
        """The meaning of the columns."""
        ...

    def blocks(self, invalid: InvalidValues | None = None, /) -> Iterator[pa.Table]:
        """Typed tables in file order; values of the wrong kind are counted in `invalid`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnProfile:
    """Counts and range of one column."""

    column: Column
    num_rows: int
    num_missing: int
    num_distinct: int
    """Distinct values that are not missing; `DISTINCT_CAP` + 1 if there are more."""
    no_value_repeats: bool
    """No value repeats, within a block or among the first `DISTINCT_CAP` distinct values."""
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TableProfile:
    """Columns, labels and row hashes of a traffic table."""

    name: str
    schema: FlowSchema
    columns: tuple[ColumnProfile, ...]
    """The columns that the table has, in schema order."""
    feature_hashes: UInt64[np.ndarray, " rows"]
    """Hash of all feature columns: equal rows have equal hashes, in this and in any other table."""
    labels: Int32[np.ndarray, " rows"]
    """Index into `label_names`; -1 without a label."""
    label_names: tuple[str, ...]
    """Labels in order of appearance."""
    inner_hashes: UInt64[np.ndarray, " rows"] | None = None
    """Hash of all columns, features or not, except addresses, ports, times, identifiers and labels.

    None for tables without addresses and ports.
    """
    shape_hashes: UInt64[np.ndarray, " rows"] | None = None
    """Hash of the feature columns with digits in texts replaced by 0; None without text columns."""
    invalid_values: InvalidValues = field(default_factory=InvalidValues)
    """Values of the wrong kind, rejected lines, and markers of missing values."""
    sample: Sample = field(default_factory=lambda: RowSampler().result())
    """Sampled rows of the whole table, for checks of values."""

    @property
    def num_rows(self) -> int:
        """Number of flows."""
        return len(self.labels)

    @property
    def label_counts(self) -> dict[str, int]:
        """Rows per label, in order of appearance; rows without a label are not counted."""
        counts = np.bincount(self.labels + 1, minlength=len(self.label_names) + 1)[1:]
        return dict(zip(self.label_names, counts.tolist(), strict=True))

    @property
    def num_unlabelled(self) -> int:
        """Rows without a label."""
        return int((self.labels < 0).sum())

    def class_ids(self, classes: ClassMap) -> Int64[np.ndarray, " rows"]:
        """Class of each row, as `ClassMap.dictionary_encode` gives it for the label column."""
        return classes.encode_names(self.label_names)[self.labels]


def profile_table(flows: FlowSource) -> TableProfile:
    """The profile of all blocks, read once. An empty source gives a profile of no rows."""
    accumulators: dict[str, _ColumnAccumulator] = {}
    label_codes: dict[str, int] = {}
    features, inner, shapes = (ArrayBuilder(np.dtype(np.uint64)) for _ in range(3))
    labels = ArrayBuilder(np.dtype(np.int32))
    invalid, sampler = InvalidValues(), RowSampler()
    for block in flows.blocks(invalid):
        hashes = _profile_block(block, flows.schema, accumulators)
        features.add(hashes.features)
        inner.add(hashes.inner)
        shapes.add(hashes.shapes)
        labels.add(_label_codes(block, flows.schema, label_codes))
        sampler.add(block)
    return TableProfile(
        name=flows.name,
        schema=flows.schema,
        columns=tuple(accumulators[c.name].result() for c in flows.schema.columns if c.name in accumulators),
        feature_hashes=features.values,
        inner_hashes=inner.values if inner.has_any else None,
        shape_hashes=shapes.values if shapes.has_any else None,
        labels=labels.values,
        label_names=tuple(label_codes),
        invalid_values=invalid,
        sample=sampler.result(),
    )


def feature_hashes(table: pa.Table, schema: FlowSchema) -> UInt64[np.ndarray, " rows"]:
    """A 64-bit hash per row over the feature columns' values.

    Numbers count by value (0.0 equals -0.0, NaN is missing), so spelling, block borders and dictionary layout
    do not matter. A feature column that is not in the table does not count.
    """
    return _profile_block(table, schema, {}).features


@dataclass(frozen=True, slots=True)
class _RowHashes:
    features: UInt64[np.ndarray, " rows"]
    inner: UInt64[np.ndarray, " rows"] | None
    shapes: UInt64[np.ndarray, " rows"] | None


def _profile_block(
    block: pa.Table, schema: FlowSchema, accumulators: "dict[str, _ColumnAccumulator]"
) -> _RowHashes:
    # A row's hash is the sum of one random-looking number per column and value: mixed once per distinct
    # value, then gathered.
    total = np.zeros(block.num_rows, np.uint64)
    inner, shapes = np.zeros_like(total), np.zeros_like(total)
    arrays = dict(zip(block.column_names, block.columns, strict=True))  # by name each takes linear time
    present = [column for column in schema.columns if column.name in arrays]
    has_ends = any(column.kind in _ENDS for column in present)
    has_text = any(column.is_feature and column.kind is ColumnKind.TEXT for column in present)
    for column in present:
        accumulator = accumulators.setdefault(column.name, _ColumnAccumulator(column))
        seed = text_hashes(pa.array([column.name], pa.string()))[0]
        is_inner = has_ends and column.kind not in _NOT_INNER
        start = 0
        for chunk in arrays[column.name].chunks:
            hashes = accumulator.add(chunk)
            rows = slice(start, start + len(chunk))
            start += len(chunk)
            if column.is_feature or is_inner:
                mixed = hashes.mixed_with(seed)
                total[rows] += mixed if column.is_feature else np.uint64(0)
                inner[rows] += mixed if is_inner else np.uint64(0)
                if column.is_feature and column.kind is ColumnKind.TEXT:
                    shapes[rows] += _shape_hashes(chunk).mixed_with(seed) - mixed
    return _RowHashes(total, inner if has_ends else None, total + shapes if has_text else None)


def _shape_hashes(chunk: pa.Array) -> "_ValueHashes":
    """Hashes of texts after replacing digits with 0."""
    encoded = dictionary_encode(chunk)
    texts = pc.replace_substring_regex(encoded.dictionary, r"\d", "0")
    hashes = np.append(text_hashes(texts), NULL_HASH)
    return _ValueHashes(hashes, encoded.indices.fill_null(len(texts)).to_numpy().astype(np.int64))


@dataclass(frozen=True, slots=True)
class _ValueHashes:
    """Hashes of distinct values, and the index of each row's value (None: row i has hash i)."""

    values: UInt64[np.ndarray, " values"]
    index: Int64[np.ndarray, " rows"] | None

    def mixed_with(self, seed: np.uint64) -> UInt64[np.ndarray, " rows"]:
        mixed = mix(self.values ^ seed)
        return mixed if self.index is None else mixed.take(self.index)


class _ColumnAccumulator:
    """Running counts of one column."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.num_rows = 0
        self.num_missing = 0
        # Sorted hashes of the distinct values so far, at most DISTINCT_CAP + 1.
        self.distinct_hashes = np.empty(0, np.uint64)
        self.no_value_repeats = True
        self.minimum, self.maximum = np.inf, -np.inf
        self.is_whole = column.kind.is_numeric
        self.example: str | None = None
        self.num_negative = self.num_infinite = 0

    def add(self, chunk: pa.Array) -> _ValueHashes:
        if isinstance(chunk, pa.DictionaryArray):
            return self._add_dictionary(chunk)
        if pa.types.is_string(chunk.type):
            return self._add_dictionary(chunk.dictionary_encode())
        numbers: Float64[np.ndarray, " rows"] = chunk.to_numpy(zero_copy_only=False)
        hashes = number_hashes(numbers)
        present = ~np.isnan(numbers)
        self._note_numbers(numbers[present], np.ones(int(present.sum()), np.int64))
        if self._counts_distinct():
            self._note_distinct(*np.unique(hashes[present], return_counts=True))
        self._note_rows(len(numbers), len(numbers) - int(present.sum()))
        return _ValueHashes(hashes, None)

    def _add_dictionary(self, chunk: pa.DictionaryArray) -> _ValueHashes:
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
        elif self.example is None and occurs.any():
            self.example = str(values[int(np.argmax(occurs))].as_py())
        if self._counts_distinct():
            self._note_distinct(hashes[occurs], counts[occurs])
        self._note_rows(len(index), int(counts[hashes == NULL_HASH].sum()))
        return _ValueHashes(hashes, index)

    def _counts_distinct(self) -> bool:
        return len(self.distinct_hashes) <= DISTINCT_CAP or self.no_value_repeats

    def _note_distinct(
        self, hashes: UInt64[np.ndarray, " values"], counts: Int64[np.ndarray, " values"]
    ) -> None:
        if self.no_value_repeats:
            self.no_value_repeats = (
                bool((counts == 1).all()) and not np.isin(hashes, self.distinct_hashes).any()
            )
        if len(self.distinct_hashes) <= DISTINCT_CAP:
            self.distinct_hashes = np.union1d(self.distinct_hashes, hashes)[: DISTINCT_CAP + 1]

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
        if self.example is None:
            self.example = f"{numbers[0]:g}"

    def _note_rows(self, num_rows: int, num_missing: int) -> None:
        self.num_rows += num_rows
        self.num_missing += num_missing

    def result(self) -> ColumnProfile:
        has_numbers = self.minimum <= self.maximum
        return ColumnProfile(
            column=self.column,
            num_rows=self.num_rows,
            num_missing=self.num_missing,
            num_distinct=len(self.distinct_hashes),
            no_value_repeats=self.no_value_repeats,
            minimum=self.minimum if has_numbers else None,
            maximum=self.maximum if has_numbers else None,
            is_whole=self.is_whole and has_numbers,
            example=self.example,
            num_negative=self.num_negative,
            num_infinite=self.num_infinite,
        )


def _label_codes(block: pa.Table, schema: FlowSchema, codes: dict[str, int]) -> Int32[np.ndarray, " rows"]:
    """Codes of the label column; new labels get the next code in `codes`."""
    if schema.label is None or schema.label not in block.column_names:
        return np.full(block.num_rows, -1, np.int32)
    parts = [np.empty(0, np.int32)]
    for chunk in block.column(schema.label).chunks:
        encoded = dictionary_encode(chunk)
        index = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        occurs = np.bincount(index, minlength=len(encoded.dictionary) + 1) > 0
        texts: list[str | None] = encoded.dictionary.to_pylist()
        new = [
            codes.setdefault(text, len(codes)) if has_rows and text is not None else -1
            for text, has_rows in zip(texts, occurs, strict=False)
        ]
        parts.append(np.array([*new, -1], np.int32)[index])
    return np.concatenate(parts)
