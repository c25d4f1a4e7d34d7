"""What tells people, machines and places apart: kinds and names of columns, and patterns of values."""

import re
from collections.abc import Iterator
from typing import Final

from wirebert.data.schema.column_names import HOST_NAMES, TEXTS, plain_name
from wirebert.data.schema.schema import ColumnKind

NAMING_WORDS: Final = frozenset(
    "account cookie device domain email host hostname mail query referrer sni uri url user username".split()
)
"""Words in the names of columns whose values name people, machines and places."""
_KINDS: Final = (ColumnKind.ADDRESS, ColumnKind.IDENTIFIER, ColumnKind.TEXT, ColumnKind.TIME)
_IDENTIFIERS: Final = frozenset("uid fuid uuid guid session filename path".split())

_PATTERNS: Final = {
    "a hardware address": r"\b[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}\b",
    "an IP address": r"(?<![\d.])\d{1,3}(\.\d{1,3}){3}(?![\d.])|\b[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){3,7}\b",
    "an e-mail address": r"[^\s@]+@[^\s@]+\.[a-zA-Z]{2,}",
    "a time": r"\b(19|20)\d\d[-/.]\d\d?[-/.]\d\d?|\b\d\d?[-/.]\d\d?[-/.](19|20)\d\d|\b\d\d:\d\d:\d\d",
    "a host name": r"\b[\w-]+(\.[\w-]+)*\.(com|org|net|edu|gov|mil|io|int|local|lan|corp|internal|home)\b",
    "a path": r"(^|\s)(/|~/|[A-Za-z]:\\)\w+",
}


def identifies(column: str, kind: str) -> bool:
    """Whether the values of a column are addresses, identifiers, times, texts of hosts, or names.

    >>> identifies("src_ip", "address"), identifies("tls.sni", "category"), identifies("service", "category")
    (True, True, False)
    """
    words = set(plain_name(column).split("_"))
    known = NAMING_WORDS | HOST_NAMES | TEXTS | _IDENTIFIERS
    return kind in _KINDS or plain_name(column) in known or not words.isdisjoint(NAMING_WORDS | _IDENTIFIERS)


def identifying_parts(text: str) -> Iterator[str]:
    """What the text looks like: `an IP address`, `a host name`, ...

    >>> list(identifying_parts("GET 10.0.0.7")), list(identifying_parts("SF"))
    (['an IP address'], [])
    """
    return (what for what, pattern in _PATTERNS.items() if re.search(pattern, text))
