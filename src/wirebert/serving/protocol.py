"""HTTP/1.1 connections that do not wait for slow clients: uvicorn's own protocol, with a bound on time and number."""

import asyncio
from typing import Any, Final, final

from uvicorn.protocols.http.h11_impl import H11Protocol

from wirebert.serving.limits import Limits

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close\r\n"
    b'content-length: 36\r\n\r\n{"error":"too many connections now"}'
)


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """A class of connections: at most `max_connections`, each of whose requests begins within `head_s`.

    uvicorn's timer ends with the first byte, so a client that sends one byte of its request now and then would keep a
    connection for ever. The bodies have a timer of their own, in the application.
    """

    @final
    class BoundedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().connection_made(transport)
            if len(self.connections) > limits.max_connections:
                transport.write(_FULL)
                transport.close()
                return
            self._set_timer()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self._is_between_requests():
                self._set_timer()
            else:
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._is_between_requests():
                self._set_timer()

        def _is_between_requests(self) -> bool:
            cycle: Any = self.cycle
            return cycle is None or cycle.response_complete

        def _set_timer(self) -> None:
            if self._timer is None:
                self._timer = self.loop.call_later(limits.head_s, self._give_up)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            if not self.transport.is_closing():
                self.transport.close()

    return BoundedProtocol
