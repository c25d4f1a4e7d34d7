"""Verdicts on a growing log, resumed from where the last process stopped.

New lines are written to a file in memory under the header of the log, then read, given their context and
scored like any file. So verdicts equal those of `wirebert predict` on the whole log, except for columns that
come from other logs or events: these may be written later, so they are absent, and told.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import os
import re
import sys
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import IO, BinaryIO, Literal, cast, final

from wirebert.data.accounting import MAX_LINE_EXAMPLES, SHOWN_CHARACTERS, ParseStats, RejectedRow
from wirebert.data.checks.unread import set_aside
from wirebert.data.dialect import HEAD_BYTES, Encoding, read_head
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.formats import can_be_followed, joined_columns
from wirebert.errors import DataError, UserError
from wirebert.files import path_of, try_lock, unnamed_file
from wirebert.inference.coverage import TrafficFit, coverage_of
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import FollowProgress, read_progress, state_path, write_progress
from wirebert.inference.predictions import JsonLinesWriter, predict_blocks
from wirebert.inference.rejected_rows import RejectedRows, open_own, rejected_path
from wirebert.inference.tail import Tail

POLL_S = 0.5
"""Seconds between two reads of an idle log."""
_WINDOW_ROWS = 10_000
"""Rows over which the share of rows that are set aside is taken, again and again."""
_WARNING_S = 60.0
_PIECE_BYTES = 8 << 20
_SAVING_SHARE = 0.05
HASH_LINES = re.compile(rb"(?:^#[^\n]*\n)+", re.MULTILINE)


def follow(
    detector: Detector,
    log: Path,
    out: Path | None,
    stop: Event,
    tell: Callable[[Iterable[Finding]], None],
    explained: Literal["alerts", "all"] | None = None,
) -> FollowProgress:
    """Score the flows of `log`, and those appended to it, until `stop` is set. Verdicts are JSON lines.

    With `out`, progress is saved next to it (`FILE.state`), and a later call resumes there: each flow has
    exactly one verdict in the file, even after a crash. A row that cannot be used is told and written to
    `FILE.rejected.jsonl`, and following goes on. Without, verdicts go to standard output, from the beginning
    of the log.

    Args:
        stop: checked between two pieces of the log, at most 8 MB each.
        tell: called with findings, those of the columns first and those of the rows at the end.
        explained: see `predict_blocks`.

    Raises:
        DataError: there is no such log, or it cannot be followed; `out` cannot be resumed.
        SchemaError: the log has fewer than half of the features, and the detector does not allow that.
    """
    check_followable(log)
    with _output(out) as sink, unnamed_file("wirebert-piece-", in_memory=True) as piece:
        progress = read_progress(out, detector.schema)
        if out is not None:
            sink.truncate(progress.num_out_bytes)
            sink.seek(progress.num_out_bytes)
        with (
            closing(Tail(log, progress.position, lambda lost: tell([_lost(lost)]))) as tail,
            closing(RejectedRows(out, progress.num_rejected_bytes)) as rejected,
        ):
            progress = replace(progress, position=tail.position)
            scorer = _Scorer(detector, tail, piece, progress, sink, rejected, tell, explained)
            saver = _Saver(out, sink, rejected)
            saver.save(progress, must=True)  # before the first verdict: from now on the file is ours
            while not stop.is_set():
                has_read = scorer.step()
                saver.save(scorer.progress, must=False)
                if not has_read:
                    stop.wait(POLL_S)
            saver.save(scorer.progress, must=True)
            if scorer.fit is not None:
                tell(scorer.fit.scored)
            return scorer.progress


def check_followable(log: Path) -> None:
    """Raise a DataError for a log that is missing or can only be read whole."""
    if not log.is_file():
        raise DataError(f"{log}: expected a log to follow, found none; check the path")
    compression = read_head(log)[1]
    if compression != "none":
        raise DataError(
            f"{log}: expected plain text to follow, found {compression}; leave out --follow to score it as "
            "it is"
        )


@final
class _Scorer:
    """Scores the next lines of a log."""

    def __init__(
        self,
        detector: Detector,
        tail: Tail,
        piece: IO[bytes],
        progress: FollowProgress,
        sink: BinaryIO,
        rejected: RejectedRows,
        tell: Callable[[Iterable[Finding]], None],
        explained: Literal["alerts", "all"] | None,
    ) -> None:
        self.progress = progress
        self._explained: Literal["alerts", "all"] | None = explained
        self._detector, self._tail, self._sink, self._tell = detector, tail, sink, tell
        self._piece, self._rejected = piece, rejected
        self._first: list[RejectedRow] = []
        """The first rejected rows, by their lines in the log."""
        self._recent: list[RejectedRow] = []
        """The first of those that the next alarm is about."""
        self._window = (0, 0)
        """Rows, and rejected rows, before those that the next alarm is about."""
        self._writer = JsonLinesWriter(sink)
        self.fit: TrafficFit | None = None
        """Whether the log fits the model; None while it has no rows."""
        self._file = 0
        """Index of the tail's file that `_flows` and `_header` describe."""
        self._flows: Flows | None = None
        self._header = b""
        self._resumed_header = progress.header.encode("latin-1") if tail.position.offset else b""
        """The last one before the place where the first file is gone on with."""
        self._waiting = b""
        """Lines of a file without rows so far."""
        self._earlier: tuple[Flows, bytes] | None = None
        """`_flows` and `_header` of the file before."""
        self._is_headless = False
        self._line_shift = 0
        """What is added to the line of a piece for that of the file."""
        self._warned_at = -1e9

    def step(self) -> bool:
        """Score the next lines; False if there are none."""
        lines = self._tail.read(_PIECE_BYTES)
        if self._tail.num_files != self._file:
            self._begin_file()
        if is_skipped := bool(self._tail.rejected):
            self._reject_long()
        if not lines:
            return is_skipped
        self._waiting += lines
        if self._flows is None and not self._open():
            return True
        assert self._flows is not None
        lines, self._waiting = self._waiting, b""
        is_start = self._tail.position.offset <= len(lines) and not self._is_headless
        self._write_piece(lines if is_start else self._header + lines)
        first_line = self._tail.position.num_lines - lines.count(b"\n")
        self._line_shift = 0 if is_start else first_line - self._header.count(b"\n")
        before = self._sink.tell() if self._sink.seekable() else 0
        num_flows = self.progress.num_flows
        verdicts = predict_blocks(
            self._detector,
            self._flows,
            self.fit,
            explained=self._explained,
            context=self.progress.context,
            first_row=num_flows,
        )
        for table in verdicts:
            num_flows += table.num_rows
            if table.num_rows:
                # Lines are those of the piece.
                self._writer.write(
                    table.drop_columns([name for name in ("line",) if name in table.column_names])
                )
        self._sink.flush()
        if self._flows.parts[0].source is not None and b"#fields" in lines:  # a Zeek log goes on with others
            headers = [header for header in HASH_LINES.findall(lines) if b"#fields" in header]
            self._header = headers[-1] if headers else self._header
        num_out_bytes = self._sink.tell() - before if self._sink.seekable() else 0
        self.progress = replace(
            self.progress,
            position=self._tail.position,
            num_flows=num_flows,
            num_out_bytes=self.progress.num_out_bytes + num_out_bytes,
            header=self._header.decode("latin-1") if self._flows.parts[0].has_names else self.progress.header,
            num_rejected_bytes=self._rejected.num_bytes,
        )
        self._warn_of_rejected()
        return True

    def _begin_file(self) -> None:
        if self._flows is not None:
            self._earlier = self._flows, self._header
        self._file, self._flows, self._waiting = self._tail.num_files, None, b""

    def _write_piece(self, lines: bytes) -> None:
        self._piece.seek(0)
        self._piece.truncate()
        self._piece.write(lines)
        self._piece.flush()

    def _keep(self, row: RejectedRow) -> None:
        row = replace(row, line=row.line + self._line_shift, file=self._tail.file_name)
        self._rejected(row)
        short = replace(row, text=row.text[:SHOWN_CHARACTERS])
        for examples in (self._first, self._recent):
            if len(examples) < MAX_LINE_EXAMPLES:
                examples.append(short)

    def _reject_long(self) -> None:
        """Set aside lines that are too long to be a piece."""
        self._line_shift = 0
        for row in self._tail.rejected:
            if self.fit is None:
                self._keep(row)
            else:
                self.fit.invalid_values.lines.reject(row.line, row.reason, row.text)
                self.fit.invalid_values.lines.examples = list(self._first)
        self._tail.rejected.clear()
        if not self._waiting:
            self.progress = replace(
                self.progress,
                position=self._tail.position,
                num_rejected_bytes=self._rejected.num_bytes,
            )

    def _open(self) -> bool:
        """Detect the format of the file; False while it has no rows."""
        head = self._tail.head(HEAD_BYTES)
        rows = [line for line in head.split(b"\n") if line.strip() and not line.startswith(b"#")]
        is_named = head.startswith((b"#", b"{"))
        if len(rows) < (1 if is_named else 2):  # the first line may be a header
            return False
        header = self.progress.header.encode("latin-1")
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
            self.fit = TrafficFit.of(self._detector.artifact.tokenizer, self._flows)
            self.fit.invalid_values.lines.keep = self._keep
            self._tell(self.fit.opened)
        return True

    def _read_head(self, head: bytes) -> tuple[Flows, bytes]:
        """The format of a file that begins with `head`, and its header."""
        self._write_piece(head)
        # A growing table has no footer: a short row at the end of a piece is an ordinary row. Its encoding
        # stays what it was when the log was first read.
        config = DataConfig(
            footer_lines=0,
            allow_absent=self._detector.allow_absent,
            encoding=cast(Encoding | None, self.progress.encoding),
        )
        piece = path_of(self._piece)
        flows = open_flows(piece, config, schema=self._detector.schema, can_be_empty=True)
        part = flows.parts[0]
        if not can_be_followed(part.dialect.format):
            raise DataError(
                f"{self._tail.path}: expected a log with a flow on each line, found {flows.described}; leave "
                "out --follow to score it as it is"
            )
        elsewhere = joined_columns(part.dialect.format)
        names = tuple(name for name in part.names if name not in elsewhere)
        flows = replace(flows, parts=(replace(part, names=names, where=str(self._tail.path)),))
        coverage_of(flows, self._detector.schema)
        if part.source is None:
            self.progress = replace(self.progress, encoding=part.dialect.encoding)
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
            self._tell(found)
        if found or recent.num_rows + recent.num_rejected >= _WINDOW_ROWS:
            self._window, self._recent = (lines.num_rows, lines.num_rejected), []


@final
class _Saver:
    """Saves progress from time to time: often enough to lose little work, rarely enough to cost little."""

    def __init__(self, out: Path | None, sink: BinaryIO, rejected: RejectedRows) -> None:
        self._out, self._sink, self._rejected = out, sink, rejected
        self._saved: FollowProgress | None = None
        self._saved_at, self._took_s = -1e9, 0.0

    def save(self, progress: FollowProgress, *, must: bool) -> None:
        """Save progress if it changed and, unless it `must` be now, enough time has passed since the last."""
        now = time.monotonic()
        if self._out is None or progress is self._saved:
            return
        if not must and now - self._saved_at < max(1.0, self._took_s / _SAVING_SHARE):
            return
        self._rejected.flush(to_disk=True)
        os.fsync(self._sink.fileno())  # verdicts first: the state must never be ahead of them
        write_progress(self._out, progress)
        self._saved, self._saved_at = progress, time.monotonic()
        self._took_s = self._saved_at - now


def _lost(message: str) -> Finding:
    return Finding(code="lost_lines", severity="warning", column=None, count=1, example="", message=message)


@contextmanager
def _output(out: Path | None) -> Generator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
        return
    if out.suffix.lower() != ".jsonl":
        raise DataError(
            f"--out {out}: expected a name that ends in .jsonl with --follow, found {out.suffix!r}; rename it"
        )
    with open_own(out) as sink:
        if not try_lock(sink):
            raise DataError(
                f"--out {out}: another process is writing to it; stop it first or choose another name"
            )
        for path in (out, rejected_path(out)):
            # Empty: a follower was killed before it could save its first state.
            if not state_path(out).exists() and path.exists() and path.stat().st_size:
                raise DataError(
                    f"--out {path}: expected a new file, or one that --follow wrote (with "
                    f"{state_path(out).name} next to it), found another one, which is kept; choose "
                    "another name"
                )
        yield sink
