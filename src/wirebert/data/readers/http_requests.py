"""HTTP requests as they are sent, over several lines each -> blocks of columns; as CSIC 2010 is published."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Compression
from wirebert.data.readers.lines import line_blocks
from wirebert.data.schema.schema import FlowSchema

START = re.compile(r"^[A-Z]{3,10} \S.* HTTP/\d(?:\.\d)?\r?$", re.MULTILINE)
_HEADER = re.compile(r"[A-Za-z][\w\-]*:[^\r\n]*")
HEADER_COLUMNS = {
    "host": "host",
    "user-agent": "user_agent",
    "content-type": "content_type",
    "cookie": "cookie",
}
"""Header -> column; the others are together in column `headers`."""
NAMES = ("method", "url", "http_version", *HEADER_COLUMNS.values(), "headers", "body")


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpRequests:
    """A file of HTTP requests."""

    path: Path
    where: str
    compression: Compression
    names: tuple[str, ...] = NAMES
    title: str = "HTTP requests of several lines"
    schema: FlowSchema | None = None
    joined_files: tuple[Path, ...] = ()
    format: str = "http_requests"

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        """Blocks of requests in file order; a request ends where the next one begins."""
        parse_stats, rest = parse_stats or ParseStats(), ""
        for block in line_blocks(self.path, self.compression, block_bytes, self.where, parse_stats):
            text = rest + block.decode("utf-8", "replace")
            starts = [match.start() for match in START.finditer(text)]
            cut = starts[-1] if starts else 0
            yield _table(text[:cut], parse_stats)
            rest = text[cut:]
        yield _table(rest, parse_stats)


def open_http_requests(path: Path, head: bytes, compression: Compression, where: str) -> HttpRequests | None:
    """The requests of a file that begins with `head`; None for another file."""
    lines = head.decode("utf-8", "replace").lstrip("\ufeff\r\n").splitlines()[:2]
    if len(lines) < 2 or not START.fullmatch(lines[0]) or not _HEADER.fullmatch(lines[1]):
        return None
    return HttpRequests(path=path, where=where, compression=compression)


def _table(text: str, parse_stats: ParseStats) -> pa.Table:
    starts = [match.start() for match in START.finditer(text)]
    columns: dict[str, list[str | None]] = {name: [] for name in NAMES}
    before = text[: starts[0]] if starts else text
    if before.strip():
        parse_stats.num_lines += 1
        parse_stats.reject(parse_stats.num_lines, "expected a request such as GET / HTTP/1.1", before.strip())
    for start, stop in zip(starts, [*starts, len(text)][1:], strict=True):
        for name, value in _request(text[start:stop]).items():
            columns[name].append(value)
    parse_stats.num_rows += len(starts)
    parse_stats.num_lines += len(starts)  # lines of one request count as one
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _request(text: str) -> dict[str, str | None]:
    top, _, body = text.replace("\r\n", "\n").partition("\n\n")
    first, *lines = top.split("\n")
    method, _, target = first.partition(" ")
    url, _, version = target.rpartition(" ")
    row: dict[str, str | None] = dict.fromkeys(NAMES)
    row |= {"method": method, "url": url, "http_version": version, "body": body.strip("\n") or None}
    others: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        column = HEADER_COLUMNS.get(name.strip().lower())
        if column is None or row[column] is not None:
            others.append(line)
        else:
            row[column] = value.strip()
    row["headers"] = "\n".join(others) or None
    return row
