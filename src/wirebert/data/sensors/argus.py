"""Argus binetflow (comma- or tab-separated, CTU-13 and later) -> canonical columns."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import change_texts, epoch_texts, epoch_us, to_integers, to_texts
from wirebert.data.dialect import Compression
from wirebert.data.readers.lines import header_names, line_blocks, parse_delimited, without_first_line
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import (
    SensorTable,
    flow_schema,
    ip_bytes,
    link_header_bytes,
    protocol_names,
    sensor_table,
)
from wirebert.data.sensors.states import bits_of, conn_states, flag_bits, flag_texts, is_protocol
from wirebert.shapes import UInt8

ARGUS_REQUIRED = frozenset(
    "StartTime Dur Proto SrcAddr Sport Dir DstAddr Dport State TotPkts TotBytes SrcBytes".split()
)
_SIDES = (
    ("src_ip", "dst_ip"),
    ("src_port", "dst_port"),
    ("src_ip_bytes", "dst_ip_bytes"),
    ("src_packets", "dst_packets"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ArgusFlows:
    """The flows of a binetflow file."""

    path: Path
    where: str
    compression: Compression
    delimiter: str
    raw_names: tuple[str, ...]
    joined_files: tuple[Path, ...] = ()
    format: str = "argus"

    @property
    def title(self) -> str:
        """Argus and the delimiter."""
        return f"Argus binetflow, {'tab' if self.delimiter == chr(9) else 'comma'}-separated"

    @property
    def _columns(self) -> dict[str, str]:
        return {name: raw for name, raw in sensor_table("argus").columns.items() if raw in self.raw_names}

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical columns. CTU-13 does not count packets by direction, so both counts are absent there."""
        packets = ("dst_packets",) if "SrcPkts" in self.raw_names else ()
        return (*self._columns, "conn_state", "tcp_flags", "src_ip_bytes", "dst_ip_bytes", *packets)

    @property
    def schema(self) -> FlowSchema:
        """The canonical schema of these columns."""
        return flow_schema("argus", self.names)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of flows in file order."""
        header_bytes: int | None = None
        parse_stats = parse_stats or ParseStats()
        lines = line_blocks(self.path, self.compression, block_bytes, self.where, parse_stats)
        for block in without_first_line(lines, parse_stats):
            rows = parse_delimited(
                block, self.raw_names, self.delimiter, quote=None, where=self.where, parse_stats=parse_stats
            )
            if header_bytes is None and rows.num_rows:
                header_bytes = _header_bytes(rows)
            yield pa.table(_canonical(rows, self._columns, header_bytes or 0)).select(list(self.names))


def open_argus(path: Path, head: bytes, compression: Compression, where: str) -> ArgusFlows | None:
    """The binetflow file that begins with `head`; None for another file."""
    for delimiter in (",", "\t"):
        fields = header_names(head, delimiter)
        if set(fields) >= ARGUS_REQUIRED and len(set(fields)) == len(fields):
            return ArgusFlows(
                path=path, where=where, compression=compression, delimiter=delimiter, raw_names=fields
            )
    return None


def _header_bytes(rows: pa.Table) -> int:
    return link_header_bytes(
        protocol_names(rows["Proto"]), to_integers(rows["TotBytes"]), to_integers(rows["TotPkts"])
    )


def _canonical(rows: pa.Table, columns: dict[str, str], header_bytes: int) -> dict[str, pa.Array]:
    table = sensor_table("argus")
    canonical = {name: to_texts(rows[raw]) for name, raw in columns.items()}
    canonical["ts"] = epoch_texts(epoch_us(rows["StartTime"]))
    canonical["protocol"] = protocol_names(rows["Proto"])
    src_bytes, both_packets = to_integers(rows["SrcBytes"]), to_integers(rows["TotPkts"])
    dst_bytes = pc.subtract(to_integers(rows["TotBytes"]), src_bytes)
    has_dst = dst_bytes.fill_null(0).to_numpy() > 0
    has_src = src_bytes.fill_null(0).to_numpy() > 0
    if "src_packets" in canonical:
        canonical["src_packets"] = to_integers(rows["SrcPkts"])
        canonical["dst_packets"] = pc.subtract(both_packets, canonical["src_packets"])
        canonical["src_ip_bytes"] = ip_bytes(src_bytes, canonical["src_packets"], header_bytes)
        canonical["dst_ip_bytes"] = ip_bytes(dst_bytes, canonical["dst_packets"], header_bytes)
    else:
        # Packets by direction are unknown, so link-layer bytes are split in proportion to all bytes.
        src_fraction = _src_fraction(src_bytes, dst_bytes)
        for name, frames, part in (
            ("src_ip_bytes", src_bytes, src_fraction),
            ("dst_ip_bytes", dst_bytes, 1 - src_fraction),
        ):
            packets = pa.array(np.round(both_packets.fill_null(0).to_numpy() * part).astype(np.int64))
            canonical[name] = ip_bytes(frames, packets, header_bytes)
    is_tcp = is_protocol(canonical["protocol"], "tcp")
    src, dst = _flags(rows, 0), _flags(rows, 1)
    canonical["tcp_flags"] = flag_texts(src | dst, is_tcp)
    states = conn_states(canonical["protocol"], src, dst, has_src, has_dst)
    canonical["conn_state"] = pc.if_else(pa.array(is_tcp), states, _other_states(rows, states, table))
    return _turned(canonical, rows)


def _other_states(rows: pa.Table, states: pa.Array, table: SensorTable) -> pa.Array:
    named = change_texts(rows["State"], lambda text: table.states.get(text.strip()))
    return pc.coalesce(named, states)


def _flags(rows: pa.Table, side: int) -> UInt8[np.ndarray, " flows"]:
    """Flags of one side: `SPA_SRPA` means SPA from the source and SRPA from the destination."""
    return bits_of(rows["State"], lambda text: flag_bits((*text.split("_"), "")[side]))


def _src_fraction(src: pa.Array, dst: pa.Array) -> np.ndarray:
    sent, answered = src.fill_null(0).to_numpy(), dst.fill_null(0).to_numpy()
    return sent / np.maximum(sent + answered, 1)


def _turned(canonical: dict[str, pa.Array], rows: pa.Table) -> dict[str, pa.Array]:
    """The flows, with source and destination swapped where Argus writes the direction as `<-`."""
    is_left = pc.equal(pc.utf8_trim_whitespace(to_texts(rows["Dir"])), pa.scalar("<-"))
    if pc.any(is_left).as_py():
        for src, dst in _SIDES:
            if src in canonical and dst in canonical:
                left, right = canonical[src], canonical[dst]
                canonical[src] = pc.if_else(is_left, right, left)
                canonical[dst] = pc.if_else(is_left, left, right)
    return canonical
