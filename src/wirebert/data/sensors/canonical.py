"""The columns that every sensor format gives, and what each format calls them: `schemas/canonical.toml`, `sensors/*.toml`.

Values become comparable here too: one spelling for protocols and services, one clock, bytes of IP packets.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.schema.library import (known_schemas)
from wirebert.data.schema.schema import (Column, FlowSchema)

ETHERNET_HEADER_BYTES = 14
"""What a capture on Ethernet counts in front of each IP packet."""

SENSORS = ("zeek", "suricata", "nfdump", "argus", "ton_iot")
"""Formats with a table of their own in `sensors/`."""
_STAMP = "%Y-%m-%dT%H:%M:%S"
_TIME = (
    r"^(?P<date>\d{4}[-/]\d{2}[-/]\d{2})[T ](?P<time>\d{2}:\d{2}:\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
    r"[ ]?(?:Z|(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2}))?$"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorTable:
    """What one format calls the canonical columns, and how its words become the canonical ones."""

    name: str
    title: str
    """How people call the format."""
    columns: Mapping[str, str]
    """Canonical column -> column of the format with the same values."""
    own: tuple[Column, ...] = ()
    """Columns that mean another thing than the canonical ones of their name, or that only this format has."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Service -> Zeek's word; what is not named keeps its own."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Canonical column -> value of the format -> canonical value; what is not named stays."""
    states: Mapping[str, str] = field(default_factory=dict)
    """State of the format -> Zeek's."""
    joined: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Other log or event -> canonical column -> its name there."""
    frames: Mapping[str, str] = field(default_factory=dict)
    """Canonical column of IP bytes -> column that counts whole frames."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Canonical label column -> the names it goes by."""
    only_where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the column that must hold more than 0 for this one to mean anything."""
    history: Mapping[str, str] = field(default_factory=dict)
    """Letter of a connection's history -> the TCP flags it stands for."""
    max_gap_s: float = 0.0
    """Seconds within which a one-way record is answered."""


@cache
def sensor_table(name: str) -> SensorTable:
    """The table of a format: zeek, suricata, nfdump, argus or ton_iot."""
    plain = cast(dict[str, Any], read_words(f"{name}.toml"))
    own = FlowSchema.from_dict({"name": name, "columns": plain["own"]}) if "own" in plain else None
    return SensorTable(
        name=name,
        title=plain["title"],
        columns=plain["columns"],
        own=own.columns if own else (),
        services=plain.get("services", {}),
        values=plain.get("values", {}),
        states=plain.get("states", {}),
        joined=plain.get("joined", {}),
        frames=plain.get("frames", {}),
        labels={label: tuple(names) for label, names in plain.get("labels", {}).items()},
        only_where=plain.get("only_where", {}),
        history=plain.get("history", {}),
        max_gap_s=plain.get("pairing", {}).get("max_gap_s", 0.0),
    )


@cache
def read_words(file: str) -> Mapping[str, object]:
    """A TOML file of `sensors/`."""
    return tomllib.loads(
        resources.files("wirebert.data").joinpath("sensors", file).read_text(encoding="utf-8")
    )


@cache
def canonical_columns() -> Mapping[str, Column]:
    """The canonical columns by name, in their order."""
    return {column.name: column for column in known_schemas()["canonical"].columns}


def flow_schema(name: str, names: Iterable[str], own: Sequence[Column] = ()) -> FlowSchema:
    """The canonical schema, limited to the columns called `names`, then what the format has of its own.

    >>> [column.name for column in flow_schema("zeek", ["protocol", "ts"]).columns]
    ['ts', 'protocol']
    """
    wanted = set(names)
    by_name = {**canonical_columns(), **{column.name: column for column in own}}
    return FlowSchema(name=name, columns=tuple(by_name[key] for key in by_name if key in wanted))


def change_texts(column: pa.ChunkedArray | pa.Array, change: Callable[[str], str | None]) -> pa.Array:
    """The column as text, each distinct value changed; null stays null, and `change` may give it.

    >>> change_texts(pa.array(["TCP", None, "UDP"]), str.lower).to_pylist()
    ['tcp', None, 'udp']
    """
    encoded = encode(column)
    texts = [None if text is None else change(str(text)) for text in encoded.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(encoded.indices)


def encode(column: pa.ChunkedArray | pa.Array) -> pa.DictionaryArray:
    """The column as one dictionary array."""
    array = flat(column)
    return array if isinstance(array, pa.DictionaryArray) else array.dictionary_encode()


def flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return cast(pa.Array, column.chunk(0))
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    return column.combine_chunks()


def texts_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as plain text; numbers as they print."""
    array = flat(column)
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary.take(array.indices)
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def integers_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """The column as int64; what is no whole number is null.

    >>> integers_of(pa.array(["60", "-", "x"])).to_pylist()
    [60, None, None]
    """
    array = flat(column)
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    encoded = encode(texts_of(array) if not isinstance(array, pa.DictionaryArray) else array)
    values = pc.utf8_trim_whitespace(encoded.dictionary)
    is_whole = pc.match_substring_regex(values, r"^[0-9]{1,18}$")
    return pc.if_else(is_whole, values, pa.scalar(None, pa.string())).cast(pa.int64()).take(encoded.indices)


def protocol_names(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Protocols in lower case, numbers by name.

    >>> protocol_names(pa.array(["TCP", "17", "ipv6-icmp"])).to_pylist()
    ['tcp', 'udp', 'icmp']
    """
    known = cast(Mapping[str, str], read_words("states.toml")["protocols"])

    def name(text: str) -> str:
        lower = text.strip().lower()
        return known.get(lower, lower)

    return change_texts(column, name)


def service_names(column: pa.ChunkedArray | pa.Array, table: SensorTable) -> pa.Array:
    """Services in Zeek's words; several of one flow sorted and joined by a semicolon.

    >>> service_names(pa.array(["tls", "failed", "smb,gssapi", "-"]), sensor_table("suricata")).to_pylist()
    ['ssl', None, 'gssapi;smb', None]
    """

    def name(text: str) -> str | None:
        # Zeek 7 writes -http for a service that was recognised and then proved not to be.
        words = {word.strip().lower() for word in re.split(r"[,;]", text) if not word.strip().startswith("-")}
        return ";".join(sorted({table.services.get(word, word) for word in words} - {""})) or None

    return change_texts(column, name)


def ip_bytes(frame_bytes: pa.Array, packets: pa.Array, header_bytes: int) -> pa.Array:
    """Bytes of IP packets, from those of whole frames; never below zero.

    >>> ip_bytes(pa.array([120]), pa.array([2]), 14).to_pylist()
    [92]
    """
    content = pc.subtract(frame_bytes, pc.multiply(packets, pa.scalar(header_bytes)))
    return pc.if_else(pc.less(content, pa.scalar(0)), pa.scalar(0, pa.int64()), content)


def link_header_bytes(protocols: pa.Array, frame_bytes: pa.Array, packets: pa.Array) -> int:
    """What the link layer added to each packet: nothing where packets are too small for Ethernet, else 14 bytes.

    A capture inside a tunnel has no link layer: there TCP packets of 40 bytes and UDP packets of 28 occur.

    >>> link_header_bytes(pa.array(["tcp"]), pa.array([104]), pa.array([2]))
    0
    """
    smallest = pc.if_else(pc.equal(protocols, pa.scalar("tcp")), 40, 28)
    is_ip = pc.is_in(protocols, value_set=pa.array(["tcp", "udp"]))
    room = pc.subtract(frame_bytes, pc.multiply(packets, pc.add(smallest, ETHERNET_HEADER_BYTES)))
    is_too_small = pc.and_(is_ip, pc.and_(pc.greater(packets, pa.scalar(0)), pc.less(room, pa.scalar(0))))
    return 0 if pc.any(is_too_small).as_py() else ETHERNET_HEADER_BYTES


def epoch_us(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Microseconds since 1970 of dates with times (a time without zone is taken for UTC); null for other texts.

    >>> epoch_us(pa.array(["1970-01-01T01:00:00.5+0100", "1970/01/01 00:00:01", "soon"])).to_pylist()
    [500000, 1000000, None]
    """
    encoded = encode(column)
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
    """Times as timestamps; null for days and hours that do not exist."""
    try:
        return stamps.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        # It does not say which one. The slower way reads 30 February as 1 or 2 March, so what it read is written again.
        read = pc.strptime(stamps, format=_STAMP, unit="s", error_is_null=True)
        return pc.if_else(pc.equal(pc.strftime(read, format=_STAMP), stamps), read, None)


def epoch_texts(us: pa.Array) -> pa.Array:
    """Decimal seconds, with six digits behind the point.

    >>> epoch_texts(pa.array([1_500_000, None])).to_pylist()
    ['1.500000', None]
    """
    seconds = pc.divide(us, 1_000_000)
    rest = pc.abs(pc.subtract(us, pc.multiply(seconds, 1_000_000)))
    digits = pc.utf8_lpad(rest.cast(pa.string()), 6, "0")
    return _joined(seconds.cast(pa.string()), digits, ".")


def _joined(left: pa.Array, right: pa.Array, mark: str) -> pa.Array:
    separator = pa.array([mark]).take(pa.array(np.zeros(len(left), np.int64), pa.int64()))
    return pc.binary_join_element_wise(left, right, separator)


def _digits(texts: pa.Array) -> pa.Array:
    """Digits as int64; no digits are 0."""
    return pc.if_else(pc.equal(texts, pa.scalar("")), "0", texts).cast(pa.int64())
