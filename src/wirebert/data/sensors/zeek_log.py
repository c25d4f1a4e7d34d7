"""One Zeek log of any kind: its layout, recognised by its first lines, and its rows, not interpreted."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, cast

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.arrow_columns import change_texts
from wirebert.data.dialect import HEAD_BYTES, Compression, read_head
from wirebert.data.readers.json_layout import is_json_lines, json_blocks, layout_of
from wirebert.data.readers.lines import line_blocks, parse_delimited, parse_json
from wirebert.errors import DataError

HEADER_LINES = re.compile(
    rb"(?:^[ \t]*#(?:separator|set_separator|empty_field|unset_field|path|open|fields|types|close)\b"
    rb"[^\n]*(?:\n|\Z))+",
    re.MULTILINE,
)
"""Zeek's own lines; other lines with a # are rows, so that no host can hide one."""
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
        read = line_blocks if schema is None else json_blocks
        section = self
        for block in read(self.path, self.compression, block_bytes, self.where, parse_stats):
            if schema is not None and self.is_named:
                lines = self._of_kind(block)
                num_others = len(block.splitlines()) - len(lines)
                parse_stats.num_comments += num_others
                parse_stats.num_lines += num_others
                block = b"".join(lines)
            if schema is not None:
                yield parse_json(block, schema, parse_stats)
                continue
            for layout, rows, num_header_lines in _sections(section, block):
                parse_stats.num_comments += num_header_lines
                parse_stats.num_lines += num_header_lines
                if rows:  # nothing follows the last line, `#close`
                    yield from self._tables(layout, rows, parse_stats)
                section = layout

    def can_be_cut(self) -> bool:
        """Whether it is plain text of one row a line."""
        is_lines = self.layout == "tabs" or is_json_lines(read_head(self.path)[0])
        return self.compression == "none" and is_lines

    def is_exact(self, lines: bytes) -> bool:
        """Whether some of its lines are read alone as within the file: no header changes the layout, and
        no other log stands between."""
        if self.layout == "json":
            is_alone = not self.is_named or len(self._of_kind(lines)) == len(lines.splitlines())
            return is_alone and (layout_of(lines[:HEAD_BYTES]) is None or is_json_lines(lines))
        return all(self.after(header[0]) == self for header in HEADER_LINES.finditer(lines))

    def after(self, header: bytes) -> "ZeekLog":
        """The layout behind header lines in a log: logs may have been joined to one file."""
        fields = header_values(header, "fields", self.separator)
        kinds = header_values(header, "path", self.separator)
        return replace(
            self,
            fields=split_fields(fields[-1], self.separator) if fields else self.fields,
            has_gaps=LABEL_GAP in fields[-1] if fields else self.has_gaps,
            kind=kinds[-1].decode("utf-8", "replace").strip() if kinds else self.kind,
        )

    def _tables(self, section: "ZeekLog", rows: bytes, parse_stats: ParseStats) -> Iterator[pa.Table]:
        """The columns of this log in the rows of a section, by name; those that it lacks are unset."""
        if section.kind != self.kind or len(set(section.fields)) < len(section.fields):
            expected = "each of the #fields once" if section.kind == self.kind else f"a {self.kind} log"
            reason = f"expected {expected}, found a row of a {section.kind} log, as the header before it says"
            for line in rows.splitlines():
                parse_stats.num_lines += 1
                if line.strip():
                    parse_stats.reject(parse_stats.num_lines, reason, line.decode("utf-8", "replace"))
                else:
                    parse_stats.num_blank += 1
            return
        table = section.parse_rows(rows, parse_stats)
        if section.fields != self.fields:
            unset = pa.chunked_array([pa.array(["-"] * table.num_rows, pa.string()).dictionary_encode()])
            found = dict(zip(table.column_names, table.columns, strict=True))
            table = pa.table({name: found.get(name, unset) for name in self.fields})
        yield table

    def parse_rows(self, rows: bytes, parse_stats: ParseStats) -> pa.Table:
        """Rows without header lines."""
        if self.has_gaps:
            rows = rows.replace(LABEL_GAP, b"\t")
        table = parse_delimited(
            rows, self.fields, self.separator, quote=None, where=self.where, parse_stats=parse_stats
        )
        if not self.marks:
            return table
        usual = {
            name: change_texts(table[name], lambda text: self.marks.get(text, text)) for name in self.fields
        }
        return pa.table({name: column.dictionary_encode() for name, column in usual.items()})

    def _of_kind(self, block: bytes) -> list[bytes]:
        """The lines of this log, where each line names its log."""
        path_field = rb'"_path"\s*:\s*"' + re.escape(self.kind.encode()) + rb'"'
        return re.findall(rb"^.*" + path_field + rb".*(?:\n|\Z)", block, re.MULTILINE)

    def _json_schema(self, wanted: tuple[str, ...]) -> pa.Schema:
        times = pa.string() if self.has_dates else pa.float64()
        types: dict[str, pa.DataType] = {"ts": times, "duration": pa.float64()}
        return pa.schema([(name, types.get(name, _json_type(name))) for name in wanted])


def _sections(section: ZeekLog, block: bytes) -> Iterator[tuple[ZeekLog, bytes, int]]:
    """The rows of a block between its header lines, and the number of header lines before them."""
    start = num_header_lines = 0
    for header in HEADER_LINES.finditer(block) if b"#" in block else ():
        if start < header.start():
            yield section, block[start : header.start()], num_header_lines
            num_header_lines = 0
        section, start = section.after(header[0]), header.end()
        num_header_lines += header[0].count(b"\n") or 1
    yield section, block[start:], num_header_lines


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


def recognise(path: Path, head: bytes, compression: Compression, where: str) -> ZeekLog | None:
    """The log that begins with `head`; None for another file."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"#separator"):
        return _recognise_tabs(path, head, compression, where)
    if not start.startswith(b"{"):
        return None
    lines = [line for line in objects_of(start) if "uid" in line and "id.orig_h" in line]
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
        fields=names_of(flows or lines),
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
    is_conn = {"uid", "proto", "conn_state"} <= set(names)  # a piece of a log has not its name
    return ZeekLog(
        path=path,
        where=where,
        compression=compression,
        layout="tabs",
        kind=kinds[0].strip() if kinds else "conn" if is_conn else re.split(r"[._]", path.name)[0],
        fields=names,
        separator=separator,
        has_gaps=LABEL_GAP in fields,
        marks={value: usual for value, usual in marks.items() if value != usual},
    )


def objects_of(head: bytes) -> list[Mapping[str, object]]:
    """The objects of the first lines of a JSON log."""
    objects: list[Mapping[str, object]] = []
    for line in head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:JSON_HEAD_LINES]:
        try:
            parsed = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(parsed, dict):
            objects.append(cast(Mapping[str, object], parsed))
    return objects


def names_of(objects: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    """All fields of the objects, in the order in which they first occur."""
    return tuple(dict.fromkeys(name for one in objects for name in one))


def _json_type(name: str) -> pa.DataType:
    if name in _INTEGERS:
        return pa.int64()
    if name in _BOOLEANS:
        return pa.bool_()
    return pa.list_(pa.string()) if name in _LISTS else pa.string()
