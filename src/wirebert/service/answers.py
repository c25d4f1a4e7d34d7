"""What a request holds while it waits, and how its answer is sent."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wirebert.service.shares import Shares

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_RETRY_AFTER: Final = {"retry-after": "1"}
_PIECE_BYTES: Final = 1 << 16


@final
class Held:
    """What one request has of the memory and the queue that all requests share."""

    def __init__(self, held_bytes: Shares, queue_places: Shares, request: Request) -> None:
        self._held_bytes, self._queue_places = held_bytes, queue_places
        self._client = request.client.host if request.client else ""
        self._num_bytes = self._num_places = 0

    def wait_in_queue(self) -> bool:
        """Take a place in the queue; False if the client has too many."""
        self._num_places = int(self._queue_places.take(self._client, 1))
        return self._num_places == 1

    def take(self, num_bytes: int) -> bool:
        """Take more bytes; False if there are none, or if this client has too many."""
        if not self._held_bytes.take(self._client, num_bytes):
            return False
        self._num_bytes += num_bytes
        return True

    def hold_answer(self, num_bytes: int) -> None:
        """Hold the bytes of the answer in place of the body and the place in the queue."""
        self.give_back()
        if not self.take(num_bytes):
            raise busy("too many large answers are being read")

    def give_back(self) -> None:
        """Return everything."""
        self._held_bytes.give_back(self._client, self._num_bytes)
        self._queue_places.give_back(self._client, self._num_places)
        self._num_bytes = self._num_places = 0


@final
class PiecewiseAnswer(Response):
    """A response that is sent in pieces: a client that does not read them is noticed (`Limits.write_s`)."""

    def __init__(self, content: bytes, on_end: Callable[[], None], **options: Any) -> None:
        super().__init__(content, **options)
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response."""
        try:
            headers = self.raw_headers
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            for start in range(0, len(self.body), _PIECE_BYTES):
                piece = self.body[start : start + _PIECE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._on_end()


def busy(reason: str) -> HTTPException:
    """Refuse a request that could be answered later."""
    return HTTPException(503, f"{reason}; retry later", _RETRY_AFTER)
