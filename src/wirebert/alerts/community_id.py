"""Community ID of flows: one text that Zeek, Suricata, Arkime and others compute alike from a flow's ends.

Source: Corelight, Community ID Flow Hashing, version 1.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from binascii import b2a_base64
from hashlib import sha1
from ipaddress import AddressValueError, IPv6Address
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import dictionary_encode, to_texts
from wirebert.data.schema.spellings import protocol_spellings
from wirebert.shapes import Bool, Int64, UInt8

ICMP: Final = 1
ICMP6: Final = 58
_WITH_PORTS = (ICMP, 6, 17, ICMP6, 132)
"""Protocols of which the ports, or the type and code, are hashed: without them there is no Community ID."""
_ANSWERS = {
    ICMP: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    ICMP6: {128: 129, 129: 128, 130: 131, 131: 130, 133: 134, 134: 133}
    | {135: 136, 136: 135, 139: 140, 140: 139, 144: 145, 145: 144},
}
"""ICMP type -> the type that answers it; other messages have one direction only."""
_IPV4 = r"^(?P<a>0|[1-9]\d{0,2})\.(?P<b>0|[1-9]\d{0,2})\.(?P<c>0|[1-9]\d{0,2})\.(?P<d>0|[1-9]\d{0,2})$"
_Column = pa.Array | pa.ChunkedArray


def community_ids(
    source: _Column,
    destination: _Column,
    source_port: _Column | None,
    destination_port: _Column | None,
    protocol: _Column,
    seed: int = 0,
) -> pa.Array:
    """The Community ID of each flow; null where an end, the protocol or a port is missing or not valid.

    Args:
        source: Addresses as text.
        source_port: Ports; of ICMP the type. `destination_port`: of ICMP the code.
        protocol: Numbers or names; `icmp` between IPv6 addresses is ICMPv6.
        seed: Of the hash, at most 65,535; only sites of one seed can compare their IDs.

    >>> ends, ports = (pa.array(["10.0.0.1"]), pa.array(["10.0.0.2"])), (pa.array([10]), pa.array([11]))
    >>> community_ids(*ends, *ports, pa.array(["udp"])).to_pylist()
    ['1:V2ILSePtCSihD7C0X76po0uhAFI=']
    >>> community_ids(*ends, None, None, pa.array(["udp"])).to_pylist()
    [None]
    """
    src, src_family = _addresses(source)
    dst, dst_family = _addresses(destination)
    numbers = _protocol_numbers(protocol)
    numbers = np.where((numbers == ICMP) & (src_family == 6), ICMP6, numbers)
    ports = [_ports(column, len(src)) for column in (source_port, destination_port)]
    is_one_way = _map_icmp(numbers, ports)
    has_ports = (ports[0] >= 0) & (ports[1] >= 0)
    is_known = (numbers >= 0) & (src_family > 0) & (src_family == dst_family)
    is_known &= has_ports | ~np.isin(numbers, _WITH_PORTS)
    swaps = ~is_one_way & _is_behind(src, dst, np.where(has_ports, ports[0] - ports[1], 0))
    sport, dport = np.where(swaps, ports[1], ports[0]), np.where(swaps, ports[0], ports[1])
    first, second = (np.where(swaps[:, None], *ends) for ends in ((dst, src), (src, dst)))
    texts = np.full(len(src), None, object)
    for family in (4, 6):
        for with_ports in (True, False):
            rows = np.flatnonzero(is_known & (src_family == family) & (has_ports == with_ports))
            if not len(rows):
                continue
            size = 4 if family == 4 else 16
            parts = [_two_bytes(np.full(len(rows), seed)), first[rows, -size:], second[rows, -size:]]
            parts.append(np.stack([numbers[rows], np.zeros(len(rows), np.int64)], axis=1).astype(np.uint8))
            if with_ports:
                parts += [_two_bytes(sport[rows]), _two_bytes(dport[rows])]
            texts[rows] = _hashed(np.concatenate(parts, axis=1))
    return pa.array(texts.tolist(), pa.string())


def is_address(values: pa.Array) -> Bool[np.ndarray, " values"]:
    """Whether each text is an IPv4 or IPv6 address."""
    return _addresses(values)[1] > 0


def _addresses(column: _Column) -> tuple[UInt8[np.ndarray, "rows 16"], Int64[np.ndarray, " rows"]]:
    """The bytes of each address, those of IPv4 at the end; and its family: 4, 6, or 0 for other texts."""
    encoded = dictionary_encode(column)
    texts = pc.utf8_trim_whitespace(to_texts(encoded.dictionary))
    packed, families = np.zeros((len(texts) + 1, 16), np.uint8), np.zeros(len(texts) + 1, np.int64)
    parts = pc.extract_regex(texts, _IPV4)
    short = np.flatnonzero(parts.is_valid().to_numpy(zero_copy_only=False))
    numbers = [part.cast(pa.int64()).to_numpy() for part in parts.drop_null().flatten()]
    families[short] = np.where(np.max(numbers, axis=0) < 256, 4, 0) if len(short) else 0
    packed[short, 12:] = np.stack(numbers, axis=1) % 256 if len(short) else 0
    others = np.flatnonzero(pc.match_substring(texts, ":").fill_null(False).to_numpy(zero_copy_only=False))
    for at, text in zip(others.tolist(), texts.take(pa.array(others, pa.int64())).to_pylist(), strict=True):
        try:
            packed[at] = np.frombuffer(IPv6Address(text).packed, np.uint8)
            families[at] = 6
        except AddressValueError:
            pass
    index = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    return packed[index], families[index]


def _protocol_numbers(column: _Column) -> Int64[np.ndarray, " rows"]:
    """Assigned numbers; -1 where there is none."""
    encoded = dictionary_encode(column)
    numbers = [_protocol_number(text) for text in to_texts(encoded.dictionary).to_pylist()]
    index = encoded.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    return np.array([*numbers, -1], np.int64)[index]


def _protocol_number(text: str | None) -> int:
    spellings = protocol_spellings(text or "")
    number = (spellings[0] if spellings else text or "").removesuffix(".0")
    return int(number) if number.isascii() and number.isdigit() and int(number) < 256 else -1


def _ports(column: _Column | None, num_rows: int) -> Int64[np.ndarray, " rows"]:
    """Ports; -1 where there is none."""
    if column is None:
        return np.full(num_rows, -1, np.int64)
    array = dictionary_encode(column)
    values = np.append(array.dictionary.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.nan)
    ports = values[array.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)]
    is_port = (ports >= 0) & (ports < 1 << 16) & (ports == np.floor(ports))
    return np.where(is_port, ports, -1).astype(np.int64)


def _map_icmp(
    numbers: Int64[np.ndarray, " rows"], ports: list[Int64[np.ndarray, " rows"]]
) -> Bool[np.ndarray, " rows"]:
    """Replaces the code of a message that is answered by the type of its answer; where there is no answer is
    true."""
    is_one_way = np.zeros(len(numbers), np.bool_)
    for number, answers in _ANSWERS.items():
        rows = np.flatnonzero((numbers == number) & (ports[0] >= 0) & (ports[1] >= 0))
        table = np.full(1 << 16, -1, np.int64)
        table[list(answers)] = list(answers.values())
        answer = table[ports[0][rows]]
        ports[1][rows] = np.where(answer < 0, ports[1][rows], answer)
        is_one_way[rows] = answer < 0
    return is_one_way


def _is_behind(
    src: UInt8[np.ndarray, "rows 16"], dst: UInt8[np.ndarray, "rows 16"], port_gap: Int64[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    """Whether the source comes after the destination, by address and then port."""
    (high, low), (other_high, other_low) = (np.ascontiguousarray(part).view(">u8").T for part in (src, dst))
    is_equal = (high == other_high) & (low == other_low)
    return (high > other_high) | ((high == other_high) & (low > other_low)) | (is_equal & (port_gap > 0))


def _two_bytes(numbers: Int64[np.ndarray, " rows"]) -> UInt8[np.ndarray, "rows 2"]:
    return numbers.astype(">u2").view(np.uint8).reshape(-1, 2)


def _hashed(messages: UInt8[np.ndarray, "rows bytes"]) -> list[str]:
    """Version, and the base64 text of the SHA-1 of each message."""
    size, data = messages.shape[1], messages.tobytes()
    messages_of = (data[at : at + size] for at in range(0, len(data), size))
    return [f"1:{b2a_base64(sha1(one).digest(), newline=False).decode()}" for one in messages_of]
