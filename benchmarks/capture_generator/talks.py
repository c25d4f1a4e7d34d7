"""What hosts say to each other, by protocol, and when: the words that habits and campaigns are made of."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wirebert.data.synthetic.wire import (
    GOOD,
    Codes,
    Numbers,
    Scene,
    around,
    connections,
    datagrams,
    same,
)


class Talk(NamedTuple):
    """A typical exchange: its port, service and sizes."""

    port: int
    service: str
    sent: float | int
    received: float | int
    duration_s: float | int = 0.05
    protocol: str = "tcp"


TALKS: Mapping[str, Talk] = {
    "ntp": Talk(123, "ntp", 48, 48, protocol="udp"),
    "dns": Talk(53, "dns", 45, 130, protocol="udp"),
    "snmp": Talk(161, "snmp", 90, 150, protocol="udp"),
    "syslog": Talk(514, "", 260, 0, protocol="udp"),
    "stun": Talk(3478, "", 60, 100, protocol="udp"),
    "quic": Talk(443, "quic", 3_000, 9_000, 0.4, "udp"),
    "ping": Talk(8, "", 56, 56, protocol="icmp"),
    "empty": Talk(80, "", 0, 0, 0.2),
    "http": Talk(80, "http", 300, 700, 0.15),
    "http8080": Talk(8080, "http", 350, 900, 0.2),
    "proxy": Talk(3128, "http", 900, 6_000, 1.0),
    "https": Talk(443, "ssl", 1_000, 5_000, 0.4),
    "https8443": Talk(8443, "ssl", 1_000, 4_000, 0.4),
    "mqtt": Talk(8883, "ssl", 700, 3_500, 0.6),
    "mqtt_plain": Talk(1883, "mqtt", 120, 60, 0.3),
    "imap": Talk(993, "ssl", 900, 2_600, 0.8),
    "smtp": Talk(25, "smtp", 900, 400, 1.5),
    "pop": Talk(110, "", 60, 120, 0.4),
    "ssh": Talk(22, "ssh", 1_900, 2_300, 2.0),
    "telnet": Talk(23, "", 60, 140, 3.0),
    "ftp": Talk(21, "ftp", 50, 190, 1.5),
    "smb": Talk(445, "smb", 900, 900, 0.3),
    "rdp": Talk(3389, "rdp", 1_200, 1_600, 1.2),
    "vnc": Talk(5900, "", 40, 60, 0.6),
    "mysql": Talk(3306, "mysql", 350, 600, 0.06),
    "postgresql": Talk(5432, "", 400, 900, 0.06),
    "mssql": Talk(1433, "", 500, 700, 0.08),
    "ldap": Talk(389, "ldap_tcp", 500, 1_800, 0.2),
    "kerberos": Talk(88, "krb_tcp", 1_500, 1_600, 0.05),
    "rpc": Talk(135, "dce_rpc", 400, 400, 0.3),
    "catalog": Talk(3268, "ldap_tcp", 600, 1_500, 0.2),
}


def talk(
    scene: Scene,
    how: Talk,
    time_s: Numbers,
    source: Codes,
    destination: Codes,
    *,
    port: Codes | None = None,
    spread: float | int = 0.3,
    received_spread: float | int | None = None,
    answered: float | int = 0.97,
    states: Mapping[str, float] = GOOD,
) -> pa.Table:
    """Exchanges of one kind; `spread` is that of sizes and durations around those of `how`."""
    received_spread = spread if received_spread is None else received_spread
    generator, count = scene.generator, len(time_s)
    ports = np.full(count, how.port) if port is None else port
    sent = around(generator, count, how.sent, spread)
    received = around(generator, count, how.received, received_spread)
    service = same(how.service or None, count)
    ends = (scene, time_s, source, destination, ports)
    if how.protocol != "tcp":
        return datagrams(*ends, service, sent, received, how.protocol, answered)
    return connections(
        *ends,
        service=service,
        duration_s=around(generator, count, how.duration_s, 2 * spread),
        sent=sent,
        received=received,
        states=states,
    )


def scaled(scene: Scene, how: Talk, spread: float | int = 0.6) -> Talk:
    """The exchange with other typical sizes and duration, as between two other hosts."""
    sent, received, duration = around(scene.generator, 3, 1.0, spread).tolist()
    return how._replace(
        sent=how.sent * sent, received=how.received * received, duration_s=how.duration_s * duration
    )


def one_of(scene: Scene, names: str) -> Talk:
    """One of the exchanges of these names."""
    return TALKS[str(scene.generator.choice(names.split()))]


def log_uniform(generator: np.random.Generator, low: float | int, high: float | int) -> float:
    """A number between both, by its order of magnitude."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def within(scene: Scene, offsets_s: Numbers) -> Numbers:
    """Times with these offsets, from any moment on that leaves room; squeezed if the scene is too short."""
    start_s, stop_s = scene.span_s
    room_s, last_s = (stop_s - start_s) * 0.999, float(offsets_s.max(initial=0))
    offsets_s = offsets_s * min(1.0, room_s / max(last_s, 1e-9))
    last_s = min(last_s, room_s)
    return start_s + scene.generator.random() * (room_s - last_s) + offsets_s


def steadily(scene: Scene, count: int, jitter: float | int) -> Numbers:
    """Times from the start to the end of the scene by one period; `jitter` is a fraction of it."""
    start_s, stop_s = scene.span_s
    period_s = (stop_s - start_s) / (count + 1)
    off = scene.generator.uniform(0, jitter, count) + scene.generator.random() * max(0.0, 1 - jitter)
    return start_s + (np.arange(count) + off) * period_s


def paced(scene: Scene, count: int, gap_s: float | int) -> Numbers:
    """Times one after the other: by a clock, at random, or several at once."""
    generator = scene.generator
    gaps_s = np.full(count, gap_s)
    kind = generator.integers(3)
    if kind == 1:
        gaps_s = generator.exponential(gap_s, count)
    elif kind == 2:
        at_once = int(generator.integers(2, 30))
        gaps_s = np.where(np.arange(count) % at_once == 0, gap_s * at_once, gap_s / 50)
    return within(scene, np.cumsum(gaps_s * generator.uniform(0.7, 1.3, count)))
