"""Columns of files -> text, integers and times, each distinct value converted once."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Callable
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.shapes import Int64

_STAMP = "%Y-%m-%dT%H:%M:%S"
_TIME = (
    r"^(?P<date>\d{4}[-/]\d{2}[-/]\d{2})[T ](?P<time>\d{2}:\d{2}:\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
    r"[ ]?(?:Z|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2}))?$"
)


def change_texts(column: pa.ChunkedArray | pa.Array, change: Callable[[str], str | None]) -> pa.Array:
    """The column as text, each distinct value changed; null stays null, and `change` may return None.

    >>> change_texts(pa.array(["TCP", None, "UDP"]), str.lower).to_pylist()
    ['tcp', None, 'udp']
    """
    encoded = dictionary_encode(column)
    texts = [None if text is None else change(str(text)) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def dictionary_encode(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """The column as one dictionary array."""
    array = combine_chunks(column)
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def of_used_values(coded: pa.DictionaryArray) -> pa.DictionaryArray:
    """The column with a dictionary of the values that some row has, in their order; itself if all are used.

    >>> of_used_values(pa.array(["tcp", "udp", "icmp"]).dictionary_encode().slice(1)).dictionary.to_pylist()
    ['udp', 'icmp']
    """
    is_used = np.zeros(len(coded.dictionary), bool)
    is_used[coded.indices.drop_null().to_numpy()] = True
    if is_used.all():
        return coded
    numbers = pa.array(np.cumsum(is_used) - 1, pa.int32())
    values = coded.dictionary.take(pa.array(np.flatnonzero(is_used), pa.int64()))
    return pa.DictionaryArray.from_arrays(numbers.take(coded.indices), values)


def distinct_values(column: pa.ChunkedArray | pa.Array) -> tuple[pa.Array, Int64[np.ndarray, " rows"]]:
    """The distinct values of a column, and each row's index among them: one after the last for null.

    >>> values, rows = distinct_values(pa.array(["tcp", None, "udp", "tcp"]))
    >>> values.to_pylist(), rows
    (['tcp', 'udp'], array([0, 2, 1, 0]))
    """
    encoded = dictionary_encode(column)
    indices = (
        encoded.indices.fill_null(len(encoded.dictionary)) if encoded.indices.null_count else encoded.indices
    )
    return encoded.dictionary, indices.to_numpy(zero_copy_only=False).astype(np.int64)


def combine_chunks(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as one array."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return cast(pa.Array, column.chunk(0))
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def flat(table: pa.Table) -> pa.Table:
    """The table with structures as columns `outer.inner`."""
    num_rows = table.num_rows
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    # Without columns, a table forgets its rows.
    return table if table.num_columns else pa.table({"": pa.nulls(num_rows)}).select([])


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def list_cells(array: pa.Array) -> pa.Array:
    """Lists of values joined by commas, other lists as their length.

    >>> list_cells(pa.array([[1, 2], None])).to_pylist(), list_cells(pa.array([[{"a": 1}]])).to_pylist()
    (['1,2', None], [1])
    """
    kind = array.type.value_type
    if pa.types.is_nested(kind) or pa.types.is_null(kind):
        return pc.list_value_length(array).cast(pa.int64())
    return cast(pa.Array, pc.binary_join(array.cast(pa.list_(pa.string())), ","))


def to_texts(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as plain text; numbers as Arrow prints them."""
    array = combine_chunks(column)
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary.take(array.indices)
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def to_integers(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as int64; null where a value is not a whole number.

    >>> to_integers(pa.array(["60", "-", "x"])).to_pylist()
    [60, None, None]
    """
    array = combine_chunks(column)
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    encoded = dictionary_encode(array if isinstance(array, pa.DictionaryArray) else to_texts(array))
    values = pc.utf8_trim_whitespace(encoded.dictionary)
    is_whole = pc.match_substring_regex(values, r"^[0-9]{1,18}$")
    return pc.if_else(is_whole, values, pa.scalar(None, pa.string())).cast(pa.int64()).take(encoded.indices)


def epoch_us(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Microseconds since 1970 of dates with times (a time without zone is UTC); null for other text.

    >>> epoch_us(pa.array(["1970-01-01T01:00:00.5+0100", "1970/01/01 00:00:01", "soon"])).to_pylist()
    [500000, 1000000, None]
    """
    encoded = dictionary_encode(column)
    parts = pc.extract_regex(encoded.dictionary, pattern=_TIME)
    date = pc.replace_substring(parts.field("date"), "/", "-")
    stamp = _joined(date, parts.field("time"), "T")
    is_time = pc.is_valid(parts)
    seconds = _seconds(pc.if_else(is_time, stamp, pa.scalar(None, pa.string()))).cast(pa.int64())
    offset_s = pc.add(
        pc.multiply(_digits(parts.field("hours")), 3600), pc.multiply(_digits(parts.field("minutes")), 60)
    )
    signed = pc.if_else(pc.equal(parts.field("sign"), pa.scalar("-")), pc.negate(offset_s), offset_s)
    fraction = _digits(pc.utf8_slice_codeunits(pc.utf8_rpad(parts.field("fraction"), 6, "0"), 0, 6))
    us = pc.add(pc.multiply(pc.subtract(seconds, signed), 1_000_000), fraction)
    return us.take(encoded.indices)


def _seconds(stamps: pa.Array) -> pa.Array:
    """Times as timestamps; null for dates and hours that do not exist."""
    try:
        return stamps.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        # It does not say which one. The slower way reads 30 February as 1 or 2 March, so what it read is
        # written again.
        read = pc.strptime(stamps, format=_STAMP, unit="s", error_is_null=True)
        return pc.if_else(pc.equal(pc.strftime(read, format=_STAMP), stamps), read, None)


def epoch_texts(us: pa.Array) -> pa.Array:
    """Decimal seconds with six decimal places.

    >>> epoch_texts(pa.array([1_500_000, None])).to_pylist()
    ['1.500000', None]
    """
    seconds = pc.divide(us, 1_000_000)
    rest = pc.abs(pc.subtract(us, pc.multiply(seconds, 1_000_000)))
    digits = pc.utf8_lpad(rest.cast(pa.string()), 6, "0")
    return _joined(seconds.cast(pa.string()), digits, ".")


def _joined(left: pa.Array, right: pa.Array, mark: str) -> pa.Array:
    separator = pa.array([mark], pa.string()).take(pa.array(np.zeros(len(left), np.int64), pa.int64()))
    return pc.binary_join_element_wise(left, right, separator)


def _digits(texts: pa.Array) -> pa.Array:
    """Digits as int64; no digits are 0."""
    is_empty = pc.equal(texts, pa.scalar("", pa.string()))
    return pc.if_else(is_empty, pa.scalar("0", pa.string()), texts).cast(pa.int64())
