"""Zeek's conn.log joined with its dns, http, ssl, quic and weird logs; other tab-separated logs as tables."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

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
from wirebert.data.readers.json_layout import json_blocks, layout_of, plain_head
from wirebert.data.readers.lines import line_blocks, parse_delimited, parse_json
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
from wirebert.errors import DataError

HEADER_LINE = re.compile(
    rb"^[ \t]*#(?:separator|set_separator|empty_field|unset_field|path|open|fields|types|close)\b"
    rb"[^\n]*(?:\n|$)",
    re.MULTILINE,
)
"""Zeek's own lines; other lines with a # are rows, so that no host can hide one."""
ZEEK_REQUIRED = frozenset("ts uid id.orig_h id.resp_h proto service conn_state".split())
"""Fields without which a tab-separated conn.log is read as a plain table."""
JSON_HEAD_LINES = 1_000
"""Lines of a JSON log that are searched for its fields and logs."""
LABEL_GAP = b"   "
"""IoT-23 separates its appended labels by three spaces instead of tabs."""
_INTEGERS = frozenset(
    "id.orig_p id.resp_p orig_ip_bytes resp_ip_bytes orig_bytes resp_bytes orig_pkts resp_pkts missed_bytes "
    "qclass qtype rcode trans_depth request_body_len response_body_len status_code".split()
)
_BOOLEANS = frozenset("AA RD RA rejected resumed established notice".split())
_LISTS = frozenset("orig_mime_types resp_mime_types".split())


@dataclass(frozen=True, kw_only=True, slots=True)
class ZeekLog:
    """The layout of one Zeek log."""

    path: Path
    where: str
    compression: Compression
    layout: Literal["tabs", "json"]
    kind: str
    """The name of the log: conn, dns, http, ..."""
    fields: tuple[str, ...]
    """Its columns; for a JSON log the fields of its first lines."""
    separator: str = "\t"
    has_gaps: bool = False
    """Whether labels are separated by three spaces."""
    is_named: bool = False
    """Whether each line names its log in `_path`: one file may hold several logs."""
    has_dates: bool = False
    """Whether the times of a JSON log are text."""
    marks: Mapping[str, str] = field(default_factory=dict)
    """Texts for unset and for empty fields, where they are not the usual ones -> the usual ones."""

    def blocks(
        self, block_bytes: int, parse_stats: ParseStats, wanted: tuple[str, ...] | None = None
    ) -> Iterator[pa.Table]:
        """Blocks of the log's columns (for a JSON log only `wanted`), not interpreted."""
        schema = self._json_schema(wanted or self.fields) if self.layout == "json" else None
        path_field = rb'"_path"\s*:\s*"' + re.escape(self.kind.encode()) + rb'"'
        of_kind = re.compile(rb"^.*" + path_field + rb".*(?:\n|\Z)", re.MULTILINE)
        read = line_blocks if schema is None else json_blocks
        for block in read(self.path, self.compression, block_bytes, self.where):
            if schema is not None and self.is_named:
                lines = of_kind.findall(block)
                num_others = len(block.splitlines()) - len(lines)
                parse_stats.num_comments += num_others
                parse_stats.num_lines += num_others
                block = b"".join(lines)
            if schema is not None:
                yield parse_json(block, schema, parse_stats)
            else:
                yield self._parse_tabs(block, parse_stats)

    def _parse_tabs(self, block: bytes, parse_stats: ParseStats) -> pa.Table:
        for names in header_values(block, "fields", self.separator):
            if split_fields(names, self.separator) != self.fields:
                raise DataError(
                    f"{self.where}: expected one set of #fields, found another near line "
                    f"{parse_stats.num_lines}; split the log where its columns change"
                )
        if b"#" in block:
            block, num_comments = HEADER_LINE.subn(b"", block)
            parse_stats.num_comments += num_comments
            parse_stats.num_lines += num_comments
        if self.has_gaps:
            block = block.replace(LABEL_GAP, b"\t")
        table = parse_delimited(
            block, self.fields, self.separator, quote=None, where=self.where, parse_stats=parse_stats
        )
        if not self.marks:
            return table
        usual = {
            name: change_texts(table[name], lambda text: self.marks.get(text, text)) for name in self.fields
        }
        return pa.table({name: column.dictionary_encode() for name, column in usual.items()})

    def _json_schema(self, wanted: tuple[str, ...]) -> pa.Schema:
        times = pa.string() if self.has_dates else pa.float64()
        types: dict[str, pa.DataType] = {"ts": times, "duration": pa.float64()}
        return pa.schema([(name, types.get(name, _json_type(name))) for name in wanted])


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


def open_zeek(path: Path, head: bytes, compression: Compression, where: str) -> ZeekFlows | ZeekTable | None:
    """The Zeek log that begins with `head`; None for another file."""
    log = _recognise(path, head, compression, where)
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
            neighbour_log = _recognise(neighbour, text, packed, str(neighbour))
            if neighbour_log and neighbour_log.kind == kind and "uid" in neighbour_log.fields:
                joined[kind] = neighbour_log
    kinds = [kind for kind in sensor_table("zeek").joined if kind in joined]
    return ZeekFlows(conn=log, joined=tuple(joined[kind] for kind in kinds))


def _logs_in_file(conn: ZeekLog, head: bytes) -> dict[str, ZeekLog]:
    """The logs, by kind, in the same file as the conn log."""
    logs: dict[str, ZeekLog] = {}
    for kind in sensor_table("zeek").joined if conn.is_named else ():
        lines = [line for line in _objects_of(head) if line.get("_path") == kind]
        if lines:
            logs[kind] = replace(conn, kind=kind, fields=_names_of(lines))
    return logs


def is_joined_log(path: Path, paths: Collection[Path]) -> bool:
    """Whether `path` is a Zeek log that is joined with a conn log among `paths`."""
    return any(
        kind in path.name and path.with_name(path.name.replace(kind, "conn", 1)) in paths
        for kind in sensor_table("zeek").joined
    )


def split_fields(line: bytes, separator: str = "\t") -> tuple[str, ...]:
    """Names of a `#fields` line, separated like the rows or (IoT-23's labels) by three spaces.

    >>> split_fields(b"tunnel_parents   label   detailed-label")
    ('tunnel_parents', 'label', 'detailed-label')
    """
    return tuple(re.split(rf"{re.escape(separator)}|   +", line.decode("utf-8", "replace").strip()))


def header_values(text: bytes, name: str, separator: str) -> list[bytes]:
    """What the lines `#name` hold, behind a separator or a blank.

    >>> header_values(b"#separator |\\n#path|conn", "path", "|")
    [b'conn']
    """
    gap = rb"[ \t" + re.escape(separator.encode()) + rb"]+"
    return re.findall(rb"^[ \t]*#" + name.encode() + gap + rb"([^\r\n]*)", text, re.MULTILINE)


def _recognise(path: Path, head: bytes, compression: Compression, where: str) -> ZeekLog | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"#separator"):
        return _recognise_tabs(path, head, compression, where)
    if not start.startswith(b"{"):
        return None
    lines = [line for line in _objects_of(start) if "uid" in line and "id.orig_h" in line]
    if not lines:
        return None
    # If lines name their log (as Corelight's do), one file may hold all logs.
    flows = [line for line in lines if line.get("_path") == "conn"]
    first = (flows or lines)[0]
    log_name = first.get("_path")
    is_conn = log_name == "conn" or (log_name is None and "conn_state" in first and "proto" in first)
    return ZeekLog(
        path=path,
        where=where,
        compression=compression,
        layout="json",
        kind=log_name
        if isinstance(log_name, str)
        else "conn"
        if is_conn
        else re.split(r"[._]", path.name)[0],
        fields=_names_of(flows or lines),
        is_named=isinstance(log_name, str),
        has_dates=isinstance(first.get("ts"), str),
    )


def _recognise_tabs(path: Path, head: bytes, compression: Compression, where: str) -> ZeekLog:
    spelled = re.search(rb"#separator[ \t]+(\S+)", head)
    text = spelled.group(1).decode("ascii", "replace") if spelled else "\\x09"
    separator = chr(int(text[2:], 16)) if re.fullmatch(r"\\x[0-9a-fA-F]{2}", text) else text[:1]
    if not separator.isascii() or separator in "\r\n":
        raise DataError(
            f"{where}: expected a #separator that is one ASCII character, found {text!r}; restore the line"
        )
    fields = next(iter(header_values(head, "fields", separator)), None)
    if fields is None:
        raise DataError(
            f"{where}: expected a #fields line at the head of the Zeek log, found none; restore it"
        )
    names = split_fields(fields, separator)
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{where}: expected each of the #fields once, found {repeated!r} twice; rename one")
    kinds = [kind.decode("utf-8", "replace") for kind in header_values(head, "path", separator)]
    marks = {
        value.decode("utf-8", "replace"): usual
        for name, usual in (("unset_field", "-"), ("empty_field", "(empty)"))
        for value in header_values(head, name, separator)[:1]
    }
    return ZeekLog(
        path=path,
        where=where,
        compression=compression,
        layout="tabs",
        kind=kinds[0].strip() if kinds else re.split(r"[._]", path.name)[0],
        fields=names,
        separator=separator,
        has_gaps=LABEL_GAP in fields,
        marks={value: usual for value, usual in marks.items() if value != usual},
    )


def _objects_of(head: bytes) -> list[Mapping[str, object]]:
    objects: list[Mapping[str, object]] = []
    for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:JSON_HEAD_LINES]:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(parsed, dict):
            objects.append(cast(Mapping[str, object], parsed))
    return objects


def _names_of(objects: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for one in objects for name in one))


def _json_type(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    if name in _BOOLEANS:
        return pa.bool_()
    return pa.list_(pa.string()) if name in _LISTS else pa.string()


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
    values = pc.if_else(pc.equal(array.dictionary, pa.scalar("(empty)")), "", array.dictionary)
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
