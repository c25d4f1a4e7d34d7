"""Context (history) features: what a flow's hosts did in the minute and in the hour before it, as number
columns.

`FlowContext` reads a log in the order of arrival (see `ArrivalClock`) and only looks back, so a flow's
columns are the same in batch and live, however the log is split. A window reaches from the flow's arrival
back to, but not including, the arrival that many seconds earlier. Flows of one arrival count in log order.
The flow itself counts only in the three channel columns. Counts are exact. The state is the flows of the long
window, at most `max_flows`, and their sums. Flows that leave the window are forgotten, and so are hosts
without flows.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np
import pyarrow as pa

from wirebert.data.context.clock import ArrivalClock
from wirebert.data.context.endpoints import CONTEXT_REQUIRED, MAX_BYTES, FlowEndpoints, read_endpoints
from wirebert.data.context.hash_table import HashTable
from wirebert.data.context.sliding import RingBuffer, rolling_sums
from wirebert.data.hashing import mix
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.times import seconds_of
from wirebert.data.windows import ContextWindows
from wirebert.files import decode_json
from wirebert.shapes import Bool, Float64, Int64

_SIZE_STEPS = 256  # per doubling
_BATCH = 1 << 16
_SLACK = 1.25
_COLUMNS = (
    ("ctx_src_flows", ColumnKind.COUNT),
    ("ctx_src_dst_hosts", ColumnKind.COUNT),  # different destinations of the source
    ("ctx_src_dst_ports", ColumnKind.COUNT),  # different destination ports of the source
    ("ctx_src_failed_share", ColumnKind.RATE),  # of the source's flows, those refused or not answered
    ("ctx_src_sent_bytes", ColumnKind.COUNT),
    ("ctx_src_received_bytes", ColumnKind.COUNT),
    ("ctx_dst_flows", ColumnKind.COUNT),
    ("ctx_dst_src_hosts", ColumnKind.COUNT),  # different sources of the destination
)
"""Columns of each window; the name ends with its seconds."""
# A channel is a source, a destination and a port; these columns use the long window.
_CHANNEL_COLUMNS = (
    ("ctx_channel_gap_s", ColumnKind.DURATION),  # since the channel's last flow
    ("ctx_channel_gap_variation", ColumnKind.NUMBER),  # standard deviation of those gaps over their mean
    (
        "ctx_channel_size_variation",
        ColumnKind.NUMBER,
    ),  # standard deviation of log2 of the bytes that its flows sent
)


def context_columns(windows: ContextWindows) -> tuple[Column, ...]:
    """The columns that `FlowContext` appends, in order.

    >>> [column.name for column in context_columns(ContextWindows())][:3]
    ['ctx_src_flows_60s', 'ctx_src_dst_hosts_60s', 'ctx_src_dst_ports_60s']
    """
    names = [
        (f"{name}_{span}s", kind) for span in (windows.short_s, windows.long_s) for name, kind in _COLUMNS
    ]
    return tuple(Column(name=name, kind=kind, is_feature=True) for name, kind in [*names, *_CHANNEL_COLUMNS])


def with_context(schema: FlowSchema, windows: ContextWindows) -> FlowSchema:
    """The schema with the context columns; unchanged if it already has columns of these names."""
    columns = context_columns(windows)
    if {column.name for column in columns} & set(schema.names):
        return schema
    return replace(schema, columns=(*schema.columns, *columns), context=windows)


def without_context(schema: FlowSchema) -> FlowSchema:
    """The schema without context columns; flows are then read without them.

    >>> bare = FlowSchema(name="flows", columns=(Column(name="ts", kind=ColumnKind.TIME, is_feature=False),))
    >>> without_context(with_context(bare, ContextWindows())) == bare
    True
    """
    columns = tuple(column for column in schema.columns if not schema.is_context(column.name))
    return replace(schema, columns=columns, context=None)


def has_context(names: Iterable[str]) -> bool:
    """Whether a table with these columns can have context: times and the addresses of both ends."""
    return set(CONTEXT_REQUIRED) <= set(names)


def count_without_history(table: pa.Table, windows: ContextWindows) -> int:
    """Flows of a log whose long window reaches back beyond its first flow, so that earlier flows may lack.

    Without times and addresses no flow has a history.
    """
    if not has_context(table.column_names):
        return table.num_rows
    span_us = windows.long_s * 1_000_000
    arrivals_us = ArrivalClock(reset_us=span_us).arrivals(seconds_of(table.column("ts")))
    return int((arrivals_us < span_us).sum())


def with_columns(table: pa.Table, columns: pa.Table) -> pa.Table:
    """The table with these columns at its end, in place of those of their names, which a sender made up."""
    table = table.drop_columns([name for name in columns.column_names if name in table.column_names])
    for name in columns.column_names:
        table = table.append_column(name, columns[name])
    return table


@runtime_checkable
class ContextSource(Protocol):
    """Knows the context of the flows of a log."""

    def append(self, table: pa.Table) -> pa.Table:
        """The next table of the log, with the context columns at its end."""
        ...


class FlowContext:
    """Appends context columns to the tables of one log, in order."""

    def __init__(self, windows: ContextWindows) -> None:
        self.windows = windows
        self._clock = ArrivalClock(reset_us=windows.long_s * 1_000_000)
        self._log = RingBuffer(_LOG_COLUMNS)
        self._heads = [0, 0]
        """Oldest row inside each window."""
        # Totals: of each window, one after the other; see `_slide` for their order.
        self._tables = {
            "source": HashTable(2 * 6),
            "destination": HashTable(2 * 2),
            "pair": HashTable(2),
            "source_port": HashTable(2),
            "channel": HashTable(7),
        }
        self._limits = dict.fromkeys(self._tables, _BATCH)
        """Number of keys of each table beyond which keys without flows are removed."""

    @property
    def size_bytes(self) -> int:
        """Memory of the state."""
        return self._log.size_bytes + sum(table.size_bytes for table in self._tables.values())

    def append(self, table: pa.Table) -> pa.Table:
        """The next table of the log, with the context columns at its end.

        A table without times or addresses is returned unchanged; context columns that a table has already are
        replaced. Flows without source or destination have no
        context and do not count in that of others. A rate or variation without values is missing.
        """
        if not has_context(table.column_names):
            return table
        return with_columns(table, self.columns(*read_endpoints(table)))

    def columns(self, is_usable: Bool[np.ndarray, " rows"], rows: FlowEndpoints) -> pa.Table:
        """The context columns of what `read_endpoints` gave for the next table of the log."""
        values = np.full((2 * len(_COLUMNS) + len(_CHANNEL_COLUMNS), len(is_usable)), np.nan)
        usable = rows if is_usable.all() else FlowEndpoints(*(column[is_usable] for column in rows))
        parts = [self.add(part) for part in _parts(usable)]
        if parts:
            values[:, is_usable] = np.concatenate(parts, axis=1)
        names = [column.name for column in context_columns(self.windows)]
        return pa.table([pa.array(numbers, mask=np.isnan(numbers)) for numbers in values], names)

    def add(self, rows: FlowEndpoints) -> Float64[np.ndarray, "columns flows"]:
        """Context of the next flows, one row per column; NaN is missing."""
        first, num_rows = self._log.stop, len(rows.time_s)
        pair = mix(rows.source * np.uint64(3) + mix(rows.destination))
        keys = {
            "source": rows.source,
            "destination": rows.destination,
            "pair": pair,
            "source_port": mix(rows.source * np.uint64(5) + mix(rows.port)),
            "channel": mix(pair * np.uint64(7) + mix(rows.port)),
        }
        self._log.add(
            {name: table.indices_of(keys[name]) for name, table in self._tables.items()}
            | {
                "arrival_us": self._clock.arrivals(rows.time_s),
                "is_failed": rows.is_failed,
                "sent": np.clip(rows.sent_bytes, 0, MAX_BYTES),
                "received": np.clip(rows.received_bytes, 0, MAX_BYTES),
                "gap_ms": np.full(num_rows, -1),
            }
        )
        starts = [self._starts(window, first) for window in (0, 1)]
        gap_us = self._gaps_us(first, starts[1])
        self._log.of("gap_ms", first)[:] = np.where(gap_us < 0, -1, gap_us // 1_000)
        hosts = [self._slide(window, first, start) for window, start in enumerate(starts)]
        channel = self._slide_channels(first, starts[1])
        self._heads = [
            int(start[-1]) if num_rows else head for start, head in zip(starts, self._heads, strict=True)
        ]
        self._forget()
        return np.concatenate([*hosts, np.where(gap_us < 0, np.nan, gap_us / 1e6)[None], channel])

    def to_table(self) -> pa.Table:
        """The state as a table of the remembered flows; `from_table` restores it."""
        first = self._heads[1]
        columns: dict[str, np.ndarray] = {}
        for name in _LOG_COLUMNS:
            values = self._log.of(name, first)
            columns[name] = self._tables[name].keys[values] if name in self._tables else values
        state = {"windows": self.windows.to_dict(), "clock": self._clock.to_dict(), "heads": self._heads}
        return pa.table({name: pa.array(values) for name, values in columns.items()}).replace_schema_metadata(
            {"wirebert.context": json.dumps(state)}
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> "FlowContext":
        """The context with a state from `to_table`."""
        state = cast(dict[str, Any], decode_json((table.schema.metadata or {})[b"wirebert.context"]))
        context = cls(ContextWindows.from_dict(state["windows"], "context state"))
        context._clock = ArrivalClock(**state["clock"])
        short, long = map(int, state["heads"])
        if not 0 <= long <= short <= long + table.num_rows:
            raise ValueError("its windows begin at other rows than it holds")
        columns = {name: table.column(name).to_numpy() for name in _LOG_COLUMNS}
        for name, keys in context._tables.items():
            columns[name] = keys.indices_of(columns[name])
        context._log = RingBuffer(_LOG_COLUMNS, first=long)
        context._log.add(columns)
        context._heads = [short, long]
        for window, head in enumerate((short, long)):
            context._slide(window, head, np.full(context._log.stop - head, head))
        context._slide_channels(long, np.full(table.num_rows, long))
        channel = context._tables["channel"]
        channel.totals[6][columns["channel"]] = np.arange(long, context._log.stop) + 1  # the last one stays
        return context

    def _starts(self, window: int, first: int) -> Int64[np.ndarray, " flows"]:
        """Oldest row in the window of each flow from row `first` on."""
        head = self._heads[window]
        span_us = (self.windows.short_s, self.windows.long_s)[window] * 1_000_000
        arrivals_us = self._log.of("arrival_us", head)
        by_time = head + np.searchsorted(arrivals_us, arrivals_us[first - head :] - span_us, side="right")
        return np.maximum(by_time, np.arange(first, self._log.stop) - self.windows.max_flows)

    def _gaps_us(self, first: int, start: Int64[np.ndarray, " flows"]) -> Int64[np.ndarray, " flows"]:
        """Time since the last flow of the channel; -1 if it has none in the long window."""
        channels = self._log.of("channel", first).astype(np.int64)
        rows = np.arange(first, self._log.stop)
        last = self._tables["channel"].totals[6]  # row number + 1
        order = np.argsort(channels * len(rows) + (rows - first))
        is_same = np.diff(channels[order], prepend=-1) == 0
        before = np.where(is_same, np.roll(rows[order], 1), last[channels[order]] - 1)
        previous = np.empty_like(rows)
        previous[order] = before
        last[channels[order]] = rows[order] + 1
        has_previous = previous >= start
        arrivals_us = self._log.of("arrival_us", self._log.first)
        before_us = arrivals_us[np.where(has_previous, previous, rows) - self._log.first]
        return np.where(has_previous, arrivals_us[rows - self._log.first] - before_us, -1)

    def _slide(
        self, window: int, first: int, start: Int64[np.ndarray, " flows"]
    ) -> Float64[np.ndarray, "columns flows"]:
        """Move a window over the rows from `first` on. Returns the columns of their hosts."""
        events = _Events.of(self._heads[window], first, start, self._log)
        new_pairs = self._changes(events, "pair", window)
        new_ports = self._changes(events, "source_port", window)
        sums = np.stack(
            [
                events.signs,
                *(events.signed(name) for name in ("is_failed", "sent", "received")),
                new_pairs,
                new_ports,
            ]
        )
        source = self._totals(events, "source", slice(6 * window, 6 * window + 6), sums)
        sums = np.stack([events.signs, new_pairs])
        destination = self._totals(events, "destination", slice(2 * window, 2 * window + 2), sums)
        num_flows, num_failed, sent, received, num_pairs, num_ports = source[:, events.num_leaving :].astype(
            float
        )
        failed_fraction = np.divide(
            num_failed, num_flows, out=np.full_like(num_flows, np.nan), where=num_flows > 0
        )
        to_destination = destination[:, events.num_leaving :].astype(float)
        return np.stack([num_flows, num_pairs, num_ports, failed_fraction, sent, received, *to_destination])

    def _slide_channels(
        self, first: int, start: Int64[np.ndarray, " flows"]
    ) -> Float64[np.ndarray, "columns flows"]:
        """Move the long window over the channels. Returns the variation of gaps and of sizes, this flow
        included."""
        events = _Events.of(self._heads[1], first, start, self._log)
        gap_ms = events.column("gap_ms").astype(np.int64)
        has_gap = (gap_ms >= 0).astype(np.int64)
        gap_ms = gap_ms * has_gap
        size = np.rint(np.log2(1.0 + events.column("sent")) * _SIZE_STEPS).astype(np.int64)
        contributions = np.stack([has_gap, gap_ms, gap_ms**2, np.ones_like(size), size, size**2])
        totals = self._totals(events, "channel", slice(0, 6), contributions * events.signs) + contributions
        num_gaps, gaps, gap_squares, num_flows, sizes, size_squares = totals[:, events.num_leaving :].astype(
            float
        )
        gap_spread = np.sqrt(np.maximum(num_gaps * gap_squares - gaps**2, 0.0)) / np.maximum(gaps, 1.0)
        size_spread = np.sqrt(np.maximum(num_flows * size_squares - sizes**2, 0.0)) / num_flows / _SIZE_STEPS
        return np.stack(
            [np.where(num_gaps > 1, gap_spread, np.nan), np.where(num_flows > 1, size_spread, np.nan)]
        )

    def _changes(self, events: "_Events", name: str, window: int) -> Int64[np.ndarray, " events"]:
        """1 where a key enters the window, -1 where its last flow leaves it."""
        count = self._totals(events, name, slice(window, window + 1), events.signs[None])[0]
        return np.where(events.signs > 0, count == 0, -(count == 1).astype(np.int64))

    def _totals(
        self, events: "_Events", name: str, lines: slice, amounts: Int64[np.ndarray, "lines events"]
    ) -> Int64[np.ndarray, "lines events"]:
        """The totals of each event's key before the event, which then adds its amounts."""
        numbers = events.column(name).astype(np.int64)
        return rolling_sums(self._tables[name].totals[lines], numbers, events.moments, amounts)

    def _forget(self) -> None:
        """Drop rows that left the long window and, from time to time, keys without rows."""
        self._log.drop(self._heads[1])
        for name, line in _FLOWS_LINE.items():
            table = self._tables[name]
            if len(table) <= self._limits[name]:
                continue
            is_live = table.totals[line, : len(table)] > 0
            if len(table) > _SLACK * int(is_live.sum()):
                numbers = table.keep(is_live)
                rows = self._log.of(name, self._heads[1])
                rows[:] = numbers[rows]
            self._limits[name] = int(_SLACK * len(table)) + _BATCH


_LOG_COLUMNS: dict[str, type[np.generic]] = {
    "arrival_us": np.int64,
    "source": np.int32,
    "destination": np.int32,
    "pair": np.int32,
    "source_port": np.int32,
    "channel": np.int32,
    "is_failed": np.bool_,
    "sent": np.int64,
    "received": np.int64,
    "gap_ms": np.int32,
}
_FLOWS_LINE = {"source": 6, "destination": 2, "pair": 1, "source_port": 1, "channel": 3}
"""The row of each table's totals that counts the flows in the long window."""


class _Events(NamedTuple):
    """Flows that leave a window, then flows that arrive; moments give the order of events."""

    moments: Int64[np.ndarray, " events"]
    signs: Int64[np.ndarray, " events"]
    """1 for arriving, -1 for leaving."""
    num_leaving: int
    head: int
    """Number of the first row that leaves."""
    first: int
    """Number of the first row that arrives."""
    log: RingBuffer

    @classmethod
    def of(cls, head: int, first: int, start: Int64[np.ndarray, " flows"], log: RingBuffer) -> "_Events":
        """A flow leaves before the lookup of the first flow whose window starts after it; a flow looks up,
        then arrives."""
        leaving = np.arange(head, int(start[-1]) if len(start) else head)
        moments = [2 * np.searchsorted(start, leaving, side="right"), 2 * np.arange(len(start)) + 1]
        return cls(
            moments=np.concatenate(moments),
            signs=np.repeat(np.array([-1, 1]), [len(leaving), len(start)]),
            num_leaving=len(leaving),
            head=head,
            first=first,
            log=log,
        )

    def column(self, name: str) -> np.ndarray:
        """The log's column at each event."""
        leaving = self.log.of(name, self.head)[: self.num_leaving]
        return np.concatenate([leaving, self.log.of(name, self.first)])

    def signed(self, name: str) -> Int64[np.ndarray, " events"]:
        """The column, negative where flows leave."""
        return self.column(name) * self.signs


def _parts(rows: FlowEndpoints) -> Iterator[FlowEndpoints]:
    """At most `_BATCH` flows at a time, which keeps temporary arrays in the processor's cache."""
    for start in range(0, len(rows.time_s), _BATCH):
        yield FlowEndpoints(*(values[start : start + _BATCH] for values in rows))
