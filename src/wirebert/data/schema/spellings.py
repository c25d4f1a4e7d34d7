"""What a column's name means: the table of the usual spellings in `spellings.toml`."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from wirebert.data.schema.column_names import plain_name

UNIT_SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Unit of a time or duration -> its seconds."""
_UNIT_WORDS = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds"), "ns"),
}
_LAYERS = frozenset(
    "tcp udp ip ipv4 ipv6 l4 frame flow netflow event json payload connection zeek suricata".split()
)
"""Words before a name that tell where a field stands, not what it is."""
_NOT_ROLES = ("words", "protocols")
_MAX_REMEMBERED = 1 << 12
"""Names whose meaning is remembered: a client of the service may send new ones for ever."""
_MAX_NAME = 256
"""Longer names mean nothing."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What the table knows about a name."""

    meaning: str
    """Columns of one meaning hold the same; with a dot at its end, what is counted is unknown."""
    role: str
    unit: str = ""
    """Unit of the numbers; empty where the name does not tell it."""

    @property
    def family(self) -> str:
        """The meaning without what is counted: bytes of one direction, however counted."""
        return self.meaning.split(".")[0]

    @property
    def is_clear(self) -> bool:
        """Whether the name tells what is counted."""
        return not self.meaning.endswith(".")


@lru_cache(_MAX_REMEMBERED)
def fold(name: str) -> str:
    """The name without case and punctuation.

    >>> fold("Tot Fwd Pkts") == fold("tot_fwd_pkts") == "totfwdpkts"
    True
    """
    return re.sub(r"[\W_]+", "", name.casefold())


@lru_cache(_MAX_REMEMBERED)
def bag_of_words(name: str) -> str:
    """The words of a name in one spelling, sorted; generations of CICFlowMeter differ in their order.

    >>> bag_of_words("Total Length of Fwd Packets") == bag_of_words("TotLen Fwd Pkts")
    True
    >>> bag_of_words("Avg Fwd Segment Size") == bag_of_words("Fwd Seg Size Avg")
    True
    """
    words = _table()["words"]
    return " ".join(sorted(" ".join(words.get(word, word) for word in plain_name(name).split("_")).split()))


@lru_cache(_MAX_REMEMBERED)
def spelling_of(name: str) -> Spelling | None:
    """What a name means; None if the table does not have it.

    >>> spelling_of("FLOW_START_MILLISECONDS")
    Spelling(meaning='time_start', role='time', unit='ms')
    >>> spelling_of("tcp.srcport").role, spelling_of("Src Pt").role, spelling_of("colour")
    ('source_port', 'source_port', None)
    """
    if len(name) > _MAX_NAME:
        return None
    words = plain_name(name).split("_")
    found = _find(name)
    if found is None and words[-1] in _UNIT_WORDS and len(words) > 1:
        base = spelling_of("_".join(words[:-1]))
        if base is not None and base.role in ("time", "duration"):
            found = Spelling(base.meaning, base.role, _UNIT_WORDS[words[-1]])
    if found is None and len(words) > 1 and words[0] in _LAYERS:
        found = spelling_of("_".join(words[1:]))
    return found


def protocol_spellings(value: str) -> tuple[str, ...]:
    """All spellings of one protocol: its number and its names.

    >>> protocol_spellings("TCP"), protocol_spellings("58"), protocol_spellings("x")
    (('6', 'tcp'), ('58', 'ipv6-icmp', 'icmp6', 'icmpv6', 'icmp-v6'), ())
    """
    return _protocols().get(value.strip().lower(), ())


def _find(name: str) -> Spelling | None:
    by_fold, by_bag = _spellings()
    return by_fold.get(fold(name)) or by_bag.get(bag_of_words(name))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("spellings.toml").read_text(encoding="utf-8"))


@cache
def _spellings() -> tuple[dict[str, Spelling], dict[str, Spelling]]:
    """Folded name -> spelling, and bag of words -> spelling."""
    by_fold: dict[str, Spelling] = {}
    by_bag: dict[str, Spelling] = {}
    for meaning, entry in _table().items():
        for text in entry["spellings"].split() if meaning not in _NOT_ROLES else ():
            name, _, unit = text.partition("=")
            spelling = Spelling(meaning, entry["role"], unit)
            by_fold[fold(name)] = spelling
            by_bag.setdefault(bag_of_words(name), spelling)
    return by_fold, by_bag


@cache
def _protocols() -> dict[str, tuple[str, ...]]:
    groups = [(number, *names.split()) for number, names in _table()["protocols"].items()]
    return {name: group for group in groups for name in group}
