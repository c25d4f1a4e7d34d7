"""The headers of a request: the content type of its body, and of the answer that the client wants."""

import re
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES, READ, TABS
from wirebert.service.limits import RequestError
from wirebert.service.request_heads import MAX_HEAD_BYTES

_PORT: Final = re.compile(r":[0-9]{1,5}\Z")
ANSWERED: Final = (JSON, JSON_LINES, CSV, ARROW)
"""Content types of answers; the first is the default."""
_RANGES: Final = {"*/*": JSON, "application/*": JSON, "text/*": CSV}


def header_fault(scope: Mapping[str, Any], hosts: frozenset[str] | None) -> str | None:
    """Why the headers are refused: ambiguous, too large, or for another host; None: they are accepted."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    names = [name for name, _ in headers]
    if b"content-length" in names and b"transfer-encoding" in names:
        return "expected one length of the body, found Content-Length and Transfer-Encoding"
    for name in (b"content-length", b"content-type", b"authorization", b"host"):
        if names.count(name) > 1:
            return f"expected the header {name.decode()} once, found it several times"
    if sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
        return f"expected headers of at most {MAX_HEAD_BYTES:,} bytes, found more"
    if hosts is None:
        return None
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1").lower()
    if _PORT.sub("", host) in hosts:
        return None
    return "the header Host must name this machine"


def content_type(request: Request) -> str:
    """The content type of the body."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise RequestError(415, "expected a body without Content-Encoding; send it uncompressed")
    given, *parameters = request.headers.get("content-type", "").lower().split(";")
    kind = READ.get(given.strip())
    charsets = [one.strip() for one in parameters if one.strip().startswith("charset")]
    if kind is None or any(one.removeprefix("charset=").strip('"') != "utf-8" for one in charsets):
        raise RequestError(
            415, f"expected the content type {', '.join(dict.fromkeys(READ.values()))}, in UTF-8"
        )
    return kind


def answer_type(request: Request) -> str:
    """The content type of the response: the supported one that Accept prefers."""
    liked = request.headers.get("accept", "*/*") or "*/*"
    best, best_quality = "", 0.0
    for entry in liked.lower().split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        kind = _RANGES.get(name) or READ.get(name, "")
        quality = next((_quality(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        if kind in ANSWERED and name != TABS and quality > best_quality:
            best, best_quality = kind, quality
    if not best:
        raise RequestError(406, f"the answer can be {', '.join(ANSWERED)}, set Accept to one of them")
    return best


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def explains(request: Request) -> bool:
    """Whether the parameter `explain` requests explanations."""
    given = request.query_params.getlist("explain")
    if given not in ([], ["none"], ["alerts"]):
        raise RequestError(422, "expected explain=alerts or explain=none")
    if set(request.query_params) - {"explain"}:
        raise RequestError(422, "expected no other parameter than explain")
    return given == ["alerts"]


def bearer_key(request: Request) -> str:
    """The API key that the request sends; empty if it sends none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
