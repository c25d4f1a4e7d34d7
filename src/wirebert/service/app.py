"""The ASGI application: endpoints, authorisation, limits and responses. Opens no file or connection."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final, final
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wirebert.service.answers import Held, PiecewiseAnswer, Receive, Scope, Send, busy
from wirebert.service.api_keys import ApiKeys
from wirebert.service.api_page import api_page
from wirebert.service.batching import Batcher, QueueFull
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.headers import answer_type, bearer_key, content_type, explains, header_fault
from wirebert.service.incidents import Incidents, MarkRequest
from wirebert.service.limits import Limits, RequestError
from wirebert.service.logs import LOG
from wirebert.service.openapi import about_model, document, public_part
from wirebert.service.prometheus import CONTENT_TYPE, ServiceMetrics, cascade_gauges
from wirebert.service.shares import Shares
from wirebert.service.web_page import POLICY, resources

_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": POLICY,
    "cache-control": "no-store",
}
_ROUTINE: Final = ("/healthz", "/readyz", "/metrics")
"""Paths that are polled every few seconds; only failures are logged."""
_MAX_BATCH_BYTES: Final = 1 << 20
_HUNG_UP: Final = 499
"""Status in log and metrics of a request whose client hung up before the answer."""


@final
class Service:
    """State that the endpoints of one application share.

    Args:
        hosts: allowed values of the header Host; None: any. A service bound to this machine allows only its
            names, so that a foreign web page cannot reach it by DNS rebinding.
    """

    def __init__(
        self,
        handler: RequestHandler,
        limits: Limits,
        keys: ApiKeys,
        hosts: frozenset[str] | None,
        incidents: Incidents | None = None,
    ) -> None:
        self.limits, self.keys, self.hosts, self.incidents = limits, keys, hosts, incidents
        self.examples = handler.examples
        self.about = about_model(handler.detector, handler.examples)
        self.openapi = document(
            handler.detector,
            limits,
            handler.examples,
            needs_key=keys.are_needed,
            answer=handler.example_answer,
        )
        self.held_bytes = Shares(limits.max_held_bytes)
        """Bytes of bodies that are being read or are in the queue, and of answers that are being sent."""
        self.queue_places = Shares(limits.max_queue)
        self._handler = handler
        self._batcher: Batcher[ScoreRequest, ScoreResponse | RequestError] | None = None
        self.metrics = ServiceMetrics(
            {
                "wirebert_waiting_requests": (
                    "Requests in the queue.",
                    lambda: float(self.batcher.num_waiting),
                ),
                "wirebert_held_bytes": (
                    "Bytes of bodies and answers in memory.",
                    lambda: float(self.held_bytes.taken),
                ),
                "wirebert_batches": ("Batches scored.", lambda: float(self.batcher.num_batches)),
                **cascade_gauges(lambda: handler.detector.routed),
            },
            handler.detector.drift_status,
        )

    @property
    def batcher(self) -> Batcher[ScoreRequest, ScoreResponse | RequestError]:
        """The batcher; present while the application runs."""
        assert self._batcher is not None
        return self._batcher

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncGenerator[None]:
        """Run the scoring thread while the application runs."""
        self._batcher = Batcher(
            self._handler.handle,
            size=lambda score_request: len(score_request.body),
            max_size=_MAX_BATCH_BYTES,
            max_queue=self.limits.max_queue,
            wait_s=self.limits.batch_wait_ms / 1000,
        )
        task = asyncio.create_task(self._batcher.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def score(self, request: Request) -> Response:
        """`POST /v1/score`."""
        self._authorise(request)
        body_type, wanted, is_explained = content_type(request), answer_type(request), explains(request)
        if self.batcher.is_full:
            raise busy("too many requests in the queue")
        held, answer = Held(self.held_bytes, self.queue_places, request), None
        try:
            body = await self._body(request, held)
            if not held.wait_in_queue():
                raise busy("too many requests of this client in the queue")
            score_request = ScoreRequest(
                content_type=body_type, body=body, answer_type=wanted, explains=is_explained
            )
            async with asyncio.timeout(self.limits.answer_s):
                answer = await self.batcher.do(score_request)
        except QueueFull as error:
            raise busy("too many requests in the queue") from error
        except TimeoutError as error:
            raise busy(f"no answer within {self.limits.answer_s:g} s") from error
        finally:
            if not isinstance(answer, ScoreResponse):
                held.give_back()
        if isinstance(answer, RequestError):
            raise answer
        assert answer is not None, "what raised did not come here"
        held.hold_answer(len(answer.content))
        self.metrics.flows.inc(answer.num_flows)
        self.metrics.invalid_values.inc(answer.num_invalid)
        self.metrics.flows_without_history.inc(answer.num_without_history)
        for code in {finding.code for finding in answer.findings}:
            self.metrics.findings.labels(code=code).inc()
        for verdict, count in answer.verdicts.items():
            self.metrics.verdicts.labels(verdict=verdict).inc(count)
        request.state.num_flows = answer.num_flows
        headers = {
            "wirebert-invalid-values": str(answer.num_invalid),
            "wirebert-findings": ", ".join(dict.fromkeys(finding.code for finding in answer.findings)),
            "wirebert-flows-without-history": str(answer.num_without_history),
        }
        return PiecewiseAnswer(answer.content, held.give_back, media_type=wanted, headers=headers)

    async def model(self, request: Request) -> Response:
        """`GET /v1/model`."""
        self._authorise(request)
        return JSONResponse(self.about)

    async def list_incidents(self, request: Request) -> Response:
        """`GET /v1/incidents`: those of the monitor's file; null where none is shown."""
        self._authorise(request)
        found = None if self.incidents is None else await asyncio.to_thread(self.incidents.latest)
        return JSONResponse({"incidents": found})

    async def mark_incident(self, request: Request) -> Response:
        """`POST /v1/marks`: what somebody says of an incident. Needs a key, and comes from our own page."""
        if self.incidents is None:
            raise HTTPException(404, "no incidents are shown; start the service with --incidents FILE")
        if not self.keys.are_needed:
            raise HTTPException(403, "marks need a key; start the service with --keys")
        self._authorise(request)
        if urlsplit(request.headers.get("origin", "")).netloc != request.headers.get("host"):
            raise HTTPException(403, "expected the header Origin of this service")
        held = Held(self.held_bytes, self.queue_places, request)
        try:
            said = msgspec.json.decode(await self._body(request, held), type=MarkRequest)
        except msgspec.DecodeError as error:
            raise RequestError(422, f"expected incident_id, mark and class_name ({error})") from error
        finally:
            held.give_back()
        by = f"key {hashlib.sha256(bearer_key(request).encode()).hexdigest()[:8]}"
        if not await asyncio.to_thread(self.incidents.mark, said, by):
            raise HTTPException(404, "there is no such incident")
        return JSONResponse({"status": "ok"})

    async def metrics_text(self, request: Request) -> Response:
        """`GET /metrics`."""
        self._authorise(request)
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def healthz(self, _: Request) -> Response:
        """`GET /healthz`: the process is alive."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """`GET /readyz`: the service would accept a request now."""
        if self.batcher.is_full:
            raise busy("too many requests in the queue")
        return JSONResponse({"status": "ready"})

    async def openapi_document(self, request: Request) -> Response:
        """`GET /openapi.json`: with columns and classes for those who have a key."""
        return JSONResponse(self._visible(request))

    async def api_page(self, request: Request) -> Response:
        """`GET /docs`: the same as a page."""
        return Response(api_page(self._visible(request)), media_type="text/html")

    async def refuse(self, _: Request, error: Exception) -> Response:
        """The answer to a request that is refused, with a request that would not be."""
        if isinstance(error, RequestError):
            return JSONResponse(self.examples.refusal(error.status, str(error)), error.status)
        assert isinstance(error, HTTPException)
        refusal = self.examples.refusal(error.status_code, error.detail)
        return JSONResponse(refusal, error.status_code, error.headers)

    def _visible(self, request: Request) -> Mapping[str, object]:
        return self.openapi if self._has_key(request) else public_part(self.openapi)

    async def _body(self, request: Request, held: Held) -> bytes:
        length = request.headers.get("content-length", "0")
        if len(length) > 15 or int(length) > self.limits.max_body_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for piece in request.stream():
                    size += len(piece)
                    if size > self.limits.max_body_bytes:
                        raise self._too_large()
                    if not held.take(len(piece)):
                        raise busy("too many large requests at once")
                    pieces.append(piece)
        except TimeoutError as error:
            raise HTTPException(
                408, f"the body did not come within {self.limits.body_s:g} s", {"connection": "close"}
            ) from error
        return b"".join(pieces)

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413, f"expected a body of at most {self.limits.max_body_mb} MB", {"connection": "close"}
        )

    def _has_key(self, request: Request) -> bool:
        """Whether the request has a valid key, or needs none."""
        if not self.keys.are_needed:
            return True
        return self.keys.admit(bearer_key(request))

    def _authorise(self, request: Request) -> None:
        if not self._has_key(request):
            raise HTTPException(
                401,
                "expected the header `Authorization: Bearer KEY` with a valid key",
                {"www-authenticate": "Bearer"},
            )


@final
class Application:
    """Wraps every request: checks headers, adds response headers, writes a log line and counts."""

    def __init__(self, inner: Starlette, service: Service, paths: frozenset[str]) -> None:
        self.inner, self.service, self.paths = inner, service, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        start, identity = time.perf_counter(), uuid4().hex[:16]
        state: dict[str, Any] = scope.setdefault("state", {})
        status = _HUNG_UP

        async def answer(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = {**_HEADERS, "x-request-id": identity}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in headers.items()),
                ]
            await send(message)

        try:
            fault = header_fault(scope, self.service.hosts)
            if fault is None:
                await self.inner(scope, receive, answer)
            else:
                refusal = self.service.examples.refusal(400, fault)
                await JSONResponse(refusal, 400, {"connection": "close"})(scope, receive, answer)
        except ClientDisconnect:
            pass
        finally:
            self._note(scope, state, identity, status, time.perf_counter() - start)

    def _note(
        self, scope: Scope, state: Mapping[str, Any], identity: str, status: int, took_s: float
    ) -> None:
        path = scope["path"] if scope["path"] in self.paths else "other"
        metrics = self.service.metrics
        metrics.requests.labels(path=path, status=str(status)).inc()
        metrics.share()
        if path == "/v1/score":
            metrics.score_seconds.observe(took_s)
        is_routine = status < 400 and path in _ROUTINE
        LOG.log(
            logging.DEBUG if is_routine else logging.INFO,
            "request",
            extra={
                "fields": {
                    "id": identity,
                    "client": (scope.get("client") or ("",))[0],
                    "method": scope["method"],
                    "path": path,
                    "status": status,
                    "flows": state.get("num_flows", 0),
                    "ms": round(took_s * 1000, 2),
                }
            },
        )


def create_app(
    handler: RequestHandler,
    limits: Limits,
    keys: ApiKeys,
    hosts: frozenset[str] | None = None,
    incidents: Incidents | None = None,
) -> "Application":
    """The application; `handler` is used from one thread at a time."""
    service = Service(handler, limits, keys, hosts, incidents)
    endpoints: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
        "/v1/score": ("POST", service.score),
        "/v1/model": ("GET", service.model),
        "/v1/incidents": ("GET", service.list_incidents),
        "/v1/marks": ("POST", service.mark_incident),
        "/healthz": ("GET", service.healthz),
        "/readyz": ("GET", service.readyz),
        "/metrics": ("GET", service.metrics_text),
        "/openapi.json": ("GET", service.openapi_document),
        "/docs": ("GET", service.api_page),
        **{path: ("GET", _sender(content, media)) for path, (content, media) in resources().items()},
    }
    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for path, (method, endpoint) in endpoints.items()],
        exception_handlers={
            HTTPException: service.refuse,
            RequestError: service.refuse,
            ClientDisconnect: _hung_up,
            500: _internal_error,
        },
        lifespan=service.running,
    )
    app.router.redirect_slashes = False
    return Application(app, service, frozenset(endpoints))


def _sender(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def send(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return send


async def _hung_up(*_: object) -> Response:
    return Response(status_code=_HUNG_UP)


async def _internal_error(*_: object) -> Response:
    return JSONResponse({"error": "internal error; see the log of the service"}, 500)
