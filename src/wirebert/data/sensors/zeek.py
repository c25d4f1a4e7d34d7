"""Zeek's conn.log joined with its dns, http, ssl, quic and weird logs; other tab-separated logs as tables."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import (
    change_texts,
    combine_chunks,
    dictionary_encode,
    epoch_texts,
    epoch_us,
    to_texts,
)
from wirebert.data.dialect import DELIMITERS, Compression, read_head
from wirebert.data.readers.json_layout import layout_of, plain_head
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import (
    SensorTable,
    flow_schema,
    protocol_names,
    sensor_table,
    service_names,
)
from wirebert.data.sensors.side_table import SideTable, SideTableBuilder, text_keys
from wirebert.data.sensors.states import bits_of, flag_bits, flag_texts, is_protocol
from wirebert.data.sensors.zeek_log import ZeekLog, names_of, objects_of, recognise

ZEEK_REQUIRED = frozenset("ts uid id.orig_h id.resp_h proto service conn_state".split())
"""Fields without which a tab-separated conn.log is read as a plain table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeekTable:
    """A Zeek log other than conn.log, with its own columns."""

    log: ZeekLog
    schema: FlowSchema | None = None
    raw_names: tuple[str, ...] = ()
    joined_files: tuple[Path, ...] = ()
    format: str = "zeek"

    @property
    def title(self) -> str:
        """Zeek and the name of the log."""
        return f"Zeek {self.log.kind} log"

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns."""
        return self.log.fields

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of rows in file order."""
        for table in self.log.blocks(block_bytes, parse_stats or ParseStats()):
            yield pa.table({name: _without_empty(table[name]) for name in table.column_names})

    def can_be_cut(self) -> bool:
        """Whether every line is a row."""
        return self.log.can_be_cut()

    def of_lines(self, path: Path) -> "ZeekTable":
        """The reader of a file of some of its lines."""
        return replace(self, log=replace(self.log, path=path))

    def is_exact(self, lines: bytes) -> bool:
        """Whether some of its lines are read alone as within the file."""
        return self.log.is_exact(lines)


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeekFlows:
    """conn.log joined with the other logs in its folder, as canonical columns."""

    conn: ZeekLog
    joined: tuple[ZeekLog, ...]
    raw_names: tuple[str, ...] = ()
    format: str = "zeek"

    @property
    def title(self) -> str:
        """Zeek, the layout, and the joined logs."""
        words = DELIMITERS.get(self.conn.separator, f"{self.conn.separator!r}-separated")
        layout = "JSON" if self.conn.layout == "json" else words
        kinds = [log.kind for log in self.joined]
        return f"Zeek conn log, {layout}" + (f", joined with {', '.join(kinds)}" if kinds else "")

    @property
    def joined_files(self) -> tuple[Path, ...]:
        """The joined logs."""
        return tuple(log.path for log in self.joined)

    @property
    def _columns(self) -> dict[str, str]:
        """Canonical column -> field of conn.log."""
        table = sensor_table("zeek")
        columns = {
            name: raw
            for name, raw in table.columns.items()
            if self.conn.layout == "json" or raw in self.conn.fields
        }
        for label, spellings in table.labels.items():
            present = [raw for raw in spellings if raw in self.conn.fields]
            if present:
                columns[label] = present[0]
        return columns

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical columns of the logs."""
        joined = sensor_table("zeek").joined
        side = [name for log in self.joined for name in _present(log, joined[log.kind])]
        flags = ["tcp_flags"] if "history" in self._columns else []
        return tuple(dict.fromkeys([*self._columns, *flags, *side]))

    @property
    def schema(self) -> FlowSchema:
        """The canonical schema of these logs."""
        return flow_schema("zeek", self.names)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of flows in the order of conn.log."""
        table, columns = sensor_table("zeek"), self._columns
        sides = [(log, _side_table(log, table.joined[log.kind], block_bytes)) for log in self.joined]
        wanted = tuple(dict.fromkeys(columns.values()))
        for block in self.conn.blocks(block_bytes, parse_stats or ParseStats(), wanted):
            arrays = {name: _without_empty(block[raw]) for name, raw in columns.items()}
            canonical = _canonical(arrays, table)
            keys = text_keys(to_texts(arrays["uid"])) if sides else np.empty(0, np.uint64)
            for _, side in sides:
                records, _, has_record = side.look_up(keys)
                for name in records.column_names:
                    column = combine_chunks(records[name])
                    if name in canonical:  # quic.log and ssl.log both name the server
                        column = pc.if_else(has_record, column, canonical[name])
                    canonical[name] = column
            yield pa.table({name: canonical[name] for name in self.names})

    def can_be_cut(self) -> bool:
        """Whether every line is a row, and no other log would be read again for each piece."""
        return not self.joined and self.conn.can_be_cut()

    def of_lines(self, path: Path) -> "ZeekFlows":
        """The reader of a file of some of its lines."""
        return replace(self, conn=replace(self.conn, path=path))

    def is_exact(self, lines: bytes) -> bool:
        """Whether some of its lines are read alone as within the file."""
        return self.conn.is_exact(lines)


def open_zeek(path: Path, head: bytes, compression: Compression, where: str) -> ZeekFlows | ZeekTable | None:
    """The Zeek log that begins with `head`; None for another file."""
    log = recognise(path, head, compression, where)
    if log is None:
        return None
    if log.kind != "conn" or (log.layout == "tabs" and not set(log.fields) >= ZEEK_REQUIRED):
        # A JSON log without flows is read as plain JSON lines.
        return ZeekTable(log=log) if log.layout == "tabs" else None
    joined = _logs_in_file(log, head)
    for kind in sensor_table("zeek").joined:
        neighbour = path.with_name(path.name.replace("conn", kind, 1))
        if "conn" in path.name and neighbour.is_file():
            text, packed = read_head(neighbour)
            layout = layout_of(text)
            text = text if layout is None else plain_head(text, layout)
            neighbour_log = recognise(neighbour, text, packed, str(neighbour))
            if neighbour_log and neighbour_log.kind == kind and "uid" in neighbour_log.fields:
                joined[kind] = neighbour_log
    kinds = [kind for kind in sensor_table("zeek").joined if kind in joined]
    return ZeekFlows(conn=log, joined=tuple(joined[kind] for kind in kinds))


def _logs_in_file(conn: ZeekLog, head: bytes) -> dict[str, ZeekLog]:
    """The logs, by kind, in the same file as the conn log."""
    logs: dict[str, ZeekLog] = {}
    for kind in sensor_table("zeek").joined if conn.is_named else ():
        lines = [line for line in objects_of(head) if line.get("_path") == kind]
        if lines:
            logs[kind] = replace(conn, kind=kind, fields=names_of(lines))
    return logs


def is_joined_log(path: Path, paths: Collection[Path]) -> bool:
    """Whether `path` is a Zeek log that is joined with a conn log among `paths`."""
    return any(
        kind in path.name and path.with_name(path.name.replace(kind, "conn", 1)) in paths
        for kind in sensor_table("zeek").joined
    )


def _present(log: ZeekLog, columns: Mapping[str, str]) -> dict[str, str]:
    return {name: raw for name, raw in columns.items() if raw in log.fields}


def _side_table(log: ZeekLog, columns: Mapping[str, str], block_bytes: int) -> SideTable:
    present = _present(log, columns)
    schema = pa.schema([(name, pa.string()) for name in present])
    builder = SideTableBuilder(schema)
    for block in log.blocks(block_bytes, ParseStats(), ("uid", *dict.fromkeys(present.values()))):
        chosen = {name: as_plain_text(_without_empty(block[raw])) for name, raw in present.items()}
        builder.add(text_keys(to_texts(block["uid"])), pa.table(chosen, schema=schema))
    return builder.finish()


def as_plain_text(column: pa.Array) -> pa.Array:
    """Text of a column: booleans as 1 and 0 (T and F in tab-separated logs), lists joined by commas."""
    if pa.types.is_list(column.type):
        return cast(pa.Array, pc.binary_join(column, ","))
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8()).cast(pa.string())
    marks = {"T": "1", "F": "0", "-": None}
    if isinstance(column, pa.DictionaryArray):
        return change_texts(column, lambda text: marks.get(text, text))
    return to_texts(column)


def _without_empty(column: pa.ChunkedArray) -> pa.Array:
    """The column in one piece; `(empty)`, Zeek's word for an empty set, is an empty text."""
    array = combine_chunks(column)
    if not isinstance(array, pa.DictionaryArray):
        return array
    is_empty = pc.equal(array.dictionary, pa.scalar("(empty)", pa.string()))
    values = pc.if_else(is_empty, pa.scalar("", pa.string()), array.dictionary)
    return pa.DictionaryArray.from_arrays(array.indices, values)


def _canonical(arrays: Mapping[str, pa.Array], table: SensorTable) -> dict[str, pa.Array]:
    canonical = dict(arrays)
    canonical["ts"] = _times(arrays["ts"])
    canonical["protocol"] = protocol_names(arrays["protocol"])
    canonical["service"] = service_names(arrays["service"], table)
    if "history" in arrays:
        bits = bits_of(arrays["history"], lambda text: flag_bits(_flags_of(text, table.history)))
        canonical["tcp_flags"] = flag_texts(bits, is_protocol(canonical["protocol"], "tcp"))
    return canonical


def _flags_of(history: str, letters: Mapping[str, str]) -> str:
    """`ShADadFf` -> the flags of its letters."""
    return "".join(letters.get(letter.upper(), "") for letter in set(history))


def _times(column: pa.Array) -> pa.Array:
    """Decimal seconds, from decimal text, numbers or dates."""
    if pa.types.is_floating(column.type):
        return column.cast(pa.decimal128(24, 6), safe=False).cast(pa.string())
    encoded = dictionary_encode(column)
    is_date = pc.match_substring(encoded.dictionary, "T")
    if not pc.any(is_date).as_py():
        return to_texts(column)
    return epoch_texts(epoch_us(column))
