"""Raw columns -> typed columns: numbers are float64, other kinds are text, missing values are null.

Each distinct value is converted once: a column of a million rows and three protocols costs three casts.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import combine_chunks, dictionary_encode
from wirebert.data.schema.quantities import NUMBER_PATTERN, quantity
from wirebert.data.schema.schema import DEFAULT_NULL_VALUES, Column, ColumnKind, FlowSchema
from wirebert.data.times import plain_times, time_unit
from wirebert.errors import DataError
from wirebert.shapes import Bool, Int64

MAX_VALUE_EXAMPLES = 3
MAX_PADDED = 20
WITH_COMMA = r"^\s*[+-]?((\d+,?\d*|,\d+)([eE][+-]?\d+)?|(?i:inf|infinity))\s*$"
"""A number that may have a decimal comma."""
NUMBER_ADDRESS = r"^[1-9][0-9]{7,9}$"
"""An IPv4 address from 1.0.0.0 on, written as one number."""
_NO_NUMBER = pa.scalar(None, pa.float64())
TRUTH_VALUES = {"true": "1", "yes": "1", "t": "1", "y": "1", "false": "0", "no": "0", "f": "0", "n": "0"}


@dataclass(frozen=True, slots=True)
class InvalidValue:
    """A value that does not fit the kind of its column."""

    column: str
    row: int
    value: str
    file: str = ""
    """The file, if there are several."""

    @property
    def location(self) -> str:
        """`row 3`, or `row 3 of flows.csv`."""
        return f"row {self.row} of {self.file}" if self.file else f"row {self.row}"


@dataclass(kw_only=True, slots=True)
class InvalidValues:
    """Values of the wrong kind, which are read as missing: counts per column, with the first examples."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[InvalidValue]] = field(default_factory=dict)
    num_rows: int = 0
    """Rows converted so far."""
    markers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Column -> text that means "missing" -> rows with it."""
    padded: dict[str, dict[str, int]] = field(default_factory=dict)
    """Column -> value with spaces around it -> rows with it; the first `MAX_PADDED` in alphabetical order."""
    noted: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    """Code of a finding -> column -> rows that it is about, and an example."""
    time_units: dict[str, str] = field(default_factory=dict)
    """Column of times -> how this file writes them, as its first values tell."""
    lines: ParseStats = field(default_factory=ParseStats)
    """Counts over the lines of the files."""

    @property
    def total(self) -> int:
        """Invalid values of all columns."""
        return sum(self.counts.values())

    def add(self, column: str, values: list[str], rows: list[int], count: int) -> None:
        """Add `count` invalid values, of which the first are given."""
        self.counts[column] = self.counts.get(column, 0) + count
        examples = self.examples.setdefault(column, [])
        examples += [InvalidValue(column, row, value) for row, value in zip(rows, values, strict=True)]
        del examples[MAX_VALUE_EXAMPLES:]

    def count_texts(self, into: dict[str, dict[str, int]], column: str, counts: Mapping[str, int]) -> None:
        """Add rows per text; the first `MAX_PADDED` in alphabetical order are kept."""
        counted = {**into.get(column, {})}
        for text, count in counts.items():
            counted[text] = counted.get(text, 0) + count
        into[column] = dict(sorted(counted.items())[:MAX_PADDED])

    def sort(self, names: Sequence[str]) -> None:
        """Bring the columns into this order, which does not depend on the blocks that were read."""
        by_column: list[dict[str, Any]] = [self.counts, self.examples, self.markers, self.padded]
        for counted in (*by_column, *self.noted.values()):
            counted.update([(name, counted.pop(name)) for name in names if name in counted])

    def note(self, code: str, column: str, count: int, example: str) -> None:
        """Add rows to what the finding `code` says about a column; the first example is kept."""
        if count:
            before, first = self.noted.setdefault(code, {}).get(column, (0, example))
            self.noted[code][column] = (before + count, first)

    def merge(self, other: "InvalidValues", file: str = "") -> None:
        """Add the counts of `other`, which come from `file` if there are several."""
        for code, columns in other.noted.items():
            for column, (count, example) in columns.items():
                self.note(code, column, count, example)
        for into, texts in ((self.markers, other.markers), (self.padded, other.padded)):
            for column, counts in texts.items():
                self.count_texts(into, column, counts)
        self.num_rows += other.num_rows
        self.lines.merge(other.lines, file)
        for column, count in other.counts.items():
            self.counts[column] = self.counts.get(column, 0) + count
            added = [replace(example, file=file or example.file) for example in other.examples[column]]
            self.examples[column] = [*self.examples.get(column, []), *added][:MAX_VALUE_EXAMPLES]

    def to_dict(self) -> dict[str, Any]:
        """The counts and examples as plain data."""
        return {**asdict(replace(self, lines=ParseStats())), "lines": self.lines.to_dict()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "InvalidValues":
        """The inverse of `to_dict`, also after JSON."""
        examples = {name: [InvalidValue(**one) for one in found] for name, found in plain["examples"].items()}
        noted = {
            code: {name: (count, text) for name, (count, text) in columns.items()}
            for code, columns in plain["noted"].items()
        }
        lines = ParseStats.from_dict(plain["lines"])
        values: dict[str, Any] = {**plain, "examples": examples, "noted": noted, "lines": lines}
        return cls(**values)

    def check(self, limit_fraction: float, where: str) -> None:
        """Raise a DataError if more than this fraction of a column's rows is invalid."""
        for column, count in self.counts.items():
            if count > limit_fraction * self.num_rows:
                first = self.examples[column][0]
                raise DataError(
                    f"{where}, column {column!r}, row {first.row}: expected a number, found {first.value!r}; "
                    f"{count:,} of {self.num_rows:,} rows have no number; declare the column a category in "
                    "the schema, list the value under its null_values, or raise data.max_invalid_fraction"
                )


def convert(
    block: pa.Table,
    schema: FlowSchema,
    *,
    invalid: InvalidValues,
    first_row: int,
    decimal_comma: bool = False,
    factors: Mapping[str, float] = MappingProxyType({}),
) -> pa.Table:
    """The columns of `block` that the schema names, typed, in schema order.

    Numeric kinds become float64 (dictionary-encoded where the source was), other kinds string. Null values of
    the column, and NaN, are null; infinities are values. In numeric columns, quantities with units are
    numbers; other text becomes null and is counted in `invalid` with its row, numbered from `first_row`.
    Times become decimal seconds or ISO 8601, and addresses that are written as one number get dots. With
    `decimal_comma`, 1,5 is a number or a time in seconds. Columns with a factor are multiplied by it.
    """
    found = dict(zip(block.column_names, block.columns, strict=True))  # by name each takes linear time
    columns = [column for column in schema.columns if column.name in found]
    invalid.num_rows += block.num_rows
    raw = {column.name: combine_chunks(found[column.name]) for column in columns}
    if decimal_comma:
        numbers = [
            column.name for column in columns if column.kind.is_numeric or column.kind is ColumnKind.TIME
        ]
        raw |= {name: _point(raw[name]) for name in numbers}
    arrays = [_convert_column(raw[column.name], column, invalid, first_row) for column in columns]
    arrays = [_scaled(array, factors.get(c.name, 1.0)) for array, c in zip(arrays, columns, strict=True)]
    fields = [pa.field(column.name, array.type) for column, array in zip(columns, arrays, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def as_text(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Any column as plain text, stripped; whole numbers without a fraction, so 1.0 is "1"; NaN is null."""
    encoded = _dictionary(combine_chunks(column))
    return encoded.dictionary.take(encoded.indices)


def with_points(sample: pa.Table) -> pa.Table:
    """The texts, with decimal commas as points in columns that hold (nearly) only numbers.

    >>> with_points(pa.table({"x": ["1,5", "-"], "y": ["1,5", "a,b"]})).to_pydict()
    {'x': ['1.5', '-'], 'y': ['1,5', 'a,b']}
    """
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for name in sample.column_names:
        texts = combine_chunks(sample[name])
        present = texts.filter(pc.invert(pc.is_in(texts, value_set=pa.array(DEFAULT_NULL_VALUES))))
        numbers = pc.sum(pc.match_substring_regex(present, WITH_COMMA).cast(pa.int64())).as_py() or 0
        columns[name] = _point(texts) if numbers >= 0.99 * len(present) else texts
    return pa.table(columns)


def _scaled(array: pa.Array, factor: float) -> pa.Array:
    """The numbers, multiplied."""
    if factor == 1.0:
        return array
    if isinstance(array, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(array.indices, pc.multiply(array.dictionary, factor))
    return pc.multiply(array, factor)


def _point(array: pa.Array) -> pa.Array:
    """Texts of the form 1,5 as 1.5."""
    if isinstance(array, pa.DictionaryArray):
        if not pa.types.is_string(array.dictionary.type):
            return array
        return pa.DictionaryArray.from_arrays(array.indices, _point(array.dictionary))
    if not pa.types.is_string(array.type):
        return array
    return pc.if_else(
        pc.match_substring_regex(array, WITH_COMMA),
        pc.replace_substring(array, ",", ".", max_replacements=1),
        array,
    )


def _convert_column(array: pa.Array, column: Column, invalid: InvalidValues, first_row: int) -> pa.Array:
    if column.kind.is_numeric and pa.types.is_integer(array.type):
        return array.cast(pa.float64(), safe=False)
    if column.kind.is_numeric and pa.types.is_floating(array.type):
        numbers = array.cast(pa.float64(), safe=False)
        if not numbers.null_count and not np.isnan(numbers.to_numpy()).any():  # few rows: faster than Arrow
            return numbers
        return pc.if_else(pc.is_nan(numbers), _NO_NUMBER, numbers)
    raw = dictionary_encode(array)
    if pa.types.is_string(raw.dictionary.type):
        _count_padded(raw, column, invalid)
    encoded = _dictionary(raw)
    is_marker = pc.is_in(encoded.dictionary, value_set=pa.array(column.null_values, pa.string()))
    if pc.any(is_marker).as_py():
        _count_markers(encoded, is_marker, column, invalid)
    values = pc.if_else(is_marker, pa.scalar(None, pa.string()), encoded.dictionary)
    if column.kind is ColumnKind.BOOLEAN:
        values = pa.array(
            [TRUTH_VALUES.get(v.lower(), v) if v is not None else None for v in values.to_pylist()],
            pa.string(),
        )
    if column.kind.is_numeric:
        numbers = _numbers(encoded, values, column, invalid)
        if numbers.null_count > values.null_count:
            _count_invalid(encoded, values, numbers, column.name, invalid, first_row)
        is_nan = pc.fill_null(pc.is_nan(numbers), pa.scalar(value=False, type=pa.bool_()))
        zero = pa.scalar(0.0, pa.float64())  # a scalar without a type makes Arrow look for packages each time
        values = pc.add(pc.if_else(is_nan, _NO_NUMBER, numbers), zero)  # -0.0 + 0.0 is 0.0
    elif column.kind is ColumnKind.TIME:
        values = _times(encoded, values, column, invalid)
    elif column.kind is ColumnKind.ADDRESS:
        values = plain_addresses(values)
    return _gather(encoded, values)


def _count_markers(
    encoded: pa.DictionaryArray, is_marker: pa.Array, column: Column, invalid: InvalidValues
) -> None:
    """Count the markers of missing values."""
    markers = _rows_per_text(encoded, is_marker)
    if markers:
        invalid.count_texts(invalid.markers, column.name, markers)


def _count_padded(array: pa.DictionaryArray, column: Column, invalid: InvalidValues) -> None:
    """Count categories and labels with spaces around them, which are stripped."""
    if column.kind.is_numeric or column.kind is ColumnKind.TEXT:
        return
    is_padded = pc.match_substring_regex(array.dictionary, r"^\s+\S|\S\s+$")
    if pc.any(is_padded).as_py():
        invalid.count_texts(invalid.padded, column.name, _rows_per_text(array, is_padded))


def _rows_per_text(encoded: pa.DictionaryArray, is_counted: pa.Array) -> dict[str, int]:
    """Rows of each of these texts of the dictionary, without those that no row has."""
    counts = _row_counts(encoded)
    chosen = np.flatnonzero(is_counted.fill_null(False).to_numpy(zero_copy_only=False))
    texts = encoded.dictionary.take(pa.array(chosen, pa.int64())).to_pylist()
    return {str(text): count for text, count in zip(texts, counts[chosen].tolist(), strict=True) if count}


def _row_counts(encoded: pa.DictionaryArray) -> Int64[np.ndarray, " values"]:
    indices = encoded.indices.drop_null().to_numpy()
    return np.bincount(indices, minlength=len(encoded.dictionary))


def _dictionary(array: pa.Array) -> pa.DictionaryArray:
    """The column as dictionary<int32, string> of stripped, distinct values."""
    encoded = dictionary_encode(array)
    values = encoded.dictionary
    if pa.types.is_floating(values.type):
        values = pa.array([_number_text(number) for number in values.to_pylist()], pa.string())
    elif not pa.types.is_string(values.type):
        values = values.cast(pa.string())
    return _gather(encoded, pc.utf8_trim_whitespace(values))


def _gather(encoded: pa.DictionaryArray, values: pa.Array) -> pa.DictionaryArray:
    """`encoded` with another dictionary; equal values are merged, and nulls are removed from the
    dictionary."""
    merged = values.dictionary_encode()
    if merged.null_count == 0 and len(merged.dictionary) == len(values):
        return pa.DictionaryArray.from_arrays(encoded.indices, values)
    return pa.DictionaryArray.from_arrays(merged.indices.take(encoded.indices), merged.dictionary)


def _number_text(number: float | None) -> str | None:
    if number is None or number != number:
        return None
    return str(int(number)) if number.is_integer() else repr(number)


def _numbers(
    encoded: pa.DictionaryArray, values: pa.Array, column: Column, invalid: InvalidValues
) -> pa.Array:
    """Distinct texts as float64; null where a text is not a number."""
    try:
        return values.cast(pa.float64())
    except pa.ArrowInvalid:
        pass
    texts: list[str | None] = values.to_pylist()
    found = [None if text is None else quantity(text, column.unit) for text in texts]
    is_quantity = np.array([one is not None for one in found])
    if column.kind is not ColumnKind.PORT:  # Argus writes ICMP types as hexadecimal ports
        _note_values(invalid, "units_read", column.name, encoded, is_quantity)
    numbers = [
        one[0] if one else float(text) if text is not None and NUMBER_PATTERN.fullmatch(text) else None
        for text, one in zip(texts, found, strict=True)
    ]
    return pa.array(numbers, pa.float64())


def _times(encoded: pa.DictionaryArray, values: pa.Array, column: Column, invalid: InvalidValues) -> pa.Array:
    """Distinct times as decimal seconds or ISO 8601, read in the unit or order of their file; else null."""
    if values.null_count == len(values):
        return values
    if column.name not in invalid.time_units:
        unit = invalid.time_units[column.name] = time_unit(values, column.unit)
        if column.unit and unit != column.unit:
            example = f"{unit}, in training {column.unit}"
            invalid.note("times_written_differently", column.name, len(encoded), example)
    times = plain_times(values, invalid.time_units[column.name])
    if times.null_count > values.null_count:
        is_unread = pc.and_(pc.is_valid(values), pc.is_null(times)).to_numpy(zero_copy_only=False)
        _note_values(invalid, "unreadable_times", column.name, encoded, is_unread)
    return times


def plain_addresses(values: pa.Array) -> pa.Array:
    """Distinct addresses, those that are written as one number with dots.

    >>> plain_addresses(pa.array(["3232236299", "10.0.0.1", None])).to_pylist()
    ['192.168.3.11', '10.0.0.1', None]
    """
    is_number = pc.match_substring_regex(values, NUMBER_ADDRESS)
    if not pc.any(is_number).as_py():
        return values
    numbers = pc.if_else(is_number, values, "0").cast(pa.int64()).fill_null(0).to_numpy()
    texts = [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in numbers.tolist()]
    return pc.if_else(pa.array((numbers > 0) & (numbers < 1 << 32)), pa.array(texts), values)


def _note_values(
    invalid: InvalidValues,
    code: str,
    column: str,
    encoded: pa.DictionaryArray,
    is_meant: Bool[np.ndarray, " values"],
) -> None:
    """Note the rows of the distinct values that are meant."""
    counts = np.where(is_meant, _row_counts(encoded), 0)
    if counts.any():
        invalid.note(code, column, int(counts.sum()), str(encoded.dictionary[int(np.argmax(counts > 0))]))


def _count_invalid(
    encoded: pa.DictionaryArray,
    values: pa.Array,
    numbers: pa.Array,
    name: str,
    invalid: InvalidValues,
    first_row: int,
) -> None:
    is_invalid = pc.and_(pc.is_valid(values), pc.is_null(numbers))
    positions = np.flatnonzero(is_invalid.to_numpy(zero_copy_only=False))
    rows = np.flatnonzero(np.isin(encoded.indices.fill_null(-1).to_numpy(), positions))
    first = rows[:MAX_VALUE_EXAMPLES]
    texts = [str(encoded[int(row)].as_py()) for row in first]
    invalid.add(name, texts, [first_row + int(row) for row in first], len(rows))
