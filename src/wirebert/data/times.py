"""Times as they stand in files -> seconds."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from wirebert.data.sensors.canonical import (epoch_us)

FORMATS = (
    "%Y-%m-%d",
    "%d-%m-%Y %H:%M:%S",
    "%d-%m-%Y %H:%M",
    "%d-%m-%Y %I:%M:%S %p",
    "%m-%d-%Y %H:%M:%S",
    "%H:%M:%S",
)


def seconds_of(column: pa.ChunkedArray | pa.Array) -> Float64[np.ndarray, " rows"]:
    """Seconds since 1970 (or whatever the source counts from), NaN where a value is missing or no time.

    Numbers are taken as they are; dates may be ISO 8601, with slashes, or with the day first.

    >>> seconds_of(pa.array(["1970-01-01T00:01:00.5", "1970/01/01 00:02", "90", None]))
    array([ 60.5, 120. ,  90. ,   nan])
    """
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    encoded = whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()
    values = encoded.dictionary
    if pa.types.is_string(values.type):
        distinct = _text_seconds(values)
    else:
        distinct = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    indices = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
    return np.append(distinct, np.nan)[indices]


def _text_seconds(texts: pa.Array) -> Float64[np.ndarray, " values"]:
    seconds = np.full(len(texts), np.nan)
    is_number = pc.match_substring_regex(texts, r"^\s*-?\d+(\.\d*)?([eE][+-]?\d+)?\s*$")
    chosen = np.flatnonzero(is_number.fill_null(False).to_numpy(zero_copy_only=False))
    numbers = pc.utf8_trim_whitespace(texts.take(pa.array(chosen, pa.int64())))
    seconds[chosen] = numbers.cast(pa.float64()).to_numpy(zero_copy_only=False)
    rest = np.flatnonzero(np.isnan(seconds))
    dates = pc.replace_substring(pc.utf8_trim_whitespace(texts.take(pa.array(rest, pa.int64()))), "/", "-")
    # Hours and minutes alone are a time as well.
    whole = pc.replace_substring_regex(
        dates, r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d)( ?[+-]\d\d:?\d\d|Z)?$", r"\1:00\2"
    )
    found = _as_seconds(epoch_us(whole))
    for layout in FORMATS:
        if not np.isnan(found).any():
            break
        tried = _as_seconds(pc.strptime(dates, format=layout, unit="us", error_is_null=True))
        found = np.where(np.isnan(found), tried, found)
    seconds[rest] = found
    return seconds


def _as_seconds(stamps: pa.Array) -> Float64[np.ndarray, " values"]:
    micro = stamps.cast(pa.int64())
    return micro.cast(pa.float64()).to_numpy(zero_copy_only=False) / 1e6
