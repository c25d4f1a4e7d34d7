"""`wirebert serve`: a model, a socket, signals and logs around the application of `service.app`."""

import gc
import ipaddress
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from wirebert.errors import ConfigError
from wirebert.inference.detector import Detector
from wirebert.service.api_keys import VARIABLE, ApiKeys
from wirebert.service.app import create_app
from wirebert.service.connections import bounded_protocol
from wirebert.service.handlers import RequestHandler
from wirebert.service.incidents import Incidents
from wirebert.service.limits import Limits
from wirebert.service.logs import LOG, json_logs
from wirebert.service.request_heads import MAX_HEAD_BYTES
from wirebert.untrusted_text import warn

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

    incidents: Path | None = None
    """File of incidents, as a monitor writes them, to show; None: the page shows none."""

    feedback: Path | None = None
    """File of marks; None: beside the incidents."""

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


def serve(
    detector: Detector,
    config: ServerConfig,
    limits: Limits,
    *,
    on_listening: Callable[[], None] | None = None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish accepted requests and return.

    With `on_listening`, which is called when connections are taken, other processes share the port.

    Raises:
        ConfigError: the address is in use or not of this machine, the keys cannot be read, or the service
            would be open to other machines without a key.
    """
    with json_logs():
        keys = ApiKeys(config.keys, os.environ.get(VARIABLE, ""), tell=LOG.warning)
        require_keys(config, keys, f"--host {config.host}")
        handler = RequestHandler(detector, limits)
        incidents = None if config.incidents is None else Incidents(config.incidents, config.feedback)
        with listen(config, shares_port=on_listening is not None) as listener:
            handler.warm_up()
            hosts = (
                frozenset({"localhost", "127.0.0.1", "[::1]", config.host}) if config.is_loopback else None
            )
            uvicorn_config = uvicorn.Config(
                create_app(handler, limits, keys, hosts, incidents),
                http=bounded_protocol(limits),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=limits.max_connections,
                timeout_keep_alive=math.ceil(limits.head_s),
                timeout_graceful_shutdown=GRACE_S,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            )
            # Exclude long-lived objects from garbage collection: a full pass takes 0.1 s while requests wait.
            gc.collect()
            gc.freeze()
            listener.listen(limits.max_connections)  # from now on, connections wait and are not refused
            if on_listening is None:
                told_address(*listener.getsockname()[:2])
            else:
                on_listening()
            with _ignore_second_signal():
                uvicorn.Server(uvicorn_config).run(sockets=[listener])
            LOG.info("stopped")


def told_address(host: str, port: int, **fields: object) -> None:
    """Log the address, and on a terminal print where to look."""
    LOG.info("listening", extra={"fields": {"host": host, "port": port, **fields}})
    if sys.stderr.isatty():
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        warn(f"listening on {url} (the API: {url}docs); Ctrl-C ends it")


def require_keys(config: ServerConfig, keys: ApiKeys, where: str) -> None:
    """Raise a ConfigError if others can reach the address without a key, unless that is allowed."""
    if not (config.is_loopback or keys.are_needed or config.allow_anonymous):
        raise ConfigError(
            f"{where} can be reached by others, and no key is set; give --keys FILE, set {VARIABLE}, or "
            "allow all with --allow-anonymous"
        )


@contextmanager
def listen(config: ServerConfig, *, shares_port: bool = False) -> Generator[socket.socket]:
    """A socket that is bound to the address, alone or with others; a ConfigError if it cannot be."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shares_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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
    """Ignore SIGHUP, and the signal that uvicorn raises again after it has stopped."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # keys are read again without SIGHUP
    before = [signal.signal(number, _ignore) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
