"""Times as files write them -> seconds since 1970: ISO 8601, dates in any order, and epochs in any unit."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values, epoch_texts, epoch_us
from wirebert.data.schema.spellings import UNIT_SECONDS
from wirebert.shapes import Bool, Float64, Int64

DATE_ORDERS = ("dmy", "mdy", "ymd")
"""Orders of day, month and year; the first one that fits best is taken."""
PLAUSIBLE_S = (3.0e8, 4.2e9)
"""Seconds since 1970 of the years 1979 to 2103: numbers in this range, in some unit, are an epoch."""
_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?[+-]\d\d:?\d\d|Z)?)?$"
_CLOCK = r"^\d{1,2}:\d\d:\d\d$"
_DATE = (
    r"^(?P<first>\d{1,4})[-/., ]+(?P<second>\d{1,2})[-/., ]+(?P<third>\d{1,4})"
    r"(?:[T,: ]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<s>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?"
    r" ?(?P<half>[AaPp])?(?:\.?[Mm]\.?)?)? ?(?:Z|UTC|GMT|(?P<sign>[+-])(?P<zone_h>\d\d):?(?P<zone_m>\d\d))?$"
)
_MAX_US = 9e17
"""Times further from 1970 are cut: they are no times of this or any near millennium."""
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()


class _Dates(NamedTuple):
    """The numbers of dates, -1 where there is none, and the seconds of their days."""

    numbers: Int64[np.ndarray, "3 dates"]
    num_digits: Int64[np.ndarray, "3 dates"]
    seconds: Float64[np.ndarray, " dates"]


def seconds_of(column: pa.ChunkedArray | pa.Array) -> Float64[np.ndarray, " rows"]:
    """Seconds since 1970 (or since the start of the source's clock), NaN where a value is missing or not a
    time.

    Numbers are seconds. Dates are read in one order for all: the one that reads most of them.

    >>> seconds_of(pa.array(["1970-01-01T00:01:00.5", "1970/01/01 00:02", "90", None]))
    array([ 60.5, 120. ,  90. ,   nan])
    >>> seconds_of(pa.array(["1/2/1970 0:00", "1/13/1970 0:00"])) / 86_400
    array([ 1., 12.])
    """
    values, rows = distinct_values(column)
    if pa.types.is_string(values.type):
        texts = pc.utf8_trim_whitespace(values)
        distinct = _plain_seconds(texts)
        rest = np.flatnonzero(np.isnan(distinct))
        if len(rest):
            distinct[rest] = _date_seconds(_dates(texts.take(pa.array(rest, pa.int64()))), "")[0]
    else:
        distinct = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.append(distinct, np.nan)[rows]


def time_unit(texts: pa.Array, usual: str = "") -> str:
    """How a column of times is written: s, ms, us or ns for numbers, or the order of its dates; empty for ISO
    8601.

    Args:
        texts: Values, stripped.
        usual: Taken where the values allow it: a clock that does not start in 1970 may have any unit, and
            days up to the 12th any order.

    >>> [time_unit(pa.array([text])) for text in ("1700000000123", "2/26/2018 0:00", "5")]
    ['ms', 'mdy', 's']
    """
    texts = texts.drop_null()
    is_number = _matches(texts, _NUMBER)
    if is_number.any():
        numbers = _floats(texts.filter(pa.array(is_number)))
        own = epoch_unit(numbers)
        return own or (usual if usual in UNIT_SECONDS else "s")
    rest = (
        texts.filter(pa.array(np.isnan(_plain_seconds(texts))))
        if not _matches(texts, _ISO).all()
        else texts[:0]
    )
    return _date_seconds(_dates(rest), usual)[1] if len(rest) else ""


def epoch_unit(numbers: Float64[np.ndarray, " values"]) -> str:
    """The unit in which the middle of these numbers is a time from 1979 to 2103; empty if there is none.

    >>> epoch_unit(np.array([1.7e9])), epoch_unit(np.array([1.7e15])), epoch_unit(np.array([12.0]))
    ('s', 'us', '')
    """
    middle = float(np.median(numbers)) if len(numbers) else 0.0
    low, high = PLAUSIBLE_S
    return next((unit for unit, s in UNIT_SECONDS.items() if low <= middle * s <= high), "")


def plain_times(texts: pa.Array, unit: str) -> pa.Array:
    """The times as decimal seconds or ISO 8601; null where a text is no time. What `seconds_of` reads stays.

    >>> plain_times(pa.array(["1700000000123"]), "ms").to_pylist()
    ['1700000000.123000']
    >>> plain_times(pa.array(["02/26/2018 12:05:00 AM", "13/26/2018", "2018-02-26"]), "mdy").to_pylist()
    ['2018-02-26 00:05:00', None, '2018-02-26']
    """
    is_number = _matches(texts, _NUMBER)
    is_done = _matches(texts, _ISO) | (is_number & (UNIT_SECONDS.get(unit, 1.0) == 1.0))
    if is_done.all():
        return texts
    plain = np.array(texts.to_pylist(), object)
    scaled = np.flatnonzero(is_number & ~is_done)
    if len(scaled):
        plain[scaled] = epoch_texts(_epoch_us(texts.take(pa.array(scaled, pa.int64())), unit)).to_pylist()
    rest = np.flatnonzero(~is_number & ~is_done & texts.is_valid().to_numpy(zero_copy_only=False))
    if len(rest):
        others = texts.take(pa.array(rest, pa.int64()))
        dates = _date_seconds(_dates(others), unit)[0]
        read = np.isnan(_plain_seconds(others))
        plain[rest[read]] = _iso_texts(dates[read])
    return pa.array(plain.tolist(), pa.string())


def _plain_seconds(texts: pa.Array) -> Float64[np.ndarray, " values"]:
    """Seconds of numbers, ISO 8601 and hours of a day; NaN for other texts."""
    is_number = _matches(texts, _NUMBER)
    seconds = np.full(len(texts), np.nan)
    seconds[is_number] = _floats(texts.filter(pa.array(is_number)))
    rest = np.flatnonzero(~is_number)
    if len(rest):
        dates = pc.replace_substring(texts.take(pa.array(rest, pa.int64())), "/", "-")
        # Days without hours, and hours and minutes without seconds, are times too.
        whole = pc.replace_substring_regex(dates, r"^(\d{4}-\d\d-\d\d)$", r"\1T00:00")
        whole = pc.replace_substring_regex(
            whole, r"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d)( ?[+-]\d\d:?\d\d|Z)?$", r"\1:00\2"
        )
        seconds[rest] = _as_seconds(epoch_us(whole))
        clocks = pc.if_else(pc.match_substring_regex(dates, _CLOCK), dates, pa.scalar(None, pa.string()))
        of_day = _as_seconds(pc.strptime(clocks, format="%H:%M:%S", unit="us", error_is_null=True))
        seconds[rest] = np.where(np.isnan(seconds[rest]), of_day, seconds[rest])
    return seconds


def _date_seconds(dates: _Dates, usual: str) -> tuple[Float64[np.ndarray, " dates"], str]:
    """Seconds of dates in one order, and that order.

    It is the order that reads most of them; among equals the `usual` one, then the one with the shortest
    span: recordings last days rather than months.
    """
    candidates = {order: _in_order(dates, order) for order in DATE_ORDERS}

    def rank(order: str) -> tuple[int, bool, float]:
        known = candidates[order][~np.isnan(candidates[order])]
        return len(known), order == usual, -float(np.ptp(known)) if len(known) else 0.0

    best = max(DATE_ORDERS, key=rank)
    return candidates[best], best


def _in_order(dates: _Dates, order: str) -> Float64[np.ndarray, " dates"]:
    """Seconds of the dates in this order; a first number of four digits is always the year."""
    is_iso = dates.num_digits[0] == 4
    places = {part: np.where(is_iso, "ymd".index(part), order.index(part)) for part in "ymd"}
    row = np.arange(len(is_iso))
    year, month, day = (dates.numbers[places[part], row] for part in "ymd")
    num_digits = dates.num_digits[places["y"], row]
    year = np.where(num_digits == 2, np.where(year < 70, 2000, 1900) + year, year)
    is_date = ((num_digits == 2) | (num_digits == 4)) & (month >= 1) & (month <= 12) & (day >= 1)
    months = ((np.where(is_date, year, 1970) - 1970) * 12 + np.where(is_date, month, 1) - 1).astype(
        "datetime64[M]"
    )
    days = months.astype("datetime64[D]") + np.where(is_date, day - 1, 0)
    is_date &= days.astype("datetime64[M]") == months  # there is no 30 February
    return np.where(is_date, days.astype(np.int64) * 86_400.0 + dates.seconds, np.nan)


def _dates(texts: pa.Array) -> _Dates:
    """The numbers of dates; months may have names."""
    texts = pc.utf8_lower(texts)
    if pc.any(pc.match_substring_regex(texts, "[b-y][a-y]{2}")).as_py():
        texts = pc.replace_substring_regex(texts, r"^(mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +", "")
        for place, month in enumerate(_MONTHS, 1):
            texts = pc.replace_substring_regex(texts, rf"{month}[a-z]*\.?", f"{place:02d}")
    parts = pc.extract_regex(pc.utf8_upper(texts), pattern=_DATE)
    is_date = parts.is_valid().to_numpy(zero_copy_only=False)

    def texts_of(name: str) -> pa.Array:
        return pc.if_else(pa.array(is_date), parts.field(name), pa.scalar("", pa.string()))

    def number(name: str) -> Int64[np.ndarray, " dates"]:
        digits = texts_of(name)
        is_empty = pc.equal(digits, pa.scalar("", pa.string()))
        return pc.if_else(is_empty, pa.scalar("0", pa.string()), digits).cast(pa.int64()).to_numpy()

    names = ("first", "second", "third")
    numbers = np.where(is_date, np.stack([number(name) for name in names]), -1)
    lengths = [sum(n * _matches(texts_of(name), rf"^\d{{{n}}}$") for n in (1, 2, 3, 4)) for name in names]
    half, hour = texts_of("half"), number("hour")
    is_12h = ~_matches(half, "^$") & is_date
    hour = np.where(is_12h, hour % 12 + 12 * _matches(half, "P"), hour)
    fraction = pc.utf8_rpad(texts_of("fraction"), 9, "0").cast(pa.int64())
    zone_s = (
        (number("zone_h") * 60 + number("zone_m")) * 60 * np.where(_matches(texts_of("sign"), "-"), -1, 1)
    )
    seconds = hour * 3600 + number("minute") * 60 + number("s") - zone_s + fraction.to_numpy() / 1e9
    is_time = is_date & (hour < 24) & (number("minute") < 60) & (number("s") <= 60)
    return _Dates(
        np.where(is_time, numbers, -1), np.stack(lengths).astype(np.int64), seconds.astype(np.float64)
    )


def _epoch_us(texts: pa.Array, unit: str) -> pa.Array:
    """Microseconds of numbers in a unit; whole numbers of usual size exactly."""
    if unit == "ns" and _matches(texts, r"^\d{4,20}$").all():
        return pc.utf8_slice_codeunits(texts, 0, -3).cast(pa.int64())
    if unit != "ns" and _matches(texts, r"^[+-]?\d{1,15}$").all():
        return pc.multiply(texts.cast(pa.int64()), 1000 if unit == "ms" else 1)
    us = np.rint(_floats(texts) * (UNIT_SECONDS[unit] * 1e6))
    return pa.array(np.clip(us, -_MAX_US, _MAX_US).astype(np.int64))


def _iso_texts(seconds: Float64[np.ndarray, " dates"]) -> list[str | None]:
    is_known = ~np.isnan(seconds)
    us = np.rint(np.where(is_known, seconds, 0) * 1e6).astype(np.int64)
    is_whole = bool((us % 1_000_000 == 0).all())
    stamps = pa.array(us // 1_000_000 if is_whole else us, pa.timestamp("s" if is_whole else "us"))
    return pc.if_else(pa.array(is_known), stamps.cast(pa.string()), None).to_pylist()


def _matches(texts: pa.Array, pattern: str) -> Bool[np.ndarray, " values"]:
    """Whether each text matches; False for null."""
    return pc.match_substring_regex(texts, pattern).fill_null(False).to_numpy(zero_copy_only=False)


def _floats(texts: pa.Array) -> Float64[np.ndarray, " values"]:
    return texts.cast(pa.float64()).to_numpy(zero_copy_only=False)


def _as_seconds(stamps: pa.Array) -> Float64[np.ndarray, " values"]:
    return stamps.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / 1e6
