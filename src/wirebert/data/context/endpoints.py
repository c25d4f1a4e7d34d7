"""The inputs of context: time, endpoints, port, outcome and bytes of each flow."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.hashing import number_hashes, text_hashes
from wirebert.data.times import seconds_of
from wirebert.shapes import Bool, Float64, Int64, UInt64

CONTEXT_REQUIRED = ("ts", "src_ip", "dst_ip")
"""Columns that context needs."""
FAILED_STATES = ("S0", "REJ", "RSTOS0", "SH")
"""Zeek states of connections that the destination refused or did not answer."""
MAX_BYTES = 1 << 40
"""Flows count as at most this large, so sums over any window stay below 2**63."""

_SENT = ("src_ip_bytes", "src_payload_bytes", "src_bytes")
_RECEIVED = ("dst_ip_bytes", "dst_payload_bytes", "dst_bytes")
ENDPOINT_COLUMNS = (*CONTEXT_REQUIRED, "dst_port", "conn_state", "dst_packets", *_SENT, *_RECEIVED)
"""Columns that `read_endpoints` reads."""


class FlowEndpoints(NamedTuple):
    """The inputs of context, one array per property; endpoints and ports as hashes."""

    time_s: Float64[np.ndarray, " flows"]
    source: UInt64[np.ndarray, " flows"]
    destination: UInt64[np.ndarray, " flows"]
    port: UInt64[np.ndarray, " flows"]
    is_failed: Bool[np.ndarray, " flows"]
    sent_bytes: Int64[np.ndarray, " flows"]
    received_bytes: Int64[np.ndarray, " flows"]


def read_endpoints(table: pa.Table) -> tuple[Bool[np.ndarray, " rows"], FlowEndpoints]:
    """Which rows of a typed table have both endpoints, and the inputs of all rows."""
    ends = [_hashes(table.column(name)) for name in ("src_ip", "dst_ip")]
    is_usable = ends[0][1] & ends[1][1]
    rows = FlowEndpoints(
        time_s=seconds_of(table.column("ts")),
        source=ends[0][0],
        destination=ends[1][0],
        port=number_hashes(_numbers(table, ("dst_port",))),
        is_failed=_is_failed(table),
        sent_bytes=_bytes(table, _SENT),
        received_bytes=_bytes(table, _RECEIVED),
    )
    return is_usable, rows


def _hashes(column: pa.ChunkedArray) -> tuple[UInt64[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Hash of each text, and whether the text is present."""
    texts, rows = distinct_values(column)
    return np.append(text_hashes(texts), np.uint64(0))[rows], rows < len(texts)


def _numbers(table: pa.Table, names: Iterable[str]) -> Float64[np.ndarray, " rows"]:
    """The first of these columns with a value; NaN where none has one."""
    numbers = np.full(table.num_rows, np.nan)
    for name in names:
        if name in table.column_names:
            column = table.column(name)
            if pa.types.is_dictionary(column.type):
                column = column.cast(column.type.value_type)
            numbers = np.where(np.isnan(numbers), column.to_numpy().astype(float), numbers)
    return numbers


def _bytes(table: pa.Table, names: Iterable[str]) -> Int64[np.ndarray, " rows"]:
    """Whole bytes; 0 where they are unknown."""
    return np.nan_to_num(np.clip(_numbers(table, names), 0, MAX_BYTES), nan=0.0).astype(np.int64)


def _is_failed(table: pa.Table) -> Bool[np.ndarray, " rows"]:
    """Whether the destination refused or did not answer: by the state or, without one, by its packets."""
    is_silent = _numbers(table, ("dst_packets",)) == 0
    if "conn_state" not in table.column_names:
        return is_silent
    states, rows = distinct_values(table.column("conn_state"))
    is_failed = pc.is_in(states, value_set=pa.array(FAILED_STATES)).to_numpy(zero_copy_only=False)
    return np.where(rows < len(states), np.append(is_failed, False)[rows], is_silent)
