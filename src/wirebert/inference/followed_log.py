"""Verdicts on the lines of a log as they come, resumed from where the last process stopped.

New lines are written to a file in memory under the header of the log, then read, given their context and
scored like any file. So verdicts equal those of `wirebert predict` on the whole log, except for columns that
come from other logs or events: these may be written later, so they are absent, and told.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Literal, NamedTuple, cast, final

import pyarrow as pa

from wirebert.alerts.ecs import carried_columns
from wirebert.data.accounting import (
    KEPT_CHARACTERS,
    MAX_LINE_EXAMPLES,
    SHOWN_CHARACTERS,
    ParseStats,
    RejectedRow,
)
from wirebert.data.checks.unread import set_aside
from wirebert.data.dialect import HEAD_BYTES, Encoding, read_head
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.formats import can_be_followed, joined_columns
from wirebert.errors import DataError, UserError
from wirebert.files import path_of, unnamed_file
from wirebert.inference.coverage import TrafficFit, coverage_of
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.line_source import StreamedLines
from wirebert.inference.predictions import FlowPart, flow_parts, predict_parts
from wirebert.inference.tail import Tail
from wirebert.plurals import counted

_WINDOW_ROWS = 10_000
"""Rows over which the share of rows that are set aside is taken, again and again."""
_WARNING_S = 60.0
PIECE_BYTES = 4 << 20
"""Most bytes that are read at a time, and longest line."""
READ_S = 4.0
"""So long a log is read before others have their turn: reading and writing overlap within a turn alone."""
_POINT_S = 1.0
_POINT_SHARE = 0.05
HASH_LINES = re.compile(rb"(?:^#[^\n]*\n)+", re.MULTILINE)


def check_followable(log: Path) -> None:
    """Raise a DataError for a log that is missing or can only be read whole."""
    if not log.is_file():
        raise DataError(f"{log}: expected a log, a folder or a glob to monitor, found none; check the path")
    compression = read_head(log)[1]
    if compression != "none":
        raise DataError(
            f"{log}: expected plain text to follow, found {compression}; score it with `wirebert predict`, "
            "or give its folder"
        )


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How what is followed is scored."""

    detector: Detector
    tell: Callable[[Iterable[Finding]], None]
    """Called with findings, those of the columns first."""
    keep: Callable[[RejectedRow], None]
    """Called with rows that cannot be used."""
    explained: Literal["alerts", "all", "incidents"] | None = None
    """See `predict_blocks`."""
    stop: Event = field(default_factory=Event)
    """When it is set, nothing further is read."""


class _Point(NamedTuple):
    """How far a log is scored when the flows before it are written."""

    progress: SourceProgress
    rejected: list[RejectedRow]
    num_read: int
    """Bytes or messages that were read before it."""


@final
class FollowedLog:
    """Scores the next lines of a log.

    Raises (from `tables`):
        DataError: the log cannot be followed.
        SchemaError: it has fewer than half of the features, and the detector does not allow that.
    """

    def __init__(self, lines: Tail | StreamedLines, progress: SourceProgress, scoring: Scoring) -> None:
        self.lines, self.progress, self._scoring = lines, progress, scoring
        self._next = progress
        """How far the log is read; `progress` is behind what the caller of `tables` has written."""
        self._points: deque[_Point] = deque()
        """What `progress` will be."""
        self._point_at = 0.0
        self._rejected: list[RejectedRow] = []
        """Rows that were set aside since the last point."""
        self.name = lines.name
        self._piece = unnamed_file("wirebert-piece-", in_memory=True)
        self._first: list[RejectedRow] = []
        """The first rejected rows, by their lines in the log."""
        self._recent: list[RejectedRow] = []
        """The first of those that the next alarm is about."""
        self._window = (0, 0)
        """Rows, and rejected rows, before those that the next alarm is about."""
        self.fit: TrafficFit | None = None
        """Whether the log fits the model; None while it has no rows."""
        self._file = 0
        """Index of the file that `_flows` and `_header` describe."""
        self._flows: Flows | None = None
        self._header = b""
        self._resumed_header = progress.header.encode("latin-1") if lines.offset else b""
        """The last one before the place where the first file is gone on with."""
        self._waiting = b""
        """Lines of a file without rows so far."""
        self._earlier: tuple[Flows, bytes] | None = None
        """`_flows` and `_header` of the file before."""
        self._is_headless = False
        self._line_shift = 0
        """What is added to the line of a piece for that of the file."""
        self._warned_at = -1e9
        self._num_read = self._num_done = 0
        """Bytes or messages that were read, and those of them before `progress`."""
        self._num_unread: int | None = None
        """Those that are not read, while another thread reads; None: nobody does."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.lines.is_over

    def num_behind(self) -> int:
        """Bytes or messages that are there and not scored."""
        num_unread = self.lines.num_behind() if self._num_unread is None else self._num_unread
        return num_unread + self._num_read - self._num_done

    def tables(self) -> Generator[pa.Table]:
        """Verdicts on the next lines; none if there are none. Reading and scoring are ahead of the caller.

        When a table is given, `progress` is behind the tables before it, or some of them and no part of a
        piece; at the end it is behind all.
        """
        until = time.monotonic() + READ_S
        lines = self._read()
        num_flows = self._next.num_flows
        if lines:
            assert self.fit is not None
            verdicts = predict_parts(
                self._scoring.detector,
                self._parts(lines, until),
                self.fit,
                explained=self._scoring.explained,
                carried=carried_columns(self._scoring.detector.schema.names),
            )
            with closing(verdicts):
                for table in verdicts:
                    self._advance_to(num_flows)
                    num_flows += table.num_rows
                    if table.num_rows:  # lines are those of the piece
                        yield table.drop_columns([name for name in ("line",) if name in table.column_names])
        self._num_unread, self._num_done = None, self._num_read  # lines that wait for more are no lag
        if self._next is not self.progress or self._rejected:
            self._points.append(_Point(self._next, self._rejected, self._num_read))
            self._rejected = []
        self._advance_to(num_flows)

    def _parts(self, lines: bytes, until: float) -> Iterator[FlowPart]:
        """The flows of the lines, and of those that follow them until then."""
        while lines:
            assert self._flows is not None
            assert self.fit is not None
            num_flows, invalid_values = self._next.num_flows, self.fit.invalid_values
            for part in flow_parts(self._flows, invalid_values, self._next.context, num_flows):
                num_flows += len(part.rows)
                yield part
            if self._flows.parts[0].source is not None and b"#fields" in lines:  # a Zeek log goes on
                headers = [header for header in HASH_LINES.findall(lines) if b"#fields" in header]
                self._header = headers[-1] if headers else self._header
            has_names = self._flows.parts[0].has_names
            self._next = replace(
                self._next,
                position=self.lines.saved_position,
                num_flows=num_flows,
                header=self._header.decode("latin-1") if has_names else self._next.header,
            )
            self._warn_of_rejected()
            if not self._num_unread or time.monotonic() > until or self._scoring.stop.is_set():
                return
            self._set_point()
            lines = self._read()

    def _set_point(self) -> None:
        """Keep what `progress` will be, and the state of the context, which goes on; but not often."""
        if (start := time.monotonic()) < self._point_at:
            return
        context = self._next.context
        progress = self._next if context is None else replace(self._next, context_then=context.to_table())
        self._points.append(_Point(progress, self._rejected, self._num_read))
        self._rejected = []
        now = time.monotonic()
        self._point_at = now + max(_POINT_S, (now - start) / _POINT_SHARE)

    def _advance_to(self, num_flows: int) -> None:
        """Let `progress` be behind so many flows, which are written."""
        while self._points and self._points[0].progress.num_flows <= num_flows:
            self.progress, rejected, self._num_done = self._points.popleft()
            for row in rejected:
                self._scoring.keep(row)

    def _read(self) -> bytes:
        """The next lines, as a piece of which the flows can be read; empty where there are none."""
        behind = self.lines.num_behind()
        lines = self.lines.read(PIECE_BYTES)
        self._num_unread = self.lines.num_behind()
        self._num_read += max(0, behind - self._num_unread)
        if self.lines.num_files != self._file:
            self._begin_file()
        if self.lines.rejected:
            self._reject_long()
        if not lines:
            return b""
        self._waiting += lines
        try:
            if self._flows is None and not self._open():
                return b""
        except UserError as error:
            if not isinstance(self.lines, StreamedLines) or self.lines.saved_position is None:
                raise
            self._set_aside(self.lines, error)  # one bad message must not end the whole group again and again
            return b""
        lines, self._waiting = self._waiting, b""
        is_start = self.lines.offset <= len(lines) and not self._is_headless
        self._write_piece(lines if is_start else self._header + lines)
        first_line = self.lines.num_lines - lines.count(b"\n")
        self._line_shift = 0 if is_start else first_line - self._header.count(b"\n")
        return lines

    def under(self, detector: Detector) -> "FollowedLog":
        """The same log from here on under another model; call it between two calls of `tables`.

        Raises:
            UserError: the log does not fit that model.
        """
        other = FollowedLog(self.lines, self.progress, replace(self._scoring, detector=detector))
        other._piece.close()
        other._file, other._waiting, other._piece = self._file, self._waiting, self._piece
        if self._flows is not None:
            other._open()
            other._header = self._header
        return other

    def close(self) -> None:
        """Close the log."""
        self.lines.close()
        self._piece.close()

    def _begin_file(self) -> None:
        if self._flows is not None:
            self._earlier = self._flows, self._header
        self._file, self._flows, self._waiting = self.lines.num_files, None, b""

    def _write_piece(self, lines: bytes) -> None:
        self._piece.seek(0)
        self._piece.truncate()
        self._piece.write(lines)
        self._piece.flush()

    def _keep(self, row: RejectedRow) -> None:
        row = replace(row, line=row.line + self._line_shift, file=self.lines.file_name)
        self._rejected.append(row)
        short = replace(row, text=row.text[:SHOWN_CHARACTERS])
        for examples in (self._first, self._recent):
            if len(examples) < MAX_LINE_EXAMPLES:
                examples.append(short)

    def _reject_long(self) -> None:
        """Set aside lines that are too long to be a piece."""
        self._line_shift = 0
        for row in self.lines.rejected:
            if self.fit is None:
                self._keep(row)
            else:
                self.fit.invalid_values.lines.reject(row.line, row.reason, row.text)
                self.fit.invalid_values.lines.examples = list(self._first)
        self.lines.rejected.clear()
        if not self._waiting:
            self._next = replace(self._next, position=self.lines.saved_position)

    def _set_aside(self, lines: StreamedLines, error: UserError) -> None:
        """Reject the first messages of a partition, which are no flows of this model."""
        texts, self._waiting = self._waiting.splitlines(), b""
        for line, text in enumerate(texts, lines.num_lines - len(texts) + 1):
            shown = text[: 4 * KEPT_CHARACTERS].decode("utf-8", "replace")[:KEPT_CHARACTERS]
            self._rejected.append(RejectedRow(line, str(error), shown, self.name))
        lines.forget_head()
        self._next = replace(self._next, position=lines.saved_position)
        message = f"{self.name}: {counted(len(texts), 'message is', 'messages are')} set aside: {error}"
        self._scoring.tell(
            [Finding(code="rejected_rows", severity="warning", count=len(texts), message=message)]
        )

    def _open(self) -> bool:
        """Detect the format of the file; False while it has no rows."""
        head = self.lines.head(HEAD_BYTES)
        rows = [line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")]
        is_named = head.startswith((b"#", b"{"))
        if len(rows) < (1 if is_named else 2):  # the first line may be a header
            return False
        header = self._next.header.encode("latin-1")
        try:
            found = self._read_head(head)
        except UserError:
            if self._earlier is None and not header:
                raise
            found = None  # who writes its first line must not end the following
        # A log that was cut off may go on without its header.
        self._is_headless = found is None or (bool(header) and not found[0].parts[0].has_names)
        if found is None or self._is_headless:
            found = self._earlier or self._read_head(header + head)
        self._flows, self._header = found
        if self._file == 1 and b"#fields" in self._resumed_header:
            self._header = self._resumed_header
        if self.fit is None:
            self.fit = TrafficFit.of(self._scoring.detector.artifact.tokenizer, self._flows)
            self.fit.invalid_values.lines.keep = self._keep
            self._scoring.tell(self.fit.opened)
        return True

    def _read_head(self, head: bytes) -> tuple[Flows, bytes]:
        """The format of a file that begins with `head`, and its header."""
        self._write_piece(head)
        # A growing table has no footer: a short row at the end of a piece is an ordinary row. Its encoding
        # stays what it was when the log was first read.
        config = DataConfig(
            footer_lines=0,
            block_mb=1,  # so that scoring begins soon
            allow_absent=self._scoring.detector.allow_absent,
            encoding=cast(Encoding | None, self._next.encoding),
        )
        piece = path_of(self._piece)
        flows = open_flows(piece, config, schema=self._scoring.detector.schema, can_be_empty=True)
        part = flows.parts[0]
        if not can_be_followed(part.dialect.format):
            raise DataError(
                f"{self.name}: expected a log with a flow on each line, found {flows.described}; score "
                "it whole with `wirebert predict`, or give its folder"
            )
        elsewhere = joined_columns(part.dialect.format)
        names = tuple(name for name in part.names if name not in elsewhere)
        flows = replace(flows, parts=(replace(part, names=names, where=self.name),))
        coverage_of(flows, self._scoring.detector.schema)
        if part.source is None:
            self._next = replace(self._next, encoding=part.dialect.encoding)
        if part.source is not None:
            num_lines = next(i for i, line in enumerate(head.split(b"\n")) if not line.startswith(b"#"))
        else:
            num_lines = part.dialect.skip_lines + part.dialect.has_header
        return flows, b"".join(head.splitlines(keepends=True)[:num_lines])

    def _warn_of_rejected(self) -> None:
        """Tell at once, but not each moment, where many of the last rows were set aside."""
        assert self.fit is not None
        lines, (num_rows, num_rejected) = self.fit.invalid_values.lines, self._window
        lines.examples = list(self._first)
        recent = ParseStats(
            num_rows=lines.num_rows - num_rows,
            num_rejected=lines.num_rejected - num_rejected,
            examples=self._recent,
        )
        found = list(set_aside(recent))
        now = time.monotonic()
        if found and now - self._warned_at < _WARNING_S:
            return
        if found:
            self._warned_at = now
            self._scoring.tell(found)
        if found or recent.num_rows + recent.num_rejected >= _WINDOW_ROWS:
            self._window, self._recent = (lines.num_rows, lines.num_rejected), []
