"""`wirebert serve`: a model, a socket, signals and logs around the application of `service.app`.

Connections use uvicorn's HTTP/1.1 protocol with limits on time and number, so slow clients block nothing.
"""

import asyncio
import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from wirebert.errors import ConfigError
from wirebert.inference.detector import Detector
from wirebert.service.api_keys import VARIABLE, ApiKeys
from wirebert.service.app import create_app
from wirebert.service.handlers import RequestHandler
from wirebert.service.headers import MAX_HEAD_BYTES
from wirebert.service.limits import Limits
from wirebert.service.logs import LOG, json_logs

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"connection: close\r\n"
    b'content-length: 36\r\n\r\n{"error":"too many connections now"}'
)


def bounded_protocol(limits: Limits) -> type[H11Protocol]:
    """A connection class: at most `max_connections`, and each request head must arrive within `head_s`.

    uvicorn's timer ends with the first byte, so a client that sends one byte now and then would keep a
    connection for ever. The application has a separate timer for bodies.
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


GRACE_S: Final = 60
"""Seconds that accepted requests may take after SIGTERM before they are cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """The address on which the service listens, and the clients that it accepts."""

    host: str = "127.0.0.1"
    """An address of this machine, or a name for one."""

    port: int = 8080
    """In [0, 65535]; 0: any free port."""

    keys: Path | None = None
    """File of API keys; None: keys from the environment."""

    allow_anonymous: bool = False
    """Whether other machines may send requests without a key."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port must be in [0, 65535], got {self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def serve(detector: Detector, config: ServerConfig, limits: Limits) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish accepted requests and return.

    Raises:
        ConfigError: the address is in use or not of this machine, the keys cannot be read, or the service
            would be open to other machines without a key.
    """
    with json_logs():
        keys = ApiKeys(config.keys, os.environ.get(VARIABLE, ""), tell=LOG.warning)
        if not (config.is_loopback or keys.are_needed or config.allow_anonymous):
            raise ConfigError(
                f"--host {config.host} can be reached by others, and no key is set; give --keys FILE, set "
                f"{VARIABLE}, or allow all with --allow-anonymous"
            )
        handler = RequestHandler(detector, limits)
        with _listen(config) as listener:
            handler.warm_up()
            hosts = (
                frozenset({"localhost", "127.0.0.1", "[::1]", config.host}) if config.is_loopback else None
            )
            uvicorn_config = uvicorn.Config(
                create_app(handler, limits, keys, hosts),
                http=bounded_protocol(limits),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=limits.max_connections,
                timeout_keep_alive=int(limits.head_s),
                timeout_graceful_shutdown=GRACE_S,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
            # Exclude long-lived objects from garbage collection: a full pass takes 0.1 s while requests wait.
            gc.collect()
            gc.freeze()
            listener.listen(limits.max_connections)  # from now on, connections wait and are not refused
            address = listener.getsockname()
            LOG.info("listening", extra={"fields": {"host": address[0], "port": address[1]}})
            with _ignore_second_signal():
                uvicorn.Server(uvicorn_config).run(sockets=[listener])
            LOG.info("stopped")


@contextmanager
def _listen(config: ServerConfig) -> Generator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"--host {config.host} --port {config.port}: cannot listen there ({error.strerror}); choose "
            "another"
        ) from error
    with listener:
        yield listener


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing."""


@contextmanager
def _ignore_second_signal() -> Generator[None]:
    """Ignore the signal that uvicorn raises again after it has stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, _ignore) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
