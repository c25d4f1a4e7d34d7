"""Suricata's eve.json -> canonical columns: its flow events, joined by flow_id with alerts and with
application-layer events (dns, http, tls, quic). Other events, such as statistics, are not flows.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import change_texts, combine_chunks, epoch_texts, epoch_us, flat, to_texts
from wirebert.data.dialect import Compression
from wirebert.data.readers.json_layout import json_blocks
from wirebert.data.readers.lines import parse_json
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import (
    SensorTable,
    flow_schema,
    ip_bytes,
    link_header_bytes,
    protocol_names,
    sensor_table,
    service_names,
)
from wirebert.data.sensors.side_table import SideTable, SideTableBuilder
from wirebert.data.sensors.states import bits_of, conn_states, flag_texts, header_bits, is_protocol
from wirebert.shapes import Bool, UInt8, UInt64

_TEXT, _COUNT = pa.string(), pa.int64()
_FLOW = pa.struct(
    [
        ("pkts_toserver", _COUNT),
        ("pkts_toclient", _COUNT),
        ("bytes_toserver", _COUNT),
        ("bytes_toclient", _COUNT),
        ("start", _TEXT),
        ("end", _TEXT),
    ]
)
_COMMON = [("event_type", _TEXT), ("flow_id", _COUNT)]
_FLOW_FIELDS = pa.schema(
    [
        *_COMMON,
        *[(name, _TEXT) for name in ("src_ip", "dest_ip", "proto", "app_proto")],
        ("src_port", _COUNT),
        ("dest_port", _COUNT),
        ("vlan", pa.list_(_COUNT)),
        ("flow", _FLOW),
        ("tcp", pa.struct([("tcp_flags_ts", _TEXT), ("tcp_flags_tc", _TEXT)])),
    ]
)
_ONE_WAY = pa.struct([("pkts", _COUNT), ("bytes", _COUNT), ("start", _TEXT), ("end", _TEXT)])
"""A `netflow` event counts one direction."""
_HASH = pa.struct([("hash", _TEXT)])
_QUERY = [("rrname", _TEXT), ("rrtype", _TEXT)]
_EVENT_FIELDS: dict[str, pa.DataType] = {
    "alert": pa.struct([("signature", _TEXT), ("category", _TEXT), ("severity", _COUNT)]),
    "dns": pa.struct([*_QUERY, ("rcode", _TEXT), ("flags", _TEXT), ("queries", pa.list_(pa.struct(_QUERY)))]),
    "http": pa.struct(
        [
            *[(name, _TEXT) for name in ("hostname", "url", "http_user_agent", "http_method", "protocol")],
            ("http_content_type", _TEXT),
            ("status", _COUNT),
            ("length", _COUNT),
        ]
    ),
    "tls": pa.struct(
        [
            *[(name, _TEXT) for name in ("sni", "version", "subject", "issuerdn", "ja4")],
            ("session_resumed", pa.bool_()),
            ("ja3", _HASH),
            ("ja3s", _HASH),
        ]
    ),
    "quic": pa.struct(
        [*[(name, _TEXT) for name in ("version", "sni", "ja4")], ("ja3", _HASH), ("ja3s", _HASH)]
    ),
}
DNS_FLAGS = {"dns_AA": 0x0400, "dns_RD": 0x0100, "dns_RA": 0x0080}
"""Bits of a DNS response header (RFC 1035, 4.1.1)."""
VLAN_TAG_BYTES = 4
HEX_BITS = re.compile(r"[0-9a-fA-F]{1,4}")
EVENT_TYPE = re.compile(rb'"event_type"\s*:\s*"([^"\\]*)"')


@dataclass(frozen=True, kw_only=True, slots=True)
class SuricataFlows:
    """The flows of an eve.json."""

    path: Path
    where: str
    compression: Compression
    event_type: str = "flow"
    """The events that are flows: `flow`, or `netflow` in a log without these."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Canonical label column -> field of the events."""
    raw_names: tuple[str, ...] = ()
    joined_files: tuple[Path, ...] = ()
    format: str = "suricata"

    @property
    def title(self) -> str:
        """Suricata, and the kind of events where it is not the usual one."""
        return f"Suricata EVE{'' if self.event_type == 'flow' else ', one-way netflow events'}"

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical columns; one-way events tell nothing about the other way."""
        table = sensor_table("suricata")
        joined = [name for columns in table.joined.values() for name in columns]
        computed = ["conn_state", "tcp_flags", "duration_s", "num_alerts"]
        names = dict.fromkeys([*table.columns, *table.frames, *computed, *joined, *self.labels])
        unknown = () if self.event_type == "flow" else ("dst_packets", "dst_ip_bytes", *computed[:2])
        return tuple(name for name in names if name not in unknown)

    @property
    def schema(self) -> FlowSchema:
        """The canonical schema of flow events."""
        return flow_schema("suricata", self.names)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of flows, in the order in which they ended."""
        table = sensor_table("suricata")
        sides = self._side_tables(table, block_bytes)
        header_bytes: int | None = None
        schema = _FLOW_FIELDS
        for raw in self.labels.values():
            schema = schema.append(pa.field(raw, _TEXT))
        if self.event_type != "flow":
            schema = schema.append(pa.field(self.event_type, _ONE_WAY))
        parse_stats = parse_stats or ParseStats()
        for block in json_blocks(self.path, self.compression, block_bytes, self.where, parse_stats):
            before = parse_stats.num_rows
            events = parse_json(block, schema, parse_stats)
            chosen = events.filter(pc.equal(events["event_type"], pa.scalar(self.event_type)))
            flows = _flattened(chosen if self.event_type == "flow" else _two_way(chosen))
            parse_stats.num_rows = before + flows.num_rows
            parse_stats.num_comments += events.num_rows - flows.num_rows
            for kind, count in Counter(map(str, events["event_type"].to_pylist())).items():
                if kind != self.event_type:
                    parse_stats.events[kind] = parse_stats.events.get(kind, 0) + count
            if flows.num_rows == 0:
                continue
            header_bytes = _header_bytes(flows) if header_bytes is None else header_bytes
            canonical = _canonical(flows, table, header_bytes)
            canonical |= {name: combine_chunks(flows[raw]) for name, raw in self.labels.items()}
            keys = _flow_keys(flows["flow_id"])
            for kind, side in sides.items():
                records, counts, has_record = side.look_up(keys)
                for name in records.column_names:
                    column, before = combine_chunks(records[name]), canonical.get(name)
                    # quic and tls events both name the server.
                    canonical[name] = column if before is None else pc.if_else(has_record, column, before)
                if kind == "alert":
                    canonical["num_alerts"] = pa.array(counts)
            yield pa.table({name: canonical[name] for name in self.names})

    def _side_tables(self, table: SensorTable, block_bytes: int) -> dict[str, SideTable]:
        """The events of each kind by flow, in one pass."""
        schemas = {
            kind: pa.schema([(name, pa.string()) for name in columns])
            for kind, columns in table.joined.items()
        }
        builders = {kind: SideTableBuilder(schema) for kind, schema in schemas.items()}
        fields = pa.schema([*_COMMON, *_EVENT_FIELDS.items()])
        for block in json_blocks(self.path, self.compression, block_bytes, self.where):
            events = parse_json(block, fields, ParseStats())
            for kind, columns in table.joined.items():
                event_type = kind.removesuffix("_answer")
                chosen = _flattened(events.filter(pc.equal(events["event_type"], pa.scalar(event_type))))
                if kind != event_type:
                    chosen = chosen.filter(pc.is_valid(chosen["dns.rcode"]))
                if event_type == "dns":
                    chosen = _with_query(chosen)
                if chosen.num_rows:
                    arrays = {
                        name: _plain(combine_chunks(chosen[raw]), table.values.get(name, {}))
                        for name, raw in columns.items()
                    }
                    builders[kind].add(_flow_keys(chosen["flow_id"]), pa.table(arrays, schema=schemas[kind]))
        return {kind: builder.finish() for kind, builder in builders.items()}


def open_suricata(path: Path, head: bytes, compression: Compression, where: str) -> SuricataFlows | None:
    """The EVE log that begins with `head`; None for another file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = start.split(b"\n", 1)[0]
    if not (start.startswith(b"{") and EVENT_TYPE.search(line) and b'"timestamp"' in line):
        return None
    log = SuricataFlows(path=path, where=where, compression=compression)
    flow = next((one for one in start.split(b"\n") if b"flow" in one and is_flow(one)), b"")
    if not flow:
        events = count_events(log)
        event_type = "netflow" if events["netflow"] and not events["flow"] else "flow"
        log = replace(log, event_type=event_type)
        flow = next((one for one in start.split(b"\n") if b"flow" in one), b"")
    labels = {
        name: raw
        for name, spellings in sensor_table("suricata").labels.items()
        for raw in spellings[::-1]
        if re.search(rb'"' + re.escape(raw.encode()) + rb'"\s*:\s*(?:"|\d)', flow)
    }
    return replace(log, labels=labels)


def is_flow(line: bytes) -> bool:
    """Whether a line holds a flow event."""
    return any(kind == b"flow" for kind in EVENT_TYPE.findall(line))


def count_events(log: SuricataFlows, block_bytes: int = 1 << 23) -> Counter[str]:
    """Events of each kind, up to the block with the first flow."""
    events: Counter[str] = Counter()
    for block in json_blocks(log.path, log.compression, block_bytes, log.where):
        events.update(kind.decode("utf-8", "replace") for kind in EVENT_TYPE.findall(block))
        if events["flow"]:
            break
    return events


def _two_way(events: pa.Table) -> pa.Table:
    """`netflow` events with the fields of flows; what goes the other way is null."""
    one_way = events["netflow"].combine_chunks()
    nothing = pa.nulls(events.num_rows, _COUNT)
    parts = {field.name: pc.struct_field(one_way, field.name) for field in _ONE_WAY}
    values = [parts["pkts"], nothing, parts["bytes"], nothing, parts["start"], parts["end"]]
    flow = pa.StructArray.from_arrays(values, fields=list(_FLOW))
    return events.set_column(events.column_names.index("flow"), "flow", flow)


def _flattened(table: pa.Table) -> pa.Table:
    """Structures as columns `outer.inner`."""
    return flat(table).combine_chunks()


def _with_query(events: pa.Table) -> pa.Table:
    """DNS events with name and type of the first of their `queries` (version 3), and with the bits of
    `flags`."""
    first = pc.list_element(
        pc.list_slice(combine_chunks(events["dns.queries"]), 0, 1, return_fixed_size_list=True), 0
    )
    for name, _ in _QUERY:
        column = pc.coalesce(combine_chunks(events[f"dns.{name}"]), pc.struct_field(first, name))
        events = events.set_column(events.column_names.index(f"dns.{name}"), f"dns.{name}", column)
    for name, bit in DNS_FLAGS.items():
        bits = change_texts(events["dns.flags"], lambda text, bit=bit: _bit(text, bit))
        events = events.append_column(name, bits)
    return events


def _bit(text: str, bit: int) -> str | None:
    return str(int(int(text, 16) & bit > 0)) if HEX_BITS.fullmatch(text) else None


def _plain(column: pa.Array, words: Mapping[str, str]) -> pa.Array:
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    text = column.cast(pa.string())
    return change_texts(text, lambda word: words.get(word, word)) if words else text


def _flow_keys(column: pa.ChunkedArray) -> UInt64[np.ndarray, " flows"]:
    return combine_chunks(column).cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64).view(np.uint64)


def _header_bytes(flows: pa.Table) -> int:
    protocols = protocol_names(flows["proto"])
    both_bytes = pc.add(
        combine_chunks(flows["flow.bytes_toserver"]), combine_chunks(flows["flow.bytes_toclient"])
    )
    both_packets = pc.add(
        combine_chunks(flows["flow.pkts_toserver"]), combine_chunks(flows["flow.pkts_toclient"])
    )
    return link_header_bytes(protocols, both_bytes, both_packets)


def _canonical(flows: pa.Table, table: SensorTable, header_bytes: int) -> dict[str, pa.Array]:
    canonical = {name: combine_chunks(flows[raw]) for name, raw in table.columns.items()}
    canonical["protocol"] = protocol_names(canonical["protocol"])
    canonical["service"] = service_names(canonical["service"], table)
    start_us, end_us = epoch_us(flows["flow.start"]), epoch_us(flows["flow.end"])
    canonical["ts"] = epoch_texts(start_us)
    canonical["duration_s"] = pc.divide(pc.subtract(end_us, start_us).cast(pa.float64(), safe=False), 1e6)
    canonical["uid"] = to_texts(canonical["uid"])
    tags = pc.list_value_length(combine_chunks(flows["vlan"])).cast(pa.int64()).fill_null(0)
    for side, name in (("src", "src_ip_bytes"), ("dst", "dst_ip_bytes")):
        packets = canonical[f"{side}_packets"]
        tag_bytes = pc.multiply(pc.multiply(packets, tags), VLAN_TAG_BYTES if header_bytes else 0)
        frames = pc.subtract(combine_chunks(flows[table.frames[name]]), tag_bytes)
        canonical[name] = ip_bytes(frames, packets, header_bytes)
    is_tcp = is_protocol(canonical["protocol"], "tcp")
    src, dst = _flags(flows["tcp.tcp_flags_ts"]), _flags(flows["tcp.tcp_flags_tc"])
    canonical["tcp_flags"] = flag_texts(src | dst, is_tcp)
    sent, answered = _some(canonical["src_packets"]), _some(canonical["dst_packets"])
    canonical["conn_state"] = conn_states(canonical["protocol"], src, dst, sent, answered)
    return canonical


def _flags(column: pa.ChunkedArray) -> UInt8[np.ndarray, " flows"]:
    return bits_of(column, lambda text: header_bits(int(text, 16)) if HEX_BITS.fullmatch(text) else 0)


def _some(packets: pa.Array) -> Bool[np.ndarray, " flows"]:
    return packets.fill_null(0).to_numpy() > 0
