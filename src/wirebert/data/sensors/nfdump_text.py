"""The text that `nfdump` prints (`-o line`, `long`, `extended`): blanks align its columns, and stand before
units too."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Compression
from wirebert.data.readers.lines import line_blocks, parse_delimited, without_first_line, without_summary

if TYPE_CHECKING:
    from wirebert.data.schema.schema import FlowSchema

_HEADER = re.compile(
    rb"^Date (?:first|flow) (?:seen|start)\s+Duration\s+Proto\s+Src IP Addr:Port\s+Dst IP Addr:Port\s+"
)
TITLES = re.compile(r"(?:In|Out) (?:Pkt|Byte)|\S+")
END = re.compile(rb"^(?:Summary|Time window|Total flows|Sys):", re.MULTILINE)
_STEPS = (
    (re.compile(rb"(?m)^[ \t]*(\d{4}-\d\d-\d\d) "), rb"\1T"),  # a date and its hours are one value
    (re.compile(rb"(?m)(?<=\d)[ \t]+(?=[kKMGT](?:[ \t\r]|$))"), b""),  # as are a number and its unit
    (re.compile(rb"[ \t]+<?->[ \t]+"), b" "),
    (re.compile(rb"(?<= )(\d+\.\d+\.\d+\.\d+):(\d)"), rb"\1 \2"),
    (re.compile(rb"(?<= )([0-9a-f]*:[0-9a-f:]*)\.(\d)"), rb"\1 \2"),  # a dot before an IPv6 port
    (re.compile(rb"(?m)[ \t]+(?=\r?$)"), b""),
    (re.compile(rb"[ \t]+"), b","),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class NfdumpText:
    """The records that nfdump printed, as a table under its titles."""

    path: Path
    where: str
    compression: Compression
    names: tuple[str, ...]
    title: str = "nfdump text"
    schema: "FlowSchema | None" = None
    raw_names: tuple[str, ...] = ()
    joined_files: tuple[Path, ...] = ()
    format: str = "nfdump_text"

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of records in file order; the summary is a footer."""
        stats = parse_stats or ParseStats()
        lines = line_blocks(self.path, self.compression, block_bytes, self.where, stats)
        for text in without_summary(without_first_line(lines, stats), END, stats):
            for pattern, written in _STEPS:
                text = pattern.sub(written, text)
            yield parse_delimited(text, self.names, ",", quote=None, where=self.where, parse_stats=stats)


def open_nfdump_text(path: Path, head: bytes, compression: Compression, where: str) -> NfdumpText | None:
    """The nfdump text that begins with `head`; None for another file."""
    first = head.partition(b"\n")[0]
    match = _HEADER.match(first)
    if match is None:
        return None
    ends = "Src IP Addr", "Src Pt", "Dst IP Addr", "Dst Pt"
    rest = TITLES.findall(first[match.end() :].decode("utf-8", "replace"))
    return NfdumpText(
        path=path,
        where=where,
        compression=compression,
        names=("Date first seen", "Duration", "Proto", *ends, *rest),
    )
