"""`nfdump -o csv` -> canonical columns; two one-way records of opposite directions make one flow."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import epoch_texts, epoch_us, to_integers, to_texts
from wirebert.data.dialect import Compression
from wirebert.data.hashing import mix
from wirebert.data.readers.lines import (
    header_names,
    line_blocks,
    parse_delimited,
    without_first_line,
    without_summary,
)
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import flow_schema, protocol_names, sensor_table
from wirebert.data.sensors.side_table import text_keys
from wirebert.data.sensors.states import bits_of, conn_states, flag_bits, flag_texts, is_protocol
from wirebert.shapes import Bool, Float64, Int64, UInt8

NFDUMP_REQUIRED = frozenset("ts te td sa da sp dp pr flg ipkt ibyt".split())
NEW_NAMES = {
    "firstSeen": "ts",
    "duration": "td",
    "proto": "pr",
    "srcAddr": "sa",
    "srcPort": "sp",
    "dstAddr": "da",
    "dstPort": "dp",
    "flags": "flg",
    "packets": "ipkt",
    "inPackets": "ipkt",
    "bytes": "ibyt",
    "inBytes": "ibyt",
    "outPackets": "opkt",
    "outBytes": "obyt",
}
"""Name since 1.7.5 -> name before."""
NEW_REQUIRED = frozenset("ts td sa da sp dp pr ipkt ibyt".split())
SUMMARY = re.compile(rb"^Summary\r?\n", re.MULTILINE)
ICMP_TYPE = re.compile(r"(\d{1,3})\.(\d{1,3})")
MAX_WAITING = 1_000_000
"""Most records that wait for an answer in a later block."""

_MICRO = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class NfdumpFlows:
    """The records of an nfdump CSV, paired."""

    path: Path
    where: str
    compression: Compression
    fields: tuple[str, ...]
    """The columns by their names before 1.7.5."""
    raw_names: tuple[str, ...]
    title: str = "nfdump CSV, one-way records paired"
    joined_files: tuple[Path, ...] = ()
    format: str = "nfdump"

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical columns; without flags the state of a connection is unknown."""
        return (
            *"ts src_ip src_port dst_ip dst_port protocol".split(),
            *(("conn_state", "tcp_flags") if "flg" in self.fields else ()),
            *"duration_s src_ip_bytes dst_ip_bytes src_packets dst_packets".split(),
        )

    @property
    def schema(self) -> FlowSchema:
        """The canonical schema of these columns."""
        return flow_schema("nfdump", self.names)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of flows, in the order of their first records.

        A record waits for its answer until the log is `max_gap_s` past its end. Without an answer it is a
        separate flow.
        """
        max_gap_us = int(sensor_table("nfdump").max_gap_s * _MICRO)
        waiting = _no_records()
        for rows in self._records(block_bytes, parse_stats or ParseStats()):
            records = pa.concat_tables([waiting, _plain_records(rows)]).combine_chunks()
            now_us = pc.max(records["start_us"]).as_py() or 0
            pairs = pair_records(records, max_gap_us)
            still_waits = _may_be_answered(records, pairs, now_us - max_gap_us)
            waiting = records.filter(pa.array(still_waits))
            yield _canonical(records, pairs, ~still_waits).select(list(self.names))
        if waiting.num_rows:
            pairs = np.full(waiting.num_rows, -1, np.int64)
            yield _canonical(waiting, pairs, np.ones(waiting.num_rows, np.bool_)).select(list(self.names))

    def _records(self, block_bytes: int, parse_stats: ParseStats) -> Iterator[pa.Table]:
        """Rows of the file, without the summary at its end."""
        lines = line_blocks(self.path, self.compression, block_bytes, self.where, parse_stats)
        for text in without_summary(without_first_line(lines, parse_stats), SUMMARY, parse_stats):
            yield parse_delimited(
                text, self.fields, ",", quote=None, where=self.where, parse_stats=parse_stats
            )


def open_nfdump(path: Path, head: bytes, compression: Compression, where: str) -> NfdumpFlows | None:
    """The nfdump CSV that begins with `head`; None for another file."""
    raw_names = header_names(head, ",")
    is_new = "firstSeen" in raw_names
    fields = tuple(NEW_NAMES.get(name, name) for name in raw_names) if is_new else raw_names
    required = NEW_REQUIRED if is_new else NFDUMP_REQUIRED
    if not set(fields) >= required or len(set(fields)) < len(fields):
        return None
    return NfdumpFlows(path=path, where=where, compression=compression, fields=fields, raw_names=raw_names)


def pair_records(records: pa.Table, max_gap_us: int) -> Int64[np.ndarray, " records"]:
    """For the first record of each pair the row of its answer, for the answer -2, for a record without answer
    -1.

    Records pair when they have the same protocol and ends, one way and the other, and the later begins no
    more than `max_gap_us` after the earlier ended. Each record is in one pair at most, the earliest first.
    """
    if records.num_rows == 0:
        return np.empty(0, np.int64)
    forward, backward = _numbers(records, "forward"), _numbers(records, "backward")
    start_us, end_us = _numbers(records, "start_us"), _numbers(records, "end_us")
    key = np.minimum(forward, backward)
    order = np.lexsort((np.arange(len(key)), start_us, key))
    ahead, behind = order[:-1], order[1:]
    is_answer = (
        (forward[ahead] == backward[behind])
        & (forward[ahead] != forward[behind])
        & (start_us[behind] <= end_us[ahead] + max_gap_us)
        & ~_is_two_way(records)[ahead]
        & ~_is_two_way(records)[behind]
    )
    # In a run of records that answer each other (request, answer, request, answer) every second link is a
    # pair.
    position = np.arange(len(is_answer))
    run_start = np.maximum.accumulate(np.where(is_answer, 0, position + 1))
    chosen = np.flatnonzero(is_answer & ((position - run_start) % 2 == 0))
    pairs = np.full(records.num_rows, -1, np.int64)
    pairs[ahead[chosen]] = behind[chosen]
    pairs[behind[chosen]] = -2
    return _begun_by_the_client(records, pairs)


def _begun_by_the_client(
    records: pa.Table, pairs: Int64[np.ndarray, " records"]
) -> Int64[np.ndarray, " records"]:
    """The pairs, swapped where two records begin at the same time and the second one is the request.

    Whoever sends SYN without ACK asks. Clocks of whole seconds make this necessary.
    """
    first = np.flatnonzero(pairs >= 0)
    second = pairs[first]
    start_us, flags = _numbers(records, "start_us"), records["flags"].to_numpy()
    syn, ack = flag_bits("S"), flag_bits("A")
    asks = (flags & syn > 0) & (flags & ack == 0)
    turned = (start_us[first] == start_us[second]) & asks[second] & ~asks[first]
    pairs[second[turned]] = first[turned]
    pairs[first[turned]] = -2
    return pairs


def _plain_records(rows: pa.Table) -> pa.Table:
    """The columns for pairing, typed."""
    protocols = protocol_names(rows["pr"])
    ends = [to_texts(rows[name]) for name in ("sa", "sp", "da", "dp")]
    # Both ends are hashed separately, so that the two directions of a flow have each other's keys.
    left = mix(text_keys(ends[0]) ^ mix(text_keys(ends[1])))
    right = mix(text_keys(ends[2]) ^ mix(text_keys(ends[3])))
    kind = text_keys(protocols)
    start_us = epoch_us(rows["ts"])
    length_us = pa.array(np.round(_seconds(rows["td"]) * _MICRO).astype(np.int64))
    sent = {name: to_integers(rows[name]) for name in ("ipkt", "ibyt")}
    nothing = pa.array(np.zeros(rows.num_rows, np.int64))
    answered = {
        name: to_integers(rows[name]) if name in rows.column_names else nothing for name in ("opkt", "obyt")
    }
    return pa.table(
        {
            "start_us": start_us.fill_null(0),
            "end_us": pc.add(start_us.fill_null(0), length_us),
            "protocol": protocols,
            **dict(zip(("sa", "sp", "da", "dp"), ends, strict=True)),
            "flags": pa.array(
                bits_of(rows["flg"], flag_bits)
                if "flg" in rows.column_names
                else np.zeros(rows.num_rows, np.uint8)
            ),
            **{name: pc.coalesce(column, pa.scalar(0)) for name, column in {**sent, **answered}.items()},
            "forward": pa.array(mix(left ^ mix(right)) ^ kind),
            "backward": pa.array(mix(right ^ mix(left)) ^ kind),
        }
    )


def _no_records() -> pa.Table:
    texts = dict.fromkeys(("ts", "td", *NFDUMP_REQUIRED), pa.array([], pa.string()))
    return _plain_records(pa.table(texts))


def _may_be_answered(
    records: pa.Table, pairs: Int64[np.ndarray, " records"], horizon_us: int
) -> Bool[np.ndarray, " records"]:
    """Records without answer that ended after the horizon, the last `MAX_WAITING` of them."""
    waits = (pairs == -1) & (_numbers(records, "end_us") >= horizon_us) & ~_is_two_way(records)
    positions = np.flatnonzero(waits)
    waits[positions[: max(0, len(positions) - MAX_WAITING)]] = False
    return waits


def _canonical(
    records: pa.Table, pairs: Int64[np.ndarray, " records"], is_decided: Bool[np.ndarray, " records"]
) -> pa.Table:
    """One flow for each pair and for each decided record that has no answer."""
    first = np.flatnonzero((pairs >= -1) & is_decided)
    answer = pairs[first]
    has_answer = answer >= 0
    flows = records.take(pa.array(first, pa.int64()))
    back = records.take(pa.array(answer.clip(min=0), pa.int64()))

    def other_way(of_flow: str, of_answer: str) -> Int64[np.ndarray, " flows"]:
        """The reverse direction: counted by the record itself, or by its answer."""
        return np.where(has_answer, _numbers(back, of_answer), _numbers(flows, of_flow))

    end_us = np.maximum(_numbers(flows, "end_us"), np.where(has_answer, _numbers(back, "end_us"), 0))
    src_flags: UInt8[np.ndarray, " flows"] = flows["flags"].to_numpy()
    dst_flags = np.where(has_answer, back["flags"].to_numpy(), 0).astype(np.uint8)
    dst_packets = other_way("opkt", "ipkt")
    protocols = flows["protocol"].combine_chunks()
    has_src = _numbers(flows, "ipkt") > 0
    return pa.table(
        {
            "ts": epoch_texts(flows["start_us"].combine_chunks()),
            "src_ip": flows["sa"],
            "src_port": _icmp_ports(flows["sp"], flows["dp"], protocols, 1),
            "dst_ip": flows["da"],
            "dst_port": _icmp_ports(flows["dp"], flows["dp"], protocols, 2),
            "protocol": protocols,
            "conn_state": conn_states(protocols, src_flags, dst_flags, has_src, dst_packets > 0),
            "tcp_flags": flag_texts(src_flags | dst_flags, is_protocol(protocols, "tcp")),
            "duration_s": pa.array((end_us - _numbers(flows, "start_us")) / _MICRO),
            "src_ip_bytes": flows["ibyt"],
            "dst_ip_bytes": pa.array(other_way("obyt", "ibyt")),
            "src_packets": flows["ipkt"],
            "dst_packets": pa.array(dst_packets),
        }
    )


def _icmp_ports(ports: pa.ChunkedArray, joined: pa.ChunkedArray, protocols: pa.Array, part: int) -> pa.Array:
    """The ports; of ICMP as Zeek has them, type and code, which nfdump joins to `8.0` or 2048."""
    is_icmp = is_protocol(protocols, "icmp")
    texts = np.array(to_texts(ports).to_pylist(), object)
    for row in np.flatnonzero(is_icmp).tolist():
        if found := ICMP_TYPE.fullmatch(str(joined[row])):
            texts[row] = found[part]
        elif str(joined[row]).isdecimal():
            texts[row] = str(divmod(int(str(joined[row])), 256)[part - 1])
    return pa.array(texts.tolist(), pa.string())


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy()


def _is_two_way(records: pa.Table) -> Bool[np.ndarray, " records"]:
    """Records that already count both directions (`nfdump -b`)."""
    return _numbers(records, "opkt") > 0


def _seconds(column: pa.ChunkedArray) -> Float64[np.ndarray, " records"]:
    texts = pc.utf8_trim_whitespace(to_texts(column))
    is_number = pc.match_substring_regex(texts, r"^[0-9]+(\.[0-9]+)?$")
    numbers = pc.if_else(is_number, texts, "0").cast(pa.float64())
    return numbers.to_numpy(zero_copy_only=False)
