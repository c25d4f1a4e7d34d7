"""JSON of any layout as JSON lines: events over several lines, in one array, in an object that holds records,
or wrapped by what collected them (Elasticsearch, Filebeat, Splunk, cloud flow logs)."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import HEAD_BYTES, Compression, read_head
from wirebert.data.readers.lines import MAX_BLOCKS_PER_LINE, UTF8_MARK, byte_blocks, line_blocks
from wirebert.errors import DataError

Event = Mapping[str, object]

WRAPPED_STRUCTURES = ("_source", "jsonPayload", "json", "result")
"""Fields that hold the event itself: Elasticsearch, Google Cloud Logging, Filebeat, Splunk."""
WRAPPED_TEXTS = ("message", "_raw", "log", "original")
"""Fields that hold the event as JSON text: Filebeat, Splunk, container logs, Elastic's event.original."""
WRAPPED_LISTS = ("records", "Records", "hits", "logEvents", "entries", "flowTuples")
"""Fields that hold a list of events: Azure, AWS, Elasticsearch, CloudWatch."""
BULK_ACTIONS = ("index", "create", "update", "delete")
"""The only field of a line that stands before each event in a bulk request to Elasticsearch or OpenSearch."""
MAX_OTHERS = 8
"""Fields beside the event, where nothing else says that it is wrapped."""
MAX_WRAPPINGS = 8
EXAMINED_LINES = 1_000
TUPLE_NAMES = tuple(
    "ts src_ip dst_ip src_port dst_port protocol direction decision state src_packets src_bytes dst_packets "
    "dst_bytes".split()
)
"""A tuple of Azure's network security group flow log, version 2; version 1 ends with the decision."""
VNET_NAMES = (*TUPLE_NAMES[:7], "state", "encryption", *TUPLE_NAMES[9:])
"""A tuple of Azure's virtual network flow log."""
VPC_NAMES = tuple(
    "version account_id interface_id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
    "log_status".split()
)
"""A record of an AWS VPC flow log in the default format."""
KEPT_BEHIND = 1 << 14
MAX_LOST, LOST_IN_DEPTH = 1 << 24, 1 << 12
"""Characters that are decoded in vain before a file is refused, and those until a decoder meets its depth."""
GAP = re.compile(r"[\s,\]\}]*")
"""What stands between the events of a list, and after its last one."""
LIST_START = re.compile(r'\s*(?:\{\s*"[^"\\]*"\s*:\s*)?\[(?=\s*\{)')
MARKS = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}\[\]]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonLayout:
    """How the events of a JSON file are laid out."""

    is_lines: bool
    """One JSON value a line."""
    wrapping: str = ""
    """Where the events are inside of each value, in words; empty: they are the values."""

    @property
    def described(self) -> str:
        """For the description of a file; empty for plain JSON lines."""
        layout = "" if self.is_lines else "not one a line"
        return ", ".join(filter(None, [layout, f"inside {self.wrapping}" if self.wrapping else ""]))


def layout_of(head: bytes) -> JsonLayout | None:
    """The layout of a file that begins with `head`; None where it is no JSON.

    >>> layout_of(b'{"a": 1}\\n{"a": 2}'), layout_of(b'[{"a": 1}]')
    (JsonLayout(is_lines=True, wrapping=''), JsonLayout(is_lines=False, wrapping=''))
    >>> layout_of(b'{"_source": {"a": 1}}\\n').described
    'inside _source'
    """
    start = head.removeprefix(UTF8_MARK).lstrip()
    if not start.startswith(b"{") and not re.match(rb"\[\s*\{", start):
        return None
    lines = [line for line in start.split(b"\n")[:EXAMINED_LINES] if line.strip()]
    objects = [value for value in map(_loaded, lines) if value is not None]
    is_lines = start.startswith(b"{") and bool(objects or len(lines) == 1)
    if not objects and LIST_START.match(start[:1000].decode("utf-8", "replace")):
        is_lines = False
    found = objects if is_lines else list(_documents([start], ParseStats(), "", HEAD_BYTES, is_head=True))
    return JsonLayout(is_lines, next(filter(None, map(_wrapping, found[:EXAMINED_LINES])), ""))


def is_json_lines(text: bytes) -> bool:
    """Whether text that is not empty is one plain JSON object a line."""
    return layout_of(text[:HEAD_BYTES]) == JsonLayout(is_lines=True)


def json_blocks(
    path: Path, compression: Compression, block_bytes: int, where: str, parse_stats: ParseStats | None = None
) -> Iterator[bytes]:
    """Blocks of JSON lines, each an event; values that are damaged are counted in `parse_stats`.

    Raises:
        DataError: the file is damaged, or one value that is no line is longer than eight blocks.
    """
    layout = layout_of(read_head(path)[0])
    stats = parse_stats or ParseStats()
    if layout is None or layout == JsonLayout(is_lines=True):
        yield from line_blocks(path, compression, block_bytes, where, stats)
        return
    if layout.is_lines:
        for block in line_blocks(path, compression, block_bytes, where, stats):
            yield b"".join(map(_unwrapped_line, block.splitlines(keepends=True)))
        return
    chunks = byte_blocks(path, compression, block_bytes, where)
    pending: list[bytes] = []
    num_bytes = 0
    for value in _documents(chunks, stats, where, MAX_BLOCKS_PER_LINE * block_bytes):
        pending += [json.dumps(event).encode() + b"\n" for event in unwrapped(value)]
        num_bytes += len(pending[-1]) if pending else 0
        if num_bytes >= block_bytes:
            yield b"".join(pending)
            pending, num_bytes = [], 0
    if pending:
        yield b"".join(pending)


def plain_head(head: bytes, layout: JsonLayout) -> bytes:
    """The head as it would be if each event were one line."""
    if layout == JsonLayout(is_lines=True):
        return head
    start = head.removeprefix(UTF8_MARK)
    if layout.is_lines:
        lines = start.split(b"\n")
        return b"".join(_unwrapped_line(line + b"\n") for line in (lines[:-1] or lines))
    values = _documents([start], ParseStats(), "", HEAD_BYTES, is_head=True)
    return b"".join(json.dumps(event).encode() + b"\n" for value in values for event in unwrapped(value))


def unwrapped(value: Event) -> Iterator[Event]:
    """The events that a value wraps; itself, where it wraps none."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop(0)
        inner = list(_inner(one)) if depth < MAX_WRAPPINGS else []
        if inner:
            waiting[:0] = [(event, depth + 1) for event in inner]
        else:
            yield one


def _inner(one: Event) -> Iterator[Event]:
    is_wrapped = "@timestamp" in one or len(one) <= MAX_OTHERS
    for name in WRAPPED_STRUCTURES:
        if isinstance(one.get(name), dict) and (is_wrapped or name in WRAPPED_STRUCTURES[:2]):
            yield cast(Event, one[name])
            return
    for name in WRAPPED_LISTS if is_wrapped else ():
        value = one.get(name)
        if isinstance(value, dict):  # Elasticsearch answers {"hits": {"hits": [...]}}
            value = cast(Event, value).get(name)
        if isinstance(value, list) and (listed := list(_listed(one, name, cast(list[object], value)))):
            yield from listed
            return
    only = next(iter(one.values())) if len(one) == 1 else None
    if isinstance(only, list) and only and all(isinstance(item, dict) for item in cast(list[object], only)):
        yield from cast(list[Event], only)
        return
    yield from _azure_flows(one)
    for name in WRAPPED_TEXTS if is_wrapped else ():
        text = one.get(name)
        event = (
            _loaded(text.encode("utf-8", "replace")) if isinstance(text, str) and text[:1] == "{" else None
        )
        if event is not None:
            yield event
            return


def _listed(one: Event, name: str, items: Sequence[object]) -> Iterator[Event]:
    for item in items:
        if isinstance(item, dict):
            event = cast(Event, item)
            fields = str(event.get("message", "")).split() if name == "logEvents" else []
            yield dict(zip(VPC_NAMES, fields, strict=True)) if len(fields) == len(VPC_NAMES) else event
        elif name == "flowTuples" and isinstance(item, str):
            fields = item.split(",")
            names = VNET_NAMES if len(fields[0]) > 11 else TUPLE_NAMES  # milliseconds, or seconds
            yield {"rule": one.get("rule"), **dict(zip(names, fields, strict=False))}


def _azure_flows(one: Event) -> Iterator[Event]:
    """The groups of tuples of an Azure flow log: `flows` in `properties` or `flowRecords`, and inside."""
    outer = one.get("properties") or one.get("flowRecords") or one
    for name in ("flows", "flowGroups"):
        groups = cast(Event, outer).get(name) if isinstance(outer, dict) else None
        if isinstance(groups, list) and (outer is not one or _holds_tuples(cast(list[object], groups))):
            for group in cast(list[object], groups):
                if isinstance(group, dict):
                    yield {"rule": one.get("rule"), **cast(dict[str, object], group)}


def _holds_tuples(groups: Sequence[object]) -> bool:
    first = groups[0] if groups else None
    return isinstance(first, dict) and bool({"flowTuples", "flowGroups", "flows"} & set(cast(Event, first)))


def is_bulk_action(value: Event) -> bool:
    """Whether this is what a bulk request says of the event on the next line.

    >>> [is_bulk_action(one) for one in ({"index": {"_index": "flows"}}, {"create": {}}, {"index": 3})]
    [True, True, False]
    """
    name, about = next(iter(value.items()), ("", None))
    is_action = len(value) == 1 and name in BULK_ACTIONS and isinstance(about, dict)
    return is_action and all(key.startswith("_") for key in cast(Event, about))


def _wrapping(value: Event) -> str:
    """The field that wraps the events of a value, in words; empty if none does."""
    if is_bulk_action(value):
        return "a bulk request"
    if next(iter(_inner(value)), None) is None:
        return ""
    names = [
        name
        for name in (*WRAPPED_STRUCTURES, *WRAPPED_LISTS, *WRAPPED_TEXTS, "properties", "flowRecords")
        if name in value
    ]
    return f"{(names or list(value))[0]}"


def _loaded(line: bytes) -> Event | None:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast(Event, value) if isinstance(value, dict) else None


def _unwrapped_line(line: bytes) -> bytes:
    value = _loaded(line)
    if value is not None and is_bulk_action(value):
        return b"\n"  # the line counts
    events = [] if value is None else list(unwrapped(value))
    if value is None or events == [value]:
        return line
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def _documents(
    chunks: Iterable[bytes], parse_stats: ParseStats, where: str, most: int, *, is_head: bool = False
) -> Iterator[Event]:
    """The objects of a JSON text that holds one after the other or a list of them.

    Each is decoded once it is whole. What cannot be decoded is set aside up to its closing brace.
    """
    decoder, utf8 = json.JSONDecoder(), codecs.getincrementaldecoder("utf-8")("replace")
    text, line, wanted, is_first, indent = "", 1, 0, True, None
    num_read = num_lost = 0
    for chunk in _with_end(chunks):
        text += utf8.decode(chunk or b"", final=chunk is None)
        num_read += len(chunk or b"")
        if chunk is not None and len(text) < wanted:
            continue  # the object is longer than what was there: no use to look again so soon
        position = _list_start(text) if is_first else 0
        is_first = False
        while (start := _next_start(text, position)) < len(text):
            indent = text[text.rfind("\n", 0, start) + 1 : start] if indent is None else indent
            try:
                value, position = decoder.raw_decode(text, start)
            except (ValueError, RecursionError) as error:
                num_lost += error.pos - start if isinstance(error, json.JSONDecodeError) else LOST_IN_DEPTH
                if num_lost > MAX_LOST + 2 * num_read:
                    raise DataError(
                        f"{where}, line {line}: expected JSON objects, found too many that do not end; write "
                        "each record on a line (jq -c '.[]')"
                    ) from None
                stop = _damaged_until(text, start, indent, is_last=chunk is None)
                if stop is None or (chunk is None and is_head):
                    position = start
                    break
                number = line + text.count("\n", 0, start)
                parse_stats.num_lines += 1
                parse_stats.reject(number, "expected a JSON object", text[start:stop])
                position = stop
                if position > KEPT_BEHIND:  # errors count lines from the beginning of the text
                    line += text.count("\n", 0, position)
                    text, position = text[position:], 0
            else:
                if isinstance(value, dict):
                    yield cast(Event, value)
        line += text.count("\n", 0, position)
        text = text[position:]
        wanted = 2 * len(text)
        if len(text) > most:
            raise DataError(
                f"{where}, line {line}: expected JSON objects shorter than {most:,} bytes, found a "
                "longer one; write each record on a line (jq -c '.[]'), or raise data.block_mb"
            )


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    yield from chunks
    yield None


def _list_start(text: str) -> int:
    start = LIST_START.match(text)
    return start.end() if start else 0


def _next_start(text: str, position: int) -> int:
    gap = GAP.match(text, position)
    return gap.end() if gap else position


def _damaged_until(text: str, start: int, indent: str, *, is_last: bool) -> int | None:
    """Where a value that cannot be decoded ends; None where it may go on behind the text.

    It ends where the next one begins in a line of its own, indented like the first; else at its last brace.
    """
    again = text.find(f"\n{indent}{{", start + 1) if not indent.strip() else -1
    if again > 0:
        return again
    depth = 0
    for mark in MARKS.finditer(text, start):
        depth += (mark[0] in "{[") - (mark[0] in "}]")
        if depth <= 0:
            return mark.end()
    return len(text) if is_last else None
