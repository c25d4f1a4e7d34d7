"""Ports, addresses and TCP flags -> tokens: their role in a network, never the identity of a host."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.encoding.categorical import ValueCounts
from wirebert.encoding.numeric import NumberCounts
from wirebert.encoding.ports import SERVICES
from wirebert.encoding.vocabulary import ABSENT, MISSING, UNSEEN, Slot
from wirebert.shapes import Bool, Int, Int32, UInt32

NETWORK_STATES = ("<missing>", "<unseen>", "<absent>")

PORT_RANGES = (("well_known", 0, 1024), ("registered", 1024, 49152), ("ephemeral", 49152, 65536))
"""IANA's ranges: name, first port, end."""

ADDRESS_SCOPES = (
    *("private", "public", "inside", "outside", "multicast", "broadcast"),
    *("loopback", "link_local", "unspecified", "reserved", "mac"),
)

SPECIAL_NETWORKS = (
    *("0.0.0.0/32", "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.9/32", "192.0.0.10/32"),
    *("192.0.0.170/31", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
    *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32"),
)
"""Networks at whose ends the scope of an address may change.

Source: IANA IPv4 Special-Purpose Address Registry, and multicast.
"""
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"^{_OCTET}(?:\.{_OCTET}){{3}}$"

FLAG_BITS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr")
"""TCP flags from the lowest bit."""


@dataclass(frozen=True, kw_only=True)
class PortEncoder:
    """Tokens of a port: its service if training has it, else its range."""

    column: str
    services: tuple[str, ...]
    default: int

    @classmethod
    def fit(cls, column: str, counts: NumberCounts) -> "PortEncoder":
        """The encoder for what was counted."""
        ports = counts.values_
        services = tuple(sorted({SERVICES[int(port)] for port in ports if port in SERVICES}))
        encoder = cls(column=column, services=services, default=MISSING)
        tokens = encoder.encode(pa.array(ports, pa.float64()))[:, 0]
        totals = np.bincount(tokens, weights=counts.counts_, minlength=len(NETWORK_STATES))
        totals[MISSING] = counts.num_missing_
        totals[[UNSEEN, ABSENT]] = -1
        return cls(column=column, services=services, default=int(totals.argmax()))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot: special states, ranges, services."""
        ranges = tuple(name for name, _, _ in PORT_RANGES)
        return (
            Slot(
                name=self.column,
                special_states=NETWORK_STATES,
                values=(*ranges, *self.services),
                default=self.default,
            ),
        )

    @cached_property
    def _token_of_port(self) -> Int[np.ndarray, " ports"]:
        tokens = np.empty(1 << 16, np.int32)
        for index, (_, first, end) in enumerate(PORT_RANGES):
            tokens[first:end] = len(NETWORK_STATES) + index
        first_service = len(NETWORK_STATES) + len(PORT_RANGES)
        for port, name in SERVICES.items():
            if name in self.services:
                tokens[port] = first_service + self.services.index(name)
        return tokens

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values 1"]:
        """Token of each port; an invalid port (fraction, negative or too large) is unseen."""
        numbers = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
        is_port = (numbers >= 0) & (numbers < 1 << 16) & (np.floor(numbers) == numbers)
        ports = np.where(is_port, numbers, 0).astype(np.int32)
        tokens = np.where(is_port, self._token_of_port[ports], UNSEEN)
        tokens[np.isnan(numbers)] = MISSING
        return tokens.astype(np.int32)[:, None]


def _tokens_of(values: pa.Array, token_of: Callable[[str], int]) -> Int[np.ndarray, " values"]:
    """`token_of` of each text that is not null; null gives -1."""
    tokens = [-1 if value is None else token_of(value) for value in values.to_pylist()]
    return np.array(tokens, np.int32)


@dataclass(frozen=True, kw_only=True)
class AddressEncoder:
    """Tokens of an address: its scope, or inside and outside if the user's networks are set."""

    column: str
    networks: tuple[str, ...]
    """Networks (`10.1.0.0/16`) that count as inside; empty: private and public instead."""
    default: int

    @classmethod
    def fit(cls, column: str, counts: ValueCounts, networks: tuple[str, ...]) -> "AddressEncoder":
        """The encoder for what was counted."""
        encoder = cls(column=column, networks=networks, default=MISSING)
        totals = Counter({MISSING: counts.num_missing_})
        tokens = encoder.encode(pa.array([*counts.counts_], pa.string()))[:, 0].tolist()
        for token, count in zip(tokens, counts.counts_.values(), strict=True):
            totals[token] += count
        del totals[UNSEEN]
        default = max(sorted(totals), key=lambda token: totals[token])
        return cls(column=column, networks=networks, default=default)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot: special states, then scopes."""
        return (
            Slot(
                name=self.column, special_states=NETWORK_STATES, values=ADDRESS_SCOPES, default=self.default
            ),
        )

    @cached_property
    def _inside(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(network, strict=False) for network in self.networks)

    def _token(self, address: str) -> int:
        scope = address_scope(address, self._inside)
        return UNSEEN if scope is None else len(NETWORK_STATES) + ADDRESS_SCOPES.index(scope)

    @cached_property
    def _token_of_interval(self) -> tuple[UInt32[np.ndarray, " intervals"], Int32[np.ndarray, " intervals"]]:
        """First addresses of intervals of IPv4 that have one scope each, and the token of each interval."""
        inside = [network for network in self._inside if isinstance(network, IPv4Network)]
        starts = {0}
        for network in (*map(IPv4Network, SPECIAL_NETWORKS), *inside):
            starts |= {int(network.network_address), int(network.broadcast_address) + 1}
        firsts = sorted(start for start in starts if start < 1 << 32)
        tokens = [self._token(str(IPv4Address(first))) for first in firsts]
        return np.array(firsts, np.uint32), np.array(tokens, np.int32)

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values 1"]:
        """Token of each address; an invalid address is unseen."""
        values = values.cast(pa.string())  # of a column without any value, or of large or viewed text
        tokens = np.full(len(values), MISSING, np.int32)
        is_ipv4 = _mask(pc.match_substring_regex(values, _IPV4).fill_null(fill_value=False))
        is_other = _mask(values.is_valid()) & ~is_ipv4
        firsts, token_of = self._token_of_interval
        numbers = _ipv4_numbers(values.filter(pa.array(is_ipv4)))
        tokens[is_ipv4] = token_of[np.searchsorted(firsts, numbers, side="right") - 1]
        tokens[is_other] = _tokens_of(values.filter(pa.array(is_other)), self._token)
        return tokens[:, None]


def _mask(chosen: pa.Array) -> Bool[np.ndarray, " values"]:
    return np.asarray(chosen.to_numpy(zero_copy_only=False), np.bool_)


def _ipv4_numbers(texts: pa.Array) -> UInt32[np.ndarray, " texts"]:
    """The addresses as numbers."""
    octets = pc.split_pattern(texts, ".").flatten().cast(pa.uint32()).to_numpy()
    return octets.reshape(-1, 4) @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.uint32)


_MAC = re.compile(r"[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}")
_BROADCAST = IPv4Address("255.255.255.255")


def address_scope(text: str, inside: Iterable[IPv4Network | IPv6Network] = ()) -> str | None:
    """The scope of the address `text`; None if it is not an address.

    >>> address_scope("10.0.0.7"), address_scope("2606:4700::1111"), address_scope("localhost")
    ('private', 'public', None)
    """
    if _MAC.fullmatch(text):
        return _mac_scope(int(text[:2], 16), is_broadcast=set(text.lower()) <= set("f:-"))
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    networks = tuple(inside)
    if any(address in network for network in networks):
        return "inside"
    return _special_scope(address) or _unicast_scope(address, has_networks=bool(networks))


def _mac_scope(first_byte: int, *, is_broadcast: bool) -> str:
    if is_broadcast:
        return "broadcast"
    return "multicast" if first_byte & 1 else "mac"


def _special_scope(address: IPv4Address | IPv6Address) -> str | None:
    if address == _BROADCAST:
        return "broadcast"
    rules = {
        "unspecified": address.is_unspecified,
        "loopback": address.is_loopback,
        "multicast": address.is_multicast,
        "link_local": address.is_link_local,
        "reserved": address.is_reserved,
    }
    return next((scope for scope, holds in rules.items() if holds), None)


def _unicast_scope(address: IPv4Address | IPv6Address, *, has_networks: bool) -> str:
    if has_networks:
        return "outside"
    return "private" if address.is_private else "public"


@dataclass(frozen=True, kw_only=True)
class FlagsEncoder:
    """Tokens of TCP flags: one slot per bit, so that a new combination consists of known tokens."""

    column: str
    is_hex: bool
    """Whether two digits without prefix are hexadecimal (`1b`, `02`), as some sensors write them."""
    defaults: tuple[int, ...]
    """Most frequent token of each bit."""

    @classmethod
    def fit(cls, column: str, counts: ValueCounts) -> "FlagsEncoder":
        """The encoder for what was counted."""
        is_hex = _looks_hexadecimal(counts.counts_)
        totals = np.zeros((len(FLAG_BITS), len(NETWORK_STATES) + 2), np.int64)
        totals[:, MISSING] = counts.num_missing_
        for text, count in counts.counts_.items():
            bits = read_flags(text, is_hex=is_hex)
            if bits is not None:
                values = bits >> np.arange(len(FLAG_BITS)) & 1
                totals[np.arange(len(FLAG_BITS)), len(NETWORK_STATES) + values] += count
        return cls(column=column, is_hex=is_hex, defaults=tuple(totals.argmax(axis=1).tolist()))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot per bit: special states, 0, 1."""
        return tuple(
            Slot(
                name=f"{self.column}.{bit}", special_states=NETWORK_STATES, values=("0", "1"), default=default
            )
            for bit, default in zip(FLAG_BITS, self.defaults, strict=True)
        )

    def _bits(self, text: str) -> int:
        bits = read_flags(text, is_hex=self.is_hex)
        return -2 if bits is None else bits

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values slots"]:
        """Token of each bit; text without valid flags is unseen in every slot."""
        bits = _tokens_of(values, self._bits)[:, None]
        tokens = len(NETWORK_STATES) + (bits >> np.arange(len(FLAG_BITS), dtype=np.int32) & 1)
        tokens[bits[:, 0] == -1] = MISSING
        tokens[bits[:, 0] == -2] = UNSEEN
        return tokens.astype(np.int32)


_FLAG_LETTERS = {letter: 1 << bit for bit, letter in enumerate("FSRPAUEC")} | {"W": 1 << 7}
_FLAG_NAMES = {name.upper(): 1 << bit for bit, name in enumerate(FLAG_BITS)} | {"NONE": 0, "NULL": 0}
_HEX_PAIR = re.compile(r"[0-9a-f]{2}")
_NUM_FLAG_VALUES = 1 << 12  # the header has twelve flag bits; the upper four are reserved


def _looks_hexadecimal(values: Iterable[str]) -> bool:
    """Whether all values are two hexadecimal digits and some are not decimal."""
    texts = list(values)
    return all(_HEX_PAIR.fullmatch(value) for value in texts) and any(
        not value.isdecimal() or value.startswith("0") for value in texts
    )


def read_flags(text: str, *, is_hex: bool = False) -> int | None:
    """The flag bits in `text`; None if it has no valid flags.

    >>> [read_flags(text) for text in (".AP.SF", "SYN|ACK", "0x1b", "27", "SAPF", "what?")]
    [27, 18, 27, 27, 27, None]
    """
    if is_hex and _HEX_PAIR.fullmatch(text):
        return int(text, 16)
    bits = _read_integer(text)
    if bits is not None:
        return bits if 0 <= bits < _NUM_FLAG_VALUES else None
    names = [name for name in re.split(r"[|,;+ /&_-]+", text.upper()) if name]
    if names and all(name in _FLAG_NAMES for name in names):
        return _union(_FLAG_NAMES[name] for name in names)
    letters = re.sub(r"[.\-_* ]", "", text).upper()
    if text and all(letter in _FLAG_LETTERS for letter in letters):
        return _union(_FLAG_LETTERS[letter] for letter in letters)
    return None


def _read_integer(text: str) -> int | None:
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,8}", text):
        return int(text, 16)
    if re.fullmatch(r"[0-9]{1,9}(?:\.0+)?", text):
        return int(text.split(".")[0])
    return None


def _union(bits: Iterable[int]) -> int:
    result = 0
    for bit in bits:
        result |= bit
    return result
