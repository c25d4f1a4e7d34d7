"""Numbers in other notations: `1.9 M`, `4.2 KiB`, `1,234`, `14.5 %`, `0x2e`, `00:00:30`."""

import re
from typing import Literal

from wirebert.data.schema.spellings import UNIT_SECONDS

NUMBER_PATTERN = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf(?:inity)?|nan", re.IGNORECASE | re.ASCII
)
_QUANTITY = re.compile(
    r"([+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+))\s*([A-Za-zµμ/%]*)", re.ASCII
)
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{1,13}")
_CLOCK = re.compile(r"(?:(\d+) ?d(?:ays?)?,? ?)?(\d{1,4}):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", re.ASCII)
_SCALES = {
    "": 1.0,
    "%": 1.0,
    **{letter: 1000.0 ** ("kMGT".index(letter.replace("K", "k")) + 1) for letter in "kKMGT"},
    **{f"{letter}i": 1024.0 ** ("kMGT".index(letter.replace("K", "k")) + 1) for letter in "kKMGT"},
}
_COUNTED = re.compile(r"(?:[Bb]|[Bb]ytes?|[Bb]its?|[Oo]ctets?|[Pp]kts?|[Pp]ackets?|[Bb]ps|pps)?(?:/s|ps)?")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("us", "µs", "μs", "usec", "usecs", "microsecond", "microseconds"), 1e-06),
    **dict.fromkeys(("ns", "nsec", "nsecs", "nanosecond", "nanoseconds"), 1e-09),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}  # fmt: skip
What = Literal["amount", "time"]


def quantity(text: str, unit: str = "") -> tuple[float, What] | None:
    """The number that a text with a unit writes, and whether it is a time; None for other texts.

    Times are in `unit` (seconds where it is empty). k, M, G and T are powers of 1000; Ki, Mi, Gi and Ti of
    1024.

    >>> [quantity(text) for text in ("1.9 M", "4 KiB", "427,500", "14.5%", "0x2e")]
    [(1900000.0, 'amount'), (4096.0, 'amount'), (427500.0, 'amount'), (14.5, 'amount'), (46.0, 'amount')]
    >>> quantity("00:00:30"), quantity("30s", unit="ms"), quantity("1,5"), quantity("5 m")
    ((30.0, 'time'), (30000.0, 'time'), None, None)
    """
    if NUMBER_PATTERN.fullmatch(text):
        return None
    if _HEXADECIMAL.fullmatch(text):
        return float(int(text, 16)), "amount"
    per_second = UNIT_SECONDS.get(unit, 1.0)
    clock = _CLOCK.fullmatch(text)
    if clock:
        days, hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) / per_second, "time"
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    number, words = float(match[1].replace(",", "")), match[2]
    if words in _SECONDS:
        return number * _SECONDS[words] / per_second, "time"
    scale = _scale(words)
    # 4.1 times 1000 is not a whole number to a computer.
    return None if scale is None else (round(number * scale, 6), "amount")


def _scale(words: str) -> float | None:
    """The factor of `k`, `MB`, `KiB`, `Mbit/s`, `%`; None for other words.

    The longest prefix decides, so that `b` alone is a byte or a bit and `Mb` is a million.
    """
    for length in (2, 1, 0):
        prefix, rest = words[:length], words[length:]
        if prefix in _SCALES and len(prefix) == length and _COUNTED.fullmatch(rest):
            return _SCALES[prefix]
    return None
