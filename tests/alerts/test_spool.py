"""What a sink does not take waits on disk, and arrives in order, at least once, whatever dies when."""

import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from wirebert.alerts import spool
from wirebert.alerts.spool import SpooledSink
from wirebert.alerts.syslog import SyslogSettings, SyslogSink
from wirebert.errors import DataError


class Receiver:
    """A sink that can be gone or slow."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.is_up, self.wait_s = True, 0.0

    def write(self, events: Sequence[bytes]) -> None:
        time.sleep(self.wait_s)
        if not self.is_up:
            raise ConnectionRefusedError(111, "refused")
        self.got += events

    def confirm(self) -> None:
        if not self.is_up:
            raise ConnectionResetError(104, "reset")

    def close(self) -> None:
        pass


def lines(start: int, stop: int) -> list[bytes]:
    return [b"%06d" % number for number in range(start, stop)]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_LONGEST_WAIT_S", 0.05)


def opened(
    folder: Path, sink: Receiver, told: list[tuple[str, str]], saved: dict[str, object] | None = None
) -> SpooledSink:
    return SpooledSink("siem", folder, sink, saved, 100_000, lambda code, text: told.append((code, text)))


def test_events_arrive_in_order_and_the_spool_empties_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 1_000)
    monkeypatch.setattr(spool, "_CONFIRM_S", 0.0)
    receiver = Receiver()
    sink = opened(tmp_path, receiver, [])
    for start in range(0, 5_000, 100):
        sink.write(lines(start, start + 100))
    wait_for(lambda: len(receiver.got) == 5_000)
    assert receiver.got == lines(0, 5_000)
    sink.close()
    assert len(list(tmp_path.glob("*.spool"))) <= 2


def test_a_sink_that_is_gone_is_told_once_and_gets_everything_later(tmp_path: Path):
    receiver, told = Receiver(), list[tuple[str, str]]()
    receiver.is_up = False
    sink = opened(tmp_path, receiver, told)
    sink.write(lines(0, 300))
    wait_for(lambda: bool(told))
    sink.write(lines(300, 600))
    assert sink.status["is_down"]
    receiver.is_up = True
    wait_for(lambda: len(receiver.got) == 600)
    sink.close()
    assert receiver.got == lines(0, 600)
    assert [code for code, _ in told] == ["sink_down", "sink_up"]
    assert "siem: takes no events (refused)" in told[0][1]


def test_what_a_connection_took_just_before_it_ended_is_sent_again(tmp_path: Path):
    receiver, told = Receiver(), list[tuple[str, str]]()
    sink = opened(tmp_path, receiver, told)
    sink.write(lines(0, 10))
    wait_for(lambda: len(receiver.got) == 10)
    receiver.is_up = False
    sink.write(lines(10, 20))
    wait_for(lambda: bool(told))
    receiver.is_up = True
    wait_for(lambda: len(receiver.got) == 30)
    sink.close()
    assert receiver.got == lines(0, 10) + lines(0, 20)


def test_a_full_spool_of_a_dead_sink_drops_the_newest_events_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(spool, "DEAD_S", 0.3)
    receiver, told = Receiver(), list[tuple[str, str]]()
    receiver.is_up = False
    sink = opened(tmp_path, receiver, told)
    for start in range(0, 20_000, 1_000):  # 7 bytes each: 14,285 fit
        sink.write(lines(start, start + 1_000))
    receiver.is_up = True
    wait_for(lambda: len(receiver.got) == 14_000)
    sink.close()
    assert receiver.got == lines(0, 14_000)
    assert sink.status["lost"] == 6_000
    assert sorted(code for code, _ in told) == ["sink_down", "sink_up", "spool_full"]
    assert "6,000 events were dropped" in told[-1][1]


def test_a_slow_sink_makes_the_writer_wait_and_loses_nothing(tmp_path: Path):
    receiver = Receiver()
    receiver.wait_s = 0.01
    sink = opened(tmp_path, receiver, [])
    for start in range(0, 50_000, 1_000):
        sink.write(lines(start, start + 1_000))
        assert sink.num_waiting_bytes <= 100_000
    wait_for(lambda: len(receiver.got) == 50_000)
    sink.close()
    assert receiver.got == lines(0, 50_000)


def test_two_processes_can_not_deliver_from_one_spool(tmp_path: Path):
    sink = opened(tmp_path, Receiver(), [])
    with pytest.raises(DataError, match="another process"):
        opened(tmp_path, Receiver(), [])
    sink.close()


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_by_kills_at_any_moment(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After a kill, what was written behind the saved end is written again, like flows."""
    monkeypatch.setattr(spool, "SEGMENT_BYTES", 2_000)
    chance, receiver, number = random.Random(seed), Receiver(), 0
    saved: dict[str, object] | None = None
    saved_number = 0
    for _ in range(12):
        number, sink = saved_number, opened(tmp_path, receiver, [], saved)
        for _ in range(chance.randint(0, 8)):
            receiver.is_up = chance.random() < 0.5
            sink.write(lines(number, number + 50))
            number += 50
            time.sleep(chance.random() / 200)
            if chance.random() < 0.5:
                sink.flush()
                saved, saved_number = sink.end, number
        sink.close(0.0)
    receiver.is_up = True
    last = opened(tmp_path, receiver, [], saved)
    wait_for(lambda: set(lines(0, saved_number)) <= set(receiver.got))
    last.close()


def test_what_is_behind_the_saved_end_is_cut_off_and_written_again(tmp_path: Path):
    receiver = Receiver()
    receiver.is_up = False
    sink = opened(tmp_path, receiver, [])
    sink.write(lines(0, 10))
    sink.flush()
    saved = sink.end
    sink.write(lines(10, 20))  # the state was not saved behind these
    sink.close(0.1)
    receiver.is_up = True
    sink = opened(tmp_path, receiver, [], saved)
    sink.write(lines(10, 12))
    wait_for(lambda: len(receiver.got) >= 12)
    sink.close()
    assert receiver.got == lines(0, 12)


class Moody:
    """A receiver of syslog that reads little at a time and soon hangs up, with what it has not read."""

    def __init__(self, reads_bytes: int, lives_s: float) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port: int = self._server.getsockname()[1]
        self.got, self.is_over, self.num_ends = list[bytes](), False, 0
        self._reads_bytes, self._lives_s = reads_bytes, lives_s
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self.is_over = True
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while not self.is_over:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._server.accept()
                with connection:
                    self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        held, end = b"", time.monotonic() + self._lives_s
        connection.settimeout(0.05)
        while not self.is_over and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                chunk = connection.recv(self._reads_bytes)
                if not chunk:
                    self.num_ends += 1
                    return
                held += chunk
                time.sleep(0.002)
            while (found := re.match(rb"(\d+) ", held)) and len(held) >= found.end() + int(found[1]):
                message = held[found.end() : found.end() + int(found[1])]
                held = held[found.end() + int(found[1]) :]
                self.got.append(message.rpartition(b"\xbf")[2])


@pytest.mark.slow
def test_a_receiver_that_is_slow_and_hangs_up_gets_every_event(tmp_path: Path):
    receiver, events = Moody(2_000, 0.3), [b"%06d" % number + b"." * 500 for number in range(2_000)]
    syslog = SyslogSink(SyslogSettings(host="127.0.0.1", port=receiver.port, transport="tcp"))
    sink = SpooledSink("siem", tmp_path, syslog, None, 10 << 20, lambda code, text: None)
    sink.write(events)
    deadline = time.monotonic() + 60
    while sink.num_waiting_bytes and time.monotonic() < deadline:
        time.sleep(0.05)
    sink.close()
    receiver.close()
    assert sink.num_waiting_bytes == 0
    assert set(receiver.got) == set(events)
    assert len(receiver.got) < 10 * len(events)
