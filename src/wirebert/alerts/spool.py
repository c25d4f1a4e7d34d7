"""`SpooledSink`: events go through files on disk, from which a thread delivers them, in order and again."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any, BinaryIO, Final, NamedTuple, cast, final

from wirebert.alerts.sinks import Sink
from wirebert.errors import DataError
from wirebert.files import try_lock

SEGMENT_BYTES: Final = 16 << 20
_BATCH_BYTES: Final = 1 << 18
_REPEATED_S: Final = 5.0
"""A connection that ends may have lost what it took in the last seconds, so that is sent once more."""
_MAX_REWINDS: Final = 3
"""Then the next events have their turn, or a receiver that hangs up each second would never get on."""
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

    Events are delivered in order and at least once. When the spool is full, writing waits as long as the sink
    takes something from time to time; a dead one loses the newest events, which are counted and told.

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
        sink: Sink,
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
        self._is_closed, self._is_down = False, False
        self._took_at, self._full_at = time.monotonic(), 0.0
        self._recent = deque[tuple[float, Place]]()
        """When the last batches were sent, and where they begin."""
        self._num_rewinds = 0
        """Connections in a row that ended early, and of which everything was sent once more."""
        written = Place(*saved["written"]) if saved else Place(0, 0)
        self._cut(written)
        first = min(self._segments(), default=written.segment)
        sent = Place(*saved["sent"]) if saved else written
        self._sent = sent if sent.segment >= first else Place(first, 0)
        self._file = self._open_segment(written.segment)
        self._written = Place(written.segment, self._file.tell())
        self._sent = min(self._sent, self._written)
        self._saved_sent = self._sent
        self._num_waiting = self._size(self._sent, self._written)
        self._thread = Thread(target=self._deliver, name=f"to {name}", daemon=True)
        self._thread.start()

    @property
    def end(self) -> dict[str, Any]:
        """Where the spool ends, and up to where it is delivered; to be saved after `flush`."""
        with self._changed:
            return {"written": list(self._written), "sent": list(self._first_of_recent())}

    @property
    def num_waiting_bytes(self) -> int:
        """Bytes of events that are not delivered."""
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
                self._changed.wait_for(lambda: self._num_waiting or self._is_closed)
                if self._is_closed:
                    self._sink.close()
                    return
                start, written = self._sent, self._written
            text, after = self._read(start, written)
            try:
                self._sink.write(text.split(b"\n")[:-1])
            except OSError as error:
                wait_s = min(max(0.2, 2 * wait_s), _LONGEST_WAIT_S)
                self._note_failure(error)
                continue
            wait_s = 0.0
            self._note_success(start, after, text.count(b"\n"))

    def _note_failure(self, error: OSError) -> None:
        with self._changed:
            place = self._first_of_recent() if self._num_rewinds < _MAX_REWINDS else self._sent
            self._num_rewinds = (self._num_rewinds + 1) % (_MAX_REWINDS + 1)
            self._num_waiting += self._size(place, self._sent)
            self._sent = place
            self._recent.clear()
            is_new, self._is_down = not self._is_down, True
        if is_new:
            reason = error.strerror or str(error) or type(error).__name__
            self._tell("sink_down", f"{self.name}: takes no events ({reason}); they wait in {self._folder}")

    def _note_success(self, start: Place, after: Place, num_events: int) -> None:
        with self._changed:
            now = time.monotonic()
            self._recent.append((now, start))
            while now - self._recent[0][0] > _REPEATED_S:
                self._recent.popleft()
                self._num_rewinds = 0
            self._num_waiting -= self._size(start, after)
            self._sent, self._took_at = after, now
            self.num_sent += num_events
            was_down, self._is_down = self._is_down, False
            for number in self._segments():
                if number < self._first_of_recent().segment:
                    self._path(number).unlink()
            self._changed.notify_all()
        if was_down:
            lost, self.num_lost = self.num_lost, 0
            self._tell(
                "sink_up",
                f"{self.name}: takes events again, {self._num_waiting:,} bytes of them waited"
                + (f" and {lost:,} events were dropped" if lost else ""),
            )

    def _first_of_recent(self) -> Place:
        """From where on events are sent once more if the connection ends now."""
        return self._recent[0][1] if self._recent else self._sent

    def _read(self, start: Place, written: Place) -> tuple[bytes, Place]:
        """Some whole lines from there on, and the place behind them."""
        while True:
            limit = written.offset if start.segment == written.segment else None
            with self._path(start.segment).open("rb") as file:
                file.seek(start.offset)
                chunk = file.read(_BATCH_BYTES if limit is None else min(_BATCH_BYTES, limit - start.offset))
                while chunk and b"\n" not in chunk and (more := file.read(_BATCH_BYTES)):
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
