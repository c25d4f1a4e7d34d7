"""Events as syslog messages of RFC 5424, over UDP, TCP and TLS."""

import errno
import fcntl
import os
import re
import socket
import ssl
import struct
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, final

from wirebert.errors import ConfigError

FACILITIES = ("user", "daemon", "auth", "authpriv", *(f"local{number}" for number in range(8)))
"""Facilities that fit an alert."""
_FACILITY_CODES = dict(zip(FACILITIES, (1, 3, 4, 10, *range(16, 24)), strict=True))
_NIL = "-"
_BOM = b"\xef\xbb\xbf"
_CUT = " ..."
_WARNING = 4
"""Severity of all messages."""
_PORTS = {"udp": 514, "tcp": 514, "tls": 6514}


@dataclass(frozen=True, kw_only=True, slots=True)
class SyslogSettings:
    """Where syslog messages go, and what they say of their sender."""

    host: str
    """Name or address of the receiver."""
    port: int | None = None
    """Port of the receiver; none: 514, or 6514 for TLS."""
    transport: Literal["udp", "tcp", "tls"] = "udp"
    """UDP loses messages silently; TCP and TLS do not."""
    ca: Path | None = None
    """Certificates, in PEM, of who may have signed that of the receiver; none: those of the system."""
    facility: str = "local0"
    """Facility of the messages, such as local0."""
    timeout_s: float = 10.0
    """Longest wait for the receiver, above 0; three times as long for the end of a connection."""

    def __post_init__(self) -> None:
        if self.facility not in FACILITIES:
            raise ConfigError(
                f"syslog facility must be one of {', '.join(FACILITIES)}, got {self.facility!r}"
            )
        if self.port is not None and not 0 < self.port < 1 << 16:
            raise ConfigError(f"syslog port must be from 1 to 65535, got {self.port}")
        if not self.timeout_s > 0:
            raise ConfigError(f"syslog timeout_s must be above 0, got {self.timeout_s}")

    @property
    def longest(self) -> int:
        """Bytes of the longest message; longer ones are cut."""
        return 2_048 if self.transport == "udp" else 65_536


def format_message(
    text: bytes, settings: SyslogSettings, hostname: str = _NIL, time: datetime | None = None
) -> bytes:
    """The message as RFC 5424 writes it, at most `settings.longest` bytes; the end of a long text is cut.

    >>> moment, settings = datetime(2026, 3, 1, tzinfo=UTC), SyslogSettings(host="siem", facility="local0")
    >>> format_message(b"a scan", settings, "sensor", moment).replace(_BOM, b"|").decode()
    '<132>1 2026-03-01T00:00:00.000000Z sensor wirebert - alert - |a scan'
    """
    stamp = (time or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    priority = 8 * _FACILITY_CODES[settings.facility] + _WARNING
    sender = re.sub(r"[^\x21-\x7e]", "_", hostname)[:255] or _NIL
    head = f"<{priority}>1 {stamp} {sender} wirebert {_NIL} alert {_NIL} ".encode()
    text = text.decode("utf-8", "replace").encode("utf-8", "replace")
    room = settings.longest - len(head) - len(_BOM)
    if len(text) > room:
        text = text[: room - len(_CUT)].decode("utf-8", "ignore").encode() + _CUT.encode()
    return head + _BOM + text


@final
class SyslogSink:
    """Sends each event as the text of a syslog message; connects with the first event, and again after an
    error."""

    def __init__(self, settings: SyslogSettings) -> None:
        self._settings, self._hostname = settings, socket.gethostname()
        self._socket: socket.socket | None = None
        self._ends_connections, self._num_unclear = False, 0

    def write(self, events: Sequence[bytes]) -> None:
        """Send the events.

        Raises:
            OSError: the receiver cannot be reached, or is gone.
        """
        messages = [format_message(event, self._settings, self._hostname) for event in events]
        if self._socket is None:
            self._socket = self._connected()
        try:
            if self._settings.transport == "udp":
                for message in messages:
                    self._socket.send(message)
            elif messages:
                # RFC 6587, octet counting: the length before each message.
                self._socket.sendall(b"".join(b"%d %b" % (len(message), message) for message in messages))
                self._await_receiver(self._socket)
        except OSError:
            self.close()
            raise

    def confirm(self) -> None:
        """End the connection, and wait for the receiver to end it too: it has read everything then.

        Syslog knows no receipt, but a receiver that hangs up with something unread resets the connection. One
        that never ended a connection in order is believed from the fourth time on, or would get nothing else.

        Raises:
            OSError: the receiver hung up before, or does not read on.
        """
        connection, self._socket = self._socket, None
        if connection is None or self._settings.transport == "udp":
            self._socket = connection
            return
        with connection:
            connection.settimeout(3 * self._settings.timeout_s)
            try:
                if isinstance(connection, ssl.SSLSocket):
                    with suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):  # it may end without good-bye
                        connection.unwrap()
                else:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass
            except (ConnectionResetError, TimeoutError):
                self._num_unclear += 1
                if self._ends_connections or self._num_unclear <= 3:
                    raise
            else:
                self._ends_connections = True

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _await_receiver(self, connection: socket.socket) -> None:
        """Wait until the other machine has what was sent: what waits here is lost with the connection."""
        deadline = time.monotonic() + self._settings.timeout_s
        while struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]:
            if number := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(number, os.strerror(number))  # hung up: the count stays what it was
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, "the receiver takes nothing")
            time.sleep(0.001)

    def _connected(self) -> socket.socket:
        settings = self._settings
        end = (settings.host, settings.port or _PORTS[settings.transport])
        if settings.transport == "udp":
            family, kind, number, _, address = socket.getaddrinfo(*end, type=socket.SOCK_DGRAM)[0]
            plain = socket.socket(family, kind, number)
            plain.settimeout(settings.timeout_s)
            plain.connect(address)
            return plain
        plain = socket.create_connection(end, timeout=settings.timeout_s)
        if settings.transport == "tcp":
            return plain
        try:
            context = ssl.create_default_context(cafile=settings.ca)
            return context.wrap_socket(plain, server_hostname=settings.host)
        except OSError:
            plain.close()
            raise
