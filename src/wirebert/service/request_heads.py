"""The raw heads of requests: what two programs may read in two ways is refused before it is parsed.

h11 follows RFC 9112 where that lets a recipient be lenient: it unfolds lines, accepts bare line feeds and
equal repeated lengths. Behind a proxy that reads them in another way, one request would hide a second one.
"""

import re
from typing import Final, final

MAX_HEAD_BYTES: Final = 16_384
"""Most bytes of the head of a request."""

_END: Final = b"\r\n\r\n"
_BARE: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")


@final
class HeadGuard:
    """Follows the bytes of one connection and checks each head.

    Source: RFC 9112, sections 2.2 (line ends), 5.2 (folding) and 6.3 (length of a body).
    """

    def __init__(self) -> None:
        self._head = bytearray()
        self._body_left = 0
        self.is_chunked = False
        """Whether the length of the current body is not told; then no further request is accepted."""

    def fault(self, data: bytes) -> str | None:
        """Why these next bytes of the connection are refused; None: they may be parsed."""
        while data and not self.is_chunked:
            if self._body_left:
                skipped = min(self._body_left, len(data))
                self._body_left -= skipped
                data = data[skipped:]
                continue
            searched = max(0, len(self._head) - len(_END))
            before = len(self._head)
            self._head += data
            end = self._head.find(_END, searched)
            head = bytes(self._head if end < 0 else self._head[: end + 2])
            if len(head) > MAX_HEAD_BYTES:
                return f"expected a head of at most {MAX_HEAD_BYTES:,} bytes, found more"
            if _BARE.search(head, searched):
                return "expected lines that end in CR LF, found a bare CR or LF"
            if end < 0:
                return None
            data = data[end + len(_END) - before :]
            self._head.clear()
            fault = self._read(head.split(b"\r\n")[1:-1])
            if fault is not None:
                return fault
        return None

    def _read(self, lines: list[bytes]) -> str | None:
        """Learn the length of the body from the header lines of a whole head."""
        if any(line.startswith((b" ", b"\t")) for line in lines):
            return "expected one line for each header, found a folded one"
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
        ]
        lengths = [value for name, value in headers if name == b"content-length"]
        self.is_chunked = any(name == b"transfer-encoding" for name, _ in headers)
        if len(lengths) > 1 or (lengths and self.is_chunked):
            return "expected one length of the body, found several"
        if lengths and not _LENGTH.fullmatch(lengths[0]):
            return "expected a whole number as Content-Length, found something else"
        self._body_left = int(lengths[0]) if lengths else 0
        return None
