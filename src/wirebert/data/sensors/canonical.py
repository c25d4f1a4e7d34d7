"""The canonical columns of sensor formats (`schema/known/canonical.toml`) and their names in each format.

Values are normalised here too: one spelling for protocols and services, one clock, bytes of IP packets.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import change_texts
from wirebert.data.schema.library import known_schemas
from wirebert.data.schema.schema import Column, FlowSchema

ETHERNET_HEADER_BYTES = 14
"""Bytes before each IP packet in a capture on Ethernet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorTable:
    """The names of the canonical columns in one format, and the translation of its values."""

    name: str
    title: str
    """The name of the format for people."""
    columns: Mapping[str, str]
    """Canonical column -> column of the format with the same values."""
    remedy: str = "give a log with rows"
    """What to do where a log has no flows."""
    own_columns: tuple[Column, ...] = ()
    """Columns that only this format has, or that have another meaning than the canonical column of that
    name."""
    services: Mapping[str, str] = field(default_factory=dict)
    """Service -> Zeek's name; other services keep their name."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Canonical column -> value of the format -> canonical value; other values are kept."""
    states: Mapping[str, str] = field(default_factory=dict)
    """Connection state of the format -> Zeek's."""
    joined: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Other log or event -> canonical column -> its field there."""
    frames: Mapping[str, str] = field(default_factory=dict)
    """Canonical column of IP bytes -> column that counts whole frames."""
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Canonical label column, or other column that only some logs have -> its names in the format."""
    only_where: Mapping[str, str] = field(default_factory=dict)
    """Column -> the column that must be above 0 for this one to have a value."""
    history: Mapping[str, str] = field(default_factory=dict)
    """Letter of a connection's history -> its TCP flags."""
    max_gap_s: float = 0.0
    """Longest gap in seconds between a one-way record and its answer."""


@cache
def sensor_table(name: str) -> SensorTable:
    """The table of a built-in format: zeek, suricata, nfdump, argus or ton_iot."""
    return parse_sensor_table(name, read_words(f"{name}.toml"))


def parse_sensor_table(name: str, words: Mapping[str, object]) -> SensorTable:
    """The table of a format from its TOML file.

    >>> parse_sensor_table("toy", {"title": "Toy", "columns": {"src_ip": "from"}}).columns
    {'src_ip': 'from'}
    """
    import msgspec  # here, as it takes a while to load

    table = msgspec.convert({**words, "name": name}, SensorTable)
    if "own" not in words:
        return table
    own = FlowSchema.from_dict({"name": name, "columns": words["own"]})
    return replace(table, own_columns=own.columns)


@cache
def read_words(file: str) -> Mapping[str, object]:
    """A TOML file of `sensors/`."""
    return tomllib.loads(Path(__file__).with_name(file).read_text(encoding="utf-8"))


@cache
def canonical_columns() -> Mapping[str, Column]:
    """The canonical columns by name, in their order."""
    return {column.name: column for column in known_schemas()["canonical"].columns}


def flow_schema(name: str, names: Iterable[str], own_columns: Sequence[Column] = ()) -> FlowSchema:
    """The canonical schema, limited to the columns `names`, then the format's own columns.

    >>> [column.name for column in flow_schema("zeek", ["protocol", "ts"]).columns]
    ['ts', 'protocol']
    """
    wanted = set(names)
    by_name = {**canonical_columns(), **{column.name: column for column in own_columns}}
    return FlowSchema(name=name, columns=tuple(by_name[key] for key in by_name if key in wanted))


def protocol_names(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Protocols in lower case, numbers by name.

    >>> protocol_names(pa.array(["TCP", "17", "ipv6-icmp"])).to_pylist()
    ['tcp', 'udp', 'icmp']
    """
    names_by_spelling = cast(Mapping[str, str], read_words("states.toml")["protocols"])

    def name(text: str) -> str:
        lower = text.strip().lower()
        return names_by_spelling.get(lower, lower)

    return change_texts(column, name)


def service_names(column: pa.ChunkedArray | pa.Array, table: SensorTable) -> pa.Array:
    """Services by Zeek's names; several services of one flow are sorted and joined by a semicolon.

    >>> service_names(pa.array(["tls", "failed", "smb,gssapi", "-"]), sensor_table("suricata")).to_pylist()
    ['ssl', None, 'gssapi;smb', None]
    """

    def name(text: str) -> str | None:
        # Zeek 7 writes -http for a service that was recognised and later ruled out.
        words = {word.strip().lower() for word in re.split(r"[,;]", text) if not word.strip().startswith("-")}
        return ";".join(sorted({table.services.get(word, word) for word in words} - {""})) or None

    return change_texts(column, name)


def ip_bytes(frame_bytes: pa.Array, packets: pa.Array, header_bytes: int) -> pa.Array:
    """Bytes of IP packets, from bytes of whole frames; never below zero.

    >>> ip_bytes(pa.array([120]), pa.array([2]), 14).to_pylist()
    [92]
    """
    content = pc.subtract(frame_bytes, pc.multiply(packets, pa.scalar(header_bytes)))
    return pc.if_else(pc.less(content, pa.scalar(0)), pa.scalar(0, pa.int64()), content)


def link_header_bytes(protocols: pa.Array, frame_bytes: pa.Array, packets: pa.Array) -> int:
    """Link-layer bytes of each packet: 0 if packets are too small for Ethernet frames, else 14.

    A capture inside a tunnel has no link layer: TCP packets of 40 bytes and UDP packets of 28 bytes occur
    there.

    >>> link_header_bytes(pa.array(["tcp"]), pa.array([104]), pa.array([2]))
    0
    """
    smallest = pc.if_else(pc.equal(protocols, pa.scalar("tcp")), 40, 28)
    is_ip = pc.is_in(protocols, value_set=pa.array(["tcp", "udp"]))
    room = pc.subtract(frame_bytes, pc.multiply(packets, pc.add(smallest, ETHERNET_HEADER_BYTES)))
    is_too_small = pc.and_(is_ip, pc.and_(pc.greater(packets, pa.scalar(0)), pc.less(room, pa.scalar(0))))
    return 0 if pc.any(is_too_small).as_py() else ETHERNET_HEADER_BYTES
