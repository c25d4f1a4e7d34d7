"""The profile of a traffic table, computed in one pass: counts per column, labels, and hashes of the rows.

A `ProfileBuilder` takes blocks, or the builders of shards, in the order of their rows, with the same result.
Memory is bounded: 12 to 28 bytes per row (hashes and label), which beyond `KEPT_ROWS` lie in a file, at most
`DISTINCT_CAP` distinct values per column, and a sample of rows.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import IO, Any, Final, Protocol, final, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.checks.column_profile import ColumnAccumulator, ColumnProfile, ValueHashes
from wirebert.data.hashing import NULL_HASH, text_hashes
from wirebert.data.labels import ClassMap
from wirebert.data.sampling import RowSampler, Sample
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.errors import DataError
from wirebert.files import mapped, unnamed_file
from wirebert.shapes import Int32, Int64, Shaped, UInt64

KEPT_ROWS: Final = 1 << 24
"""Rows whose hashes are kept in memory; those of more rows lie in a file without a name, below TMPDIR."""


class ArrayBuilder:
    """An array that grows by blocks: in memory, and beyond `KEPT_ROWS` in a file that is mapped.

    Joining many small arrays at the end would take twice the memory.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._buffer = np.empty(1 << 16, dtype)
        self._length = 0
        self._file: IO[bytes] | None = None
        self.has_any = False

    def add(self, block: Shaped[np.ndarray, " rows"] | None) -> None:
        """Append a block; None appends nothing.

        Raises:
            DataError: the disk of temporary files is full.
        """
        if block is None:
            return
        self.has_any = True
        end = self._length + len(block)
        if self._file is None and end > KEPT_ROWS:
            self._file = unnamed_file("wirebert-hashes-")
            self._write(self._buffer[: self._length])
            self._buffer = self._buffer[:0].copy()
        if self._file is not None:
            self._write(block)
        else:
            if end > len(self._buffer):
                grown = np.empty(max(end, 2 * len(self._buffer)), self._buffer.dtype)
                grown[: self._length] = self._buffer[: self._length]
                self._buffer = grown
            self._buffer[self._length : end] = block
        self._length = end

    def _write(self, block: Shaped[np.ndarray, " rows"]) -> None:
        assert self._file is not None
        try:
            self._file.write(np.ascontiguousarray(block, self._buffer.dtype).data)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"the folder of temporary files cannot take hashes of rows, up to 28 bytes each "
                f"({error.strerror}); make room, or set TMPDIR to a folder on a larger disk"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process without the room to grow."""
        return _built, (self.values, self.has_any)

    @property
    def values(self) -> Shaped[np.ndarray, " rows"]:
        """All appended values."""
        if self._file is None:
            return self._buffer[: self._length]
        return np.frombuffer(mapped(self._file), self._buffer.dtype)


def _built(values: Shaped[np.ndarray, " rows"], has_any: bool) -> ArrayBuilder:
    builder = ArrayBuilder(values.dtype)
    builder.add(values if has_any else None)
    return builder


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


@dataclass(frozen=True, kw_only=True)
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

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """Rows per label, in order of appearance; rows without a label are not counted."""
        counts = np.zeros(len(self.label_names), np.int64)
        for start in range(0, self.num_rows, KEPT_ROWS):
            codes = self.labels[start : start + KEPT_ROWS]
            counts += np.bincount(codes + 1, minlength=len(counts) + 1)[1:]
        return dict(zip(self.label_names, counts.tolist(), strict=True))

    @property
    def num_unlabelled(self) -> int:
        """Rows without a label."""
        return self.num_rows - sum(self.label_counts.values())

    def class_ids(self, classes: ClassMap) -> Int64[np.ndarray, " rows"]:
        """Class of each row, as `ClassMap.dictionary_encode` gives it for the label column."""
        return classes.encode_names(self.label_names)[self.labels]


@final
class ProfileBuilder:
    """Makes a profile of blocks in the order of their rows, whatever their borders."""

    def __init__(self, schema: FlowSchema, *, first_row: int = 0, num_rows: int = 0) -> None:
        """`first_row` is the row of the first block in the table, which has at least `num_rows` rows."""
        self.schema = schema
        self.label_codes: dict[str, int] = {}
        self._columns: dict[str, ColumnAccumulator] = {}
        self._features, self._inner, self._shapes = (ArrayBuilder(np.dtype(np.uint64)) for _ in range(3))
        self._labels = ArrayBuilder(np.dtype(np.int32))
        self._sampler = RowSampler(first_row=first_row, least=num_rows)

    def add(self, block: pa.Table) -> None:
        """Take the next rows."""
        hashes = _profile_block(block, self.schema, self._columns)
        self._features.add(hashes.features)
        self._inner.add(hashes.inner)
        self._shapes.add(hashes.shapes)
        self._labels.add(_label_codes(block, self.schema, self.label_codes))
        self._sampler.add(block)

    def merge(self, later: "ProfileBuilder") -> None:
        """Take the next rows from the builder that was given them."""
        for name, column in later._columns.items():
            self._columns.setdefault(name, ColumnAccumulator(column.column)).merge(column)
        codes = [self.label_codes.setdefault(name, len(self.label_codes)) for name in later.label_codes]
        self._labels.add(np.array([*codes, -1], np.int32)[later._labels.values])
        for ours, theirs in (
            (self._features, later._features),
            (self._inner, later._inner),
            (self._shapes, later._shapes),
        ):
            ours.add(theirs.values if theirs.has_any else None)
        self._sampler.merge(later._sampler)

    def result(self, name: str, invalid_values: InvalidValues) -> TableProfile:
        """The profile of all rows."""
        found = self._columns
        invalid_values.sort(self.schema.names)
        return TableProfile(
            name=name,
            schema=self.schema,
            columns=tuple(found[c.name].result() for c in self.schema.columns if c.name in found),
            feature_hashes=self._features.values,
            inner_hashes=self._inner.values if self._inner.has_any else None,
            shape_hashes=self._shapes.values if self._shapes.has_any else None,
            labels=self._labels.values,
            label_names=tuple(self.label_codes),
            invalid_values=invalid_values,
            sample=self._sampler.result(),
        )


def profile_table(
    flows: FlowSource, read: Callable[[InvalidValues], Iterable[pa.Table]] | None = None
) -> TableProfile:
    """The profile of all blocks, read once. An empty source gives a profile of no rows.

    Args:
        read: Gives the blocks in another way, and counts their invalid values; None: the source does.
    """
    builder, invalid = ProfileBuilder(flows.schema), InvalidValues()
    for block in flows.blocks(invalid) if read is None else read(invalid):
        builder.add(block)
    return builder.result(flows.name, invalid)


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
    block: pa.Table, schema: FlowSchema, accumulators: dict[str, ColumnAccumulator]
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
        accumulator = accumulators.setdefault(column.name, ColumnAccumulator(column))
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


def _shape_hashes(chunk: pa.Array) -> "ValueHashes":
    """Hashes of texts after replacing digits with 0."""
    texts, rows = distinct_values(chunk)
    hashes = text_hashes(pc.replace_substring_regex(texts, r"\d", "0"))
    return ValueHashes(np.append(hashes, NULL_HASH), rows)


def _label_codes(block: pa.Table, schema: FlowSchema, codes: dict[str, int]) -> Int32[np.ndarray, " rows"]:
    """Codes of the label column; new labels get the next code in `codes`."""
    if schema.label is None or schema.label not in block.column_names:
        return np.full(block.num_rows, -1, np.int32)
    parts = [np.empty(0, np.int32)]
    for chunk in block.column(schema.label).chunks:
        values, index = distinct_values(chunk)
        occurs = np.bincount(index, minlength=len(values) + 1) > 0
        texts: list[str | None] = values.to_pylist()
        new = [at for at, text in enumerate(texts) if occurs[at] and text is not None and text not in codes]
        for at in sorted(new, key=lambda at: int(np.argmax(index == at))):  # in order of appearance
            codes.setdefault(str(texts[at]), len(codes))
        found = [-1 if text is None else codes.get(text, -1) for text in texts]
        parts.append(np.array([*found, -1], np.int32)[index])
    return np.concatenate(parts)
