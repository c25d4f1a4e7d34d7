"""Generated flows as a labelled Zeek conn.log, as from a sensor without content inspection."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import epoch_texts, epoch_us
from wirebert.data.synthetic.text import joined_lines
from wirebert.shapes import Float64

CONN_LOG_FIELDS: Mapping[str, str] = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "service": "string",
    "duration": "interval",
    "orig_bytes": "count",
    "resp_bytes": "count",
    "conn_state": "string",
    "history": "string",
    "orig_pkts": "count",
    "orig_ip_bytes": "count",
    "resp_pkts": "count",
    "resp_ip_bytes": "count",
    "label": "string",
}
"""Columns of the log and Zeek's types."""
HISTORIES: Mapping[str, str] = {
    "SF": "ShADadFf",
    "S0": "S",
    "REJ": "Sr",
    "RSTO": "ShADadR",
    "RSTR": "ShADadr",
    "S1": "ShADad",
    "OTH": "Dd",
    "SH": "SF",
    "S2": "ShADadF",
    "S3": "ShADadf",
    "RSTOS0": "SR",
    "RSTRH": "^hr",
    "SHR": "^hf",
}
"""State of a TCP connection -> what was seen of it."""

_HEADER_BYTES = {"udp": 28, "icmp": 28}
_TCP_HEADER_BYTES = ((60, 52), (60, 52), (52, 40), (48, 40), (44, 40), (40, 40))
"""Bytes of headers of the first packet and of later ones, by what sends them; a reset has 40."""
_HEADER = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    f"#fields\t{chr(9).join(CONN_LOG_FIELDS)}\n#types\t{chr(9).join(CONN_LOG_FIELDS.values())}\n"
)


def write_conn_log(path: str | Path, tables: Iterable[pa.Table], seed: int = 0) -> None:
    """Write generated flows as one log."""
    generator = np.random.default_rng([seed, 9])
    with Path(path).open("wb") as file:
        file.write(_HEADER.encode())
        for table in tables:
            file.write(_lines(table, generator))


def conn_columns(table: pa.Table, generator: np.random.Generator) -> dict[str, pa.Array]:
    """The columns of the log, as texts, null where Zeek leaves a field unset.

    Zeek reports duration and bytes of a connection from its second packet on. If the flow has no duration, it
    is drawn like the time of an answer.
    """
    flows = table.combine_chunks()
    columns = {name: flows.column(name).combine_chunks() for name in flows.column_names}
    protocol = columns["protocol"]
    sides: dict[str, pa.Array] = {}
    for side, end in (("src", "orig"), ("dst", "resp")):
        packets = _numbers(columns[f"{side}_packets"])
        content = np.nan_to_num(_numbers(columns[f"{side}_payload_bytes"]))
        headers = np.array([_HEADER_BYTES.get(name, 20) for name in protocol.to_pylist()])
        host = columns[f"{side}_ip"].dictionary_encode()
        first, later = np.array(_TCP_HEADER_BYTES)[
            generator.integers(0, len(_TCP_HEADER_BYTES), len(host.dictionary))[host.indices.to_numpy()]
        ].T
        if side == "dst":
            first = np.where(pc.equal(columns["conn_state"], "REJ"), 40, first)
        tcp_bytes = np.where(packets > 0, first + later * (packets - 1), 0)
        sides[f"{end}_pkts"] = _whole(packets)
        sides[f"{end}_ip_bytes"] = _whole(
            content + np.where(pc.equal(protocol, "tcp"), tcp_bytes, headers * packets)
        )
    has_two = _numbers(columns["src_packets"]) + _numbers(columns["dst_packets"]) > 1
    measured_s = _numbers(columns["duration_s"])
    answer_s = 0.03 * np.exp(1.5 * generator.standard_normal(len(measured_s)))
    duration_s = np.where(np.isnan(measured_s), answer_s, measured_s)
    tcp = pc.equal(protocol, "tcp")
    history = pa.array([HISTORIES[state] for state in columns["conn_state"].to_pylist()])
    datagram = np.where(_numbers(columns["dst_packets"]) > 0, "Dd", "D")
    ends = {
        "ts": epoch_texts(epoch_us(columns["ts"])),
        "uid": columns["uid"],
        "id.orig_h": columns["src_ip"],
        "id.orig_p": columns["src_port"].cast(pa.string()),
        "id.resp_h": columns["dst_ip"],
        "id.resp_p": columns["dst_port"].cast(pa.string()),
        "proto": protocol,
        "service": columns["service"],
        "duration": pa.array(np.round(duration_s, 6), mask=~has_two).cast(pa.string()),
        "orig_bytes": _whole(
            np.where(has_two, np.nan_to_num(_numbers(columns["src_payload_bytes"])), np.nan)
        ),
        "resp_bytes": _whole(
            np.where(has_two, np.nan_to_num(_numbers(columns["dst_payload_bytes"])), np.nan)
        ),
        "conn_state": columns["conn_state"],
        "history": pc.if_else(tcp, history, pa.array(datagram)),
        "label": columns["label"],
    }
    every = ends | sides
    return {name: every[name] for name in CONN_LOG_FIELDS}


def _lines(table: pa.Table, generator: np.random.Generator) -> bytes:
    fields = [pc.fill_null(column, "-") for column in conn_columns(table, generator).values()]
    return joined_lines(fields, "\t")


def _numbers(column: pa.Array) -> Float64[np.ndarray, " flows"]:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)


def _whole(numbers: Float64[np.ndarray, " flows"]) -> pa.Array:
    is_present = ~np.isnan(numbers)
    return pa.array(np.where(is_present, numbers, 0).astype(np.int64), mask=~is_present).cast(pa.string())
