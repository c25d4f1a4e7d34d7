"""Connections of the service: uvicorn's HTTP/1.1 protocol with strict heads and bounds on time and number."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

from wirebert.service.limits import Limits
from wirebert.service.request_heads import HeadGuard
from wirebert.service.shares import Shares


def _plain_answer(status: str, error: str) -> bytes:
    body = f'{{"error":"{error}"}}'
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


_FULL: Final = _plain_answer("503 Service Unavailable", "too many connections now")


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """The class of connections of one service."""
    shared = {"limits": limits, "places": Shares(limits.max_connections)}
    return type("Connection", (_Connection,), shared)


class _Connection(H11Protocol):
    """A connection: its heads are strict and must arrive within `head_s`, and its answers must be read.

    uvicorn's timer ends with the first byte, so a client that sends one byte now and then would keep a
    connection for ever; and it waits for ever for a client that does not read. The application has a separate
    timer for bodies.
    """

    limits: Limits
    places: Shares
    """The connections that clients share."""
    _head_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _has_place = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take a place, or say that there is none."""
        super().connection_made(transport)
        self._guard = HeadGuard()
        self._host = self.client[0] if self.client else ""
        self._has_place = self.places.take(self._host, 1)
        if not self._has_place:
            transport.write(_FULL)
            transport.close()
        self._set_head_timer()

    def data_received(self, data: bytes) -> None:
        """Check the heads among these bytes, then parse them."""
        if not self._has_place or self.transport.is_closing():
            return
        fault = self._guard.fault(data)
        if fault is not None:
            if self._is_between_requests():  # else the answer of the request before would be mixed up
                self.transport.write(_plain_answer("400 Bad Request", fault))
            self.transport.close()
            return
        super().data_received(data)
        cycle: Any = self.cycle
        if self._guard.is_chunked and cycle is not None:
            cycle.keep_alive = False  # where its body ends, h11 knows alone
        if self._is_between_requests():
            self._set_head_timer()
        else:
            self._stop_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._stop_timers()
        if self._has_place:
            self.places.give_back(self._host, 1)
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next head."""
        super().on_response_complete()
        if self._is_between_requests():
            self._set_head_timer()

    def pause_writing(self) -> None:
        """Give the client some time to read what it was sent."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read it."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _is_between_requests(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or cycle.response_complete

    def _set_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_s, self._give_up)

    def _stop_timers(self) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.transport.get_write_buffer_size():  # closing would wait until the client reads
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()
