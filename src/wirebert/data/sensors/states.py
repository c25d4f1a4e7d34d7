"""TCP flags of each side -> connection state in Zeek's terms, by the rules of `sensors/states.toml`."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.sensors.canonical import read_words
from wirebert.shapes import Bool, Int32, UInt8

FLAG_BITS = {"F": 1, "S": 2, "R": 4, "A": 8}
"""The flags that every sensor reports: Zeek does not report PSH, URG, ECE and CWR."""


def flag_bits(letters: str) -> int:
    """Bits of flag letters in any order; letters of other flags, and dots, are ignored.

    >>> flag_bits("...AP.SF"), flag_bits("SPA")
    (11, 10)
    """
    return sum(bit for letter, bit in FLAG_BITS.items() if letter in letters)


def header_bits(value: int) -> int:
    """Bits of a TCP header's flag byte.

    >>> header_bits(0x1B) == flag_bits("FSPA")
    True
    """
    return (value & 7) | (FLAG_BITS["A"] if value & 16 else 0)


def bits_of(column: pa.ChunkedArray | pa.Array, read: Callable[[str], int]) -> UInt8[np.ndarray, " flows"]:
    """Bits of each flow, `read` once per distinct text; 0 for null."""
    texts, rows = distinct_values(column)
    bits = [0 if text is None else read(str(text)) for text in texts.to_pylist()]
    return np.array([*bits, 0], np.uint8)[rows]


def flag_texts(bits: UInt8[np.ndarray, " flows"], is_tcp: Bool[np.ndarray, " flows"]) -> pa.Array:
    """Letters of the flags, `.` for none; null where the protocol has no flags.

    >>> flag_texts(np.array([10, 0, 0], np.uint8), np.array([True, True, False])).to_pylist()
    ['SA', '.', None]
    """
    names = ["".join(letter for letter, bit in FLAG_BITS.items() if bits & bit) or "." for bits in range(16)]
    return pa.array(names).take(pa.array(bits, pa.int64(), mask=~is_tcp))


def conn_states(
    protocols: pa.Array,
    src_bits: UInt8[np.ndarray, " flows"],
    dst_bits: UInt8[np.ndarray, " flows"],
    has_src: Bool[np.ndarray, " flows"],
    has_dst: Bool[np.ndarray, " flows"],
) -> pa.Array:
    """State of each flow.

    Args:
        protocols: canonical names.
        src_bits: TCP flags that the source sent, as `flag_bits`.
        dst_bits: TCP flags that the destination sent.
        has_src: whether the source sent packets.
        has_dst: whether the destination sent packets.
    """
    names, tcp = _tcp_states()
    datagrams = _datagram_table()
    words = [datagrams[key] for key in ("neither", "src_alone", "dst_alone", "both", "other")]
    is_tcp = _is(protocols, ["tcp"])
    is_datagram = _is(protocols, datagrams["protocols"])
    sides = np.where(is_datagram, has_src.astype(np.int32) + 2 * has_dst, 4).astype(np.int32)
    codes = np.where(is_tcp, tcp[src_bits, dst_bits], len(names) + sides)
    return pa.array([*names, *words]).take(pa.array(codes, pa.int64()))


def is_protocol(protocols: pa.Array, *names: str) -> Bool[np.ndarray, " flows"]:
    """Whether each flow is of one of these protocols."""
    return _is(protocols, list(names))


def _is(protocols: pa.Array, names: list[str]) -> Bool[np.ndarray, " flows"]:
    return pc.is_in(protocols, value_set=pa.array(names)).to_numpy(zero_copy_only=False)


@cache
def _datagram_table() -> Mapping[str, Any]:
    return cast(Mapping[str, Any], read_words("states.toml")["datagrams"])


@cache
def _tcp_states() -> tuple[tuple[str, ...], Int32[np.ndarray, "16 16"]]:
    """State names, and the index of the state for each pair of flags."""
    rules = cast(list[dict[str, str]], read_words("states.toml")["tcp"])
    names = tuple(rule["state"] for rule in rules)
    table = np.empty((16, 16), np.int32)
    for src in range(16):
        for dst in range(16):
            table[src, dst] = next(index for index, rule in enumerate(rules) if _fits(rule, src, dst))
    return names, table


def _fits(rule: Mapping[str, str], src: int, dst: int) -> bool:
    for side, bits in (("src", src), ("dst", dst)):
        has, lacks = flag_bits(rule.get(f"{side}_has", "")), flag_bits(rule.get(f"{side}_lacks", ""))
        if bits & has != has or bits & lacks:
            return False
    return True
