"""`SpooledSink`: events go through files on disk, from which a thread delivers them, in order and again."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any, BinaryIO, Final, NamedTuple, cast, final

from wirebert.alerts.sinks import RemoteSink
from wirebert.errors import DataError
from wirebert.files import try_lock
from wirebert.plurals import counted

SEGMENT_BYTES: Final = 16 << 20
_BATCH_BYTES: Final = 1 << 18
_LEAST_BATCH_BYTES: Final = 1 << 12
_CONFIRM_S: Final = 5.0
"""So often it is made sure that the sink has what it took, while events come."""
_CONFIRM_BYTES: Final = 16 * _BATCH_BYTES
_QUICK_S: Final = 1.0
"""A receiver that reads a batch within it can take a larger one."""
_LONGEST_WAIT_S: Final = 30.0
DEAD_S: Final = 60.0
"""A sink that took nothing for so long does not hold up the others when its spool is full."""


class Place(NamedTuple):
    """A place in the spool."""

    segment: int
    offset: int


@final
class SpooledSink:
    """A sink that may be slow or gone: what it does not take waits on disk, up to a cap.

    Events are delivered in order and at least once: whatever the sink took and did not confirm (`confirm`) is
    sent again when it fails. After a failure each batch is confirmed before the next one, and batches are
    smaller with each further failure, so a receiver that is slow and hangs up gets on too. When the spool is
    full, writing waits as long as the sink takes something from time to time; a dead one loses the newest
    events, which are counted and told.

    Args:
        name: of the sink, for messages.
        folder: of the spool; one process at a time.
        sink: where events are delivered, by one thread.
        saved: `end` as it was saved; what is behind it will be written again.
        cap_bytes: of the events that wait.
        tell: called with a code and a sentence when the sink fails, recovers or loses events.

    Raises:
        DataError: another process uses the folder.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        sink: RemoteSink,
        saved: Mapping[str, Any] | None,
        cap_bytes: int,
        tell: Callable[[str, str], None],
    ) -> None:
        self.name, self.num_sent, self.num_lost, self.num_lost_in_all = name, 0, 0, 0
        self._folder, self._sink, self._cap_bytes, self._tell = folder, sink, cap_bytes, tell
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / "lock").open("wb")
        if not try_lock(self._lock):
            self._lock.close()
            raise DataError(f"{folder}: another process is delivering from this spool; stop it first")
        self._changed = Condition()
        self._is_closing, self._is_closed, self._is_down = False, False, False
        self._took_at, self._full_at = time.monotonic(), 0.0
        self._batch_bytes, self._is_careful = _BATCH_BYTES, False
        self._unconfirmed_since, self._num_unconfirmed = 0.0, 0
        written = Place(*saved["written"]) if saved else Place(0, 0)
        self._cut(written)
        first = min(self._segments(), default=written.segment)
        sent = Place(*saved["sent"]) if saved else written
        self._sent = sent if sent.segment >= first else Place(first, 0)
        self._file = self._open_segment(written.segment)
        self._written = Place(written.segment, self._file.tell())
        self._sent = min(self._sent, self._written)
        self._confirmed = self._sent
        """Up to here the sink has everything."""
        self._num_waiting = self._size(self._sent, self._written)
        self._thread = Thread(target=self._deliver, name=f"to {name}", daemon=True)
        self._thread.start()

    @property
    def end(self) -> dict[str, Any]:
        """Where the spool ends, and up to where it is delivered; to be saved after `flush`."""
        with self._changed:
            return {"written": list(self._written), "sent": list(self._confirmed)}

    @property
    def num_waiting_bytes(self) -> int:
        """Bytes of events of which it is not known that the sink has them."""
        return self._num_waiting

    @property
    def status(self) -> dict[str, int]:
        """For heartbeats and metrics."""
        return {
            "waiting_bytes": self._num_waiting,
            "sent": self.num_sent,
            "lost": self.num_lost_in_all,
            "is_down": int(self._is_down),
        }

    def write(self, events: Sequence[bytes]) -> None:
        """Append events to the spool. A disk that is full is like a spool that is full."""
        for start in range(0, len(events), 1_000):
            some = events[start : start + 1_000]
            text = b"\n".join(some) + b"\n"
            with self._changed:
                while not self._append(text):
                    now = time.monotonic()
                    self._full_at = self._full_at or now
                    if now - max(self._full_at, self._took_at) > DEAD_S:
                        self._lose(len(some))
                        break
                    self._changed.wait(0.5)

    def flush(self) -> None:
        """Give what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self, longest_s: float = 10.0) -> None:
        """Deliver what waits, but not for longer than that; the rest stays on disk."""
        deadline = time.monotonic() + longest_s
        with self._changed:
            self._is_closing = True
            while self._num_waiting and not self._is_down and time.monotonic() < deadline:
                self._changed.wait(0.2)
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(longest_s)
        self._file.close()
        self._lock.close()

    def _append(self, text: bytes) -> bool:
        """False if there is no room."""
        if self._num_waiting + len(text) > self._cap_bytes:
            return False
        if self._written.offset >= SEGMENT_BYTES:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = self._open_segment(self._written.segment + 1)
            self._written = Place(self._written.segment + 1, 0)
        with suppress(OSError):  # a full disk: what did not fit is cut off
            if self._file.write(text) < len(text):
                raise OSError
            self._full_at = 0.0
            self._written = Place(self._written.segment, self._written.offset + len(text))
            self._num_waiting += len(text)
            self._changed.notify_all()
            return True
        self._file.truncate(self._written.offset)
        return False

    def _lose(self, num_events: int) -> None:
        if not self.num_lost:
            self._tell(
                "spool_full",
                f"{self.name}: took nothing for {DEAD_S:.0f} s, and {self._folder} is full "
                f"({self._num_waiting:,} bytes); events for it are dropped and counted until there is room",
            )
        self.num_lost += num_events
        self.num_lost_in_all += num_events

    def _deliver(self) -> None:
        wait_s = 0.0
        while True:
            with self._changed:
                if wait_s:
                    self._changed.wait_for(lambda: self._is_closed, wait_s)
                while not (self._is_closed or self._must_confirm() or self._sent < self._written):
                    self._changed.wait(None if self._confirmed == self._sent else 0.2)
                confirms, is_closed = self._must_confirm(), self._is_closed
                start, written = self._sent, self._written
            try:
                if confirms:
                    began = time.monotonic()
                    self._sink.confirm()
                    self._note_confirmed(time.monotonic() - began)
                elif not is_closed:
                    text, after = self._read(start, written)
                    self._sink.write(text.split(b"\n")[:-1])
                    self._note_sent(after, text.count(b"\n"))
                wait_s = 0.0
            except OSError as error:
                wait_s = min(max(0.2, 2 * wait_s), _LONGEST_WAIT_S)
                self._note_failure(error)
            if is_closed:
                self._sink.close()
                return

    def _must_confirm(self) -> bool:
        if self._confirmed == self._sent:
            return False
        age_s = time.monotonic() - self._unconfirmed_since
        is_much = self._size(self._confirmed, self._sent) >= min(_CONFIRM_BYTES, self._cap_bytes // 2)
        is_end = self._is_closing and self._sent == self._written
        return is_end or self._is_closed or self._is_careful or age_s >= _CONFIRM_S or is_much

    def _note_failure(self, error: OSError) -> None:
        with self._changed:
            self._sent, self._num_unconfirmed = self._confirmed, 0
            if self._is_careful:
                self._batch_bytes = max(_LEAST_BATCH_BYTES, self._batch_bytes // 2)
            self._is_careful = True
            is_new, self._is_down = not self._is_down, True
        if is_new:
            reason = error.strerror or str(error) or type(error).__name__
            self._tell("sink_down", f"{self.name}: takes no events ({reason}); they wait in {self._folder}")

    def _note_sent(self, after: Place, num_events: int) -> None:
        with self._changed:
            if self._confirmed == self._sent:
                self._unconfirmed_since = time.monotonic()
            self._sent = after
            self._num_unconfirmed += num_events

    def _note_confirmed(self, took_s: float) -> None:
        with self._changed:
            self._num_waiting -= self._size(self._confirmed, self._sent)
            self._confirmed, self._took_at = self._sent, time.monotonic()
            self.num_sent += self._num_unconfirmed
            self._num_unconfirmed = 0
            if took_s < _QUICK_S:
                self._is_careful &= self._batch_bytes < _BATCH_BYTES
                self._batch_bytes = min(self._batch_bytes + 4 * _LEAST_BATCH_BYTES, _BATCH_BYTES)
            was_down, self._is_down = self._is_down, False
            for number in () if self._is_closed else self._segments():  # after it, they may be another's
                if number < self._confirmed.segment:
                    self._path(number).unlink()
            self._changed.notify_all()
        if was_down:
            lost, self.num_lost = self.num_lost, 0
            self._tell(
                "sink_up",
                f"{self.name}: takes events again, {self._num_waiting:,} bytes of them waited"
                + (f" and {counted(lost, 'event was', 'events were')} dropped" if lost else ""),
            )

    def _read(self, start: Place, written: Place) -> tuple[bytes, Place]:
        """Some whole lines from there on, and the place behind them."""
        while True:
            limit = written.offset if start.segment == written.segment else None
            with self._path(start.segment).open("rb") as file:
                file.seek(start.offset)
                size = self._batch_bytes
                chunk = file.read(size if limit is None else min(size, limit - start.offset))
                while chunk and b"\n" not in chunk and (more := file.read(size)):
                    chunk += more
            text = chunk[: chunk.rfind(b"\n") + 1]
            if text or start.segment == written.segment:
                return text, Place(start.segment, start.offset + len(text))
            start = Place(start.segment + 1, 0)

    def _size(self, start: Place, stop: Place) -> int:
        """Bytes between two places."""
        if start.segment == stop.segment:
            return stop.offset - start.offset
        between = [n for n in self._segments() if start.segment < n < stop.segment]
        first = self._path(start.segment).stat().st_size - start.offset
        return first + sum(self._path(n).stat().st_size for n in between) + stop.offset

    def _segments(self) -> list[int]:
        return sorted(int(path.stem) for path in self._folder.glob("*.spool"))

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08}.spool"

    def _open_segment(self, number: int) -> BinaryIO:
        return cast(BinaryIO, self._path(number).open("ab", buffering=0))

    def _cut(self, written: Place) -> None:
        """Remove what is behind the saved end."""
        for number in self._segments():
            if number > written.segment:
                self._path(number).unlink()
        path = self._path(written.segment)
        if path.exists() and path.stat().st_size > written.offset:
            os.truncate(path, written.offset)
