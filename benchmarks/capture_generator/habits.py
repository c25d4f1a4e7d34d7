"""Benign habits that look like attacks: polling, retrying, sharing files, keeping alive."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from capture_generator.talks import (
    TALKS,
    Talk,
    log_uniform,
    one_of,
    paced,
    scaled,
    steadily,
    talk,
    within,
)
from wirebert.data.synthetic.network import FIRST_GROUP, FIRST_OUTSIDE, NUM_CLIENTS, NUM_OUTSIDE, SERVERS
from wirebert.data.synthetic.wire import Codes, Scene, knocks


def polls(scene: Scene, count: int) -> pa.Table:
    """A monitoring system that asks each of its hosts the same, round after round; some are switched off."""
    generator = scene.generator
    num_hosts = min(count, int(log_uniform(generator, 3, 150)))
    hosts = generator.choice(FIRST_OUTSIDE if generator.random() < 0.7 else FIRST_GROUP, num_hosts)
    round_, at = np.divmod(np.arange(count), num_hosts)
    period_s = log_uniform(generator, 5, 600)
    gap_s = min(log_uniform(generator, 0.002, 2), period_s / num_hosts)
    time_s = within(scene, round_ * period_s + (at + generator.random(count)) * gap_s)
    source = np.full(count, _anyone(scene))
    how = scaled(scene, one_of(scene, "ping snmp snmp http https empty ssh mysql ping"))
    is_off = generator.random(num_hosts) < generator.beta(0.5, 8)
    off = is_off[at]
    parts = [talk(scene, how, time_s[~off], source[~off], hosts[at][~off], spread=0.15)]
    if how.protocol == "tcp":
        states = {"S0": 0.8, "REJ": 0.2}
        parts.append(
            knocks(scene, time_s[off], source[off], hosts[at][off], np.full(int(off.sum()), how.port), states)
        )
    else:
        parts.append(talk(scene, how, time_s[off], source[off], hosts[at][off], spread=0.15, answered=0))
    return pa.concat_tables(parts)


def beats(scene: Scene, count: int) -> pa.Table:
    """Clocks, keep-alives, telemetry, looks for updates or mail: a few pairs of hosts, each by its period."""
    generator = scene.generator
    num_pairs = min(count, int(generator.integers(1, 5)))
    names = "ntp ntp ntp ping ping ping dns dns empty empty empty stun snmp http https mqtt imap"
    source = _anyone(scene)
    parts: list[pa.Table] = []
    for part in np.array_split(np.arange(count), num_pairs):
        how = scaled(scene, one_of(scene, names))
        if how.service == "" and how.protocol == "tcp":
            how = how._replace(port=int(generator.choice([80, 443, 8080, 5222, 7547])))
        port = int(generator.choice([3, 8])) if how.protocol == "icmp" else how.port
        states = GIVEN_UP if generator.random() < 0.15 else {"SF": 0.95, "RSTO": 0.02, "S1": 0.03}
        parts.append(
            talk(
                scene,
                how._replace(port=port),
                steadily(scene, len(part), generator.choice([0.0, 0.02, 0.1, 0.3])),
                np.full(len(part), source if generator.random() < 0.7 else _anyone(scene)),
                np.full(len(part), FIRST_OUTSIDE + generator.integers(NUM_OUTSIDE)),
                spread=float(generator.choice([0.0, 0.02, 0.1, 0.4])),
                answered=float(generator.choice([1.0, 0.97, 0.7])),
                states=states,
            )
        )
    return pa.concat_tables(parts)


def pools(scene: Scene, count: int) -> pa.Table:
    """Programs that connect to one service over and over: databases, directories, proxies, repositories."""
    generator = scene.generator
    how = scaled(
        scene,
        one_of(
            scene, "mysql postgresql mssql ldap https https http http http8080 proxy smb ssh imap smtp quic"
        ),
    )
    sources = np.array([_anyone(scene) for _ in range(int(generator.integers(1, 4)))])
    destinations = _servers(scene, int(generator.integers(1, 3)))
    return talk(
        scene,
        how,
        paced(scene, count, log_uniform(generator, 0.02, 20)),
        generator.choice(sources, count),
        generator.choice(destinations, count),
        spread=generator.uniform(0.4, 1.2),
    )


def retries(scene: Scene, count: int) -> pa.Table:
    """A misconfigured host that does not give up on a service which is not there any more."""
    generator = scene.generator
    ports = np.array([80, 443, 445, 515, 631, 389, 1433, 8080, 9100, 5222, 7680, 25, 139, 3128, 53, 8883])
    dead = generator.integers(0, FIRST_GROUP, int(generator.integers(1, 4)))
    at = generator.integers(0, len(dead), count)
    port = generator.choice(ports, len(dead))[at]
    refused = float(generator.beta(0.4, 0.4))
    time_s = paced(scene, count, log_uniform(generator, 5, 300))
    source = np.full(count, _anyone(scene))
    return knocks(scene, time_s, source, dead[at], port, {"S0": 1 - refused, "REJ": refused})


def lookups(scene: Scene, count: int) -> pa.Table:
    """A resolver, or a mail server that checks names: one host at many name servers, in bursts."""
    generator = scene.generator
    num_servers = int(log_uniform(generator, 2, 300))
    return talk(
        scene,
        scaled(scene, TALKS["dns"]),
        paced(scene, count, log_uniform(generator, 0.01, 2)),
        np.full(count, _anyone(scene)),
        FIRST_OUTSIDE
        + generator.integers(0, NUM_OUTSIDE, num_servers)[generator.integers(0, num_servers, count)],
        spread=0.4,
        answered=generator.uniform(0.7, 1.0),
    )


def swarms(scene: Scene, count: int) -> pa.Table:
    """File sharing: one host and many others at ports of their own, most by UDP, a part of them gone."""
    generator = scene.generator
    source, destination = (
        np.full(count, _anyone(scene)),
        FIRST_OUTSIDE + generator.integers(0, NUM_OUTSIDE, count),
    )
    port = generator.integers(10_000, 65_000, count)
    time_s = paced(scene, count, log_uniform(generator, 0.02, 3))
    is_udp = generator.random(count) < generator.uniform(0.7, 1.0)
    ends = [(time_s[some], source[some], destination[some]) for some in (is_udp, ~is_udp)]
    how = Talk(0, "", 140, 300, 30.0, "udp")
    gone = generator.uniform(0.2, 0.6)
    states = {"S0": gone, "REJ": 0.05, "SF": 0.75 - gone, "RSTO": 0.1, "RSTR": 0.05, "S1": 0.05}
    return pa.concat_tables(
        [
            talk(scene, how, *ends[0], port=port[is_udp], spread=1.0, answered=1 - gone),
            talk(
                scene,
                how._replace(protocol="tcp", sent=3e4, received=1e5),
                *ends[1],
                port=port[~is_udp],
                spread=1.5,
                states=states,
            ),
        ]
    )


def one_way_reports(scene: Scene, count: int) -> pa.Table:
    """Hosts that send logs and measurements to a collector, which says nothing."""
    generator = scene.generator
    how = scaled(scene, TALKS["syslog"])._replace(port=int(generator.choice([514, 2055, 8125, 6343, 5140])))
    sources = np.array([_anyone(scene) for _ in range(int(generator.integers(1, 20)))])
    time_s = paced(scene, count, log_uniform(generator, 0.02, 30))
    collector = np.full(count, _servers(scene, 1)[0])
    return talk(scene, how, time_s, generator.choice(sources, count), collector, spread=0.6, answered=0)


def logons(scene: Scene, count: int) -> pa.Table:
    """Clients that log on to a domain: several ports of a server or two within a second, all answered."""
    generator = scene.generator
    names = ("kerberos", "ldap", "smb", "rpc", "dns", "ntp", "catalog", "kerberos")
    dynamic = Talk(int(generator.integers(49_152, 49_700)), "dce_rpc", 800, 700, 1.0)
    steps = [*(TALKS[name] for name in names), dynamic]
    logon = np.arange(count) // len(steps)
    starts_s = np.sort(
        generator.uniform(0, log_uniform(generator, 5, 3_000), int(logon[-1]) + 1 if count else 1)
    )
    time_s = within(scene, starts_s[logon] + np.cumsum(generator.exponential(0.05, count)) % 2.0)
    source = np.array([_anyone(scene) for _ in starts_s])[logon]
    server = generator.choice(_servers(scene, 2), count)
    which = np.arange(count) % len(steps)
    return pa.concat_tables(
        [
            talk(scene, how, time_s[which == at], source[which == at], server[which == at], spread=0.4)
            for at, how in enumerate(steps)
        ]
    )


def callers(scene: Scene, count: int) -> pa.Table:
    """Many hosts of the world at one of our services."""
    generator = scene.generator
    how = scaled(scene, one_of(scene, "https https http smtp dns quic imap"))
    return talk(
        scene,
        how,
        paced(scene, count, log_uniform(generator, 0.02, 10)),
        FIRST_OUTSIDE + generator.integers(0, NUM_OUTSIDE, count),
        np.full(count, _servers(scene, 1)[0]),
        spread=1.2,
        states={"SF": 0.88, "RSTO": 0.04, "RSTR": 0.03, "S1": 0.02, "S3": 0.01, "OTH": 0.01, "SHR": 0.01},
    )


def automation(scene: Scene, count: int) -> pa.Table:
    """A machine that looks after many others by ssh, file copies or agents, one after the other."""
    generator = scene.generator
    how = scaled(scene, one_of(scene, "ssh ssh smb https rdp"))
    num_hosts = min(count, int(log_uniform(generator, 3, 100)))
    hosts = generator.choice(FIRST_OUTSIDE, num_hosts)
    return talk(
        scene,
        how._replace(sent=how.sent * 3, duration_s=how.duration_s * 4),
        paced(scene, count, log_uniform(generator, 0.1, 20)),
        np.full(count, _anyone(scene)),
        hosts[np.sort(generator.integers(0, num_hosts, count))],
        spread=0.7,
    )


def _anyone(scene: Scene) -> int:
    """A client, or now and then a server."""
    return int(scene.generator.integers(0, NUM_CLIENTS if scene.generator.random() < 0.8 else FIRST_OUTSIDE))


def _servers(scene: Scene, count: int) -> Codes:
    """Services inside or outside."""
    generator = scene.generator
    inside = NUM_CLIENTS + generator.integers(0, len(SERVERS), count)
    outside = FIRST_OUTSIDE + generator.integers(0, NUM_OUTSIDE, count)
    return np.where(generator.random(count) < 0.6, inside, outside)


GIVEN_UP: Mapping[str, float] = {"S0": 0.9, "REJ": 0.1}

HABITS: Mapping[Callable[[Scene, int], pa.Table], float] = {
    polls: 0.14,
    beats: 0.26,
    pools: 0.12,
    retries: 0.1,
    lookups: 0.06,
    swarms: 0.08,
    one_way_reports: 0.05,
    logons: 0.07,
    callers: 0.06,
    automation: 0.06,
}
"""Habits with their probabilities."""
