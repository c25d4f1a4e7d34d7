"""Attacks: one small function each, whose name is the label.

Hosts and times are coherent: a scan is one source that reaches many hosts or ports within seconds, a beacon
repeats over the whole time range. Attackers have benign flows at other times, so an address does not reveal
the label.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from wirebert.data.synthetic.network import FIRST_OUTSIDE, NUM_CLIENTS, NUM_OUTSIDE, SERVERS, server
from wirebert.data.synthetic.requests import (
    cross_site_scripting_uris,
    sql_injection_uris,
    user_agents,
)
from wirebert.data.synthetic.wire import (
    PROBED_PORTS,
    Scene,
    any_port,
    around,
    attack_source,
    bursts,
    calls,
    connections,
    datagrams,
    knocks,
    one_each,
    outside,
    same,
    share_of,
    texts,
    web_requests,
)


def horizontal_scan(scene: Scene, count: int) -> pa.Table:
    """One source, one port, many hosts, within seconds."""
    campaign, time_s = bursts(scene, count, mean_size=55, gap_s=0.04)
    generator = scene.generator
    destination = generator.integers(0, FIRST_OUTSIDE, count)
    port = one_each(scene, campaign, PROBED_PORTS)
    states = {"S0": 0.56, "REJ": 0.28, "RSTO": 0.08, "SH": 0.04, "SF": 0.04}
    return knocks(scene, time_s, attack_source(scene, campaign, inside=0.35), destination, port, states)


def vertical_scan(scene: Scene, count: int) -> pa.Table:
    """One source, one host, many ports, within seconds."""
    campaign, time_s = bursts(scene, count, mean_size=80, gap_s=0.02)
    generator = scene.generator
    destination = one_each(scene, campaign, np.arange(NUM_CLIENTS - 20, FIRST_OUTSIDE))
    port = np.where(
        generator.random(count) < 0.12, generator.choice(PROBED_PORTS, count), any_port(generator, count)
    )
    states = {"S0": 0.3, "REJ": 0.58, "RSTO": 0.05, "SH": 0.04, "SF": 0.03}
    return knocks(scene, time_s, attack_source(scene, campaign, inside=0.35), destination, port, states)


def syn_flood(scene: Scene, count: int) -> pa.Table:
    """Spoofed sources that open connections to a web server and leave them half open."""
    campaign, time_s = bursts(scene, count, mean_size=160, gap_s=0.01)
    destination = one_each(scene, campaign, np.array([server("web"), server("shop")]))
    port = one_each(scene, campaign, np.array([80, 443]))
    states = {"S0": 0.82, "S1": 0.12, "RSTO": 0.03, "REJ": 0.03}
    return knocks(scene, time_s, outside(scene, count), destination, port, states)


def udp_amplification(scene: Scene, count: int) -> pa.Table:
    """Small queries with a victim's address as source, so that large answers go to the victim."""
    campaign, time_s = bursts(scene, count, mean_size=50, gap_s=0.05)
    generator = scene.generator
    kind = one_each(scene, campaign, np.arange(4))
    port = np.array([53, 123, 389, 1900])[kind]
    host = np.array([server("dns"), server("monitor"), server("files"), server("print")])[kind]
    sent = around(generator, count, 62, 0.2) * generator.integers(1, 3, count)
    received = sent * around(generator, count, 24, 0.5)
    service = texts(np.array(["dns", "ntp", "ldap", ""])[kind])
    victim = one_each(scene, campaign, FIRST_OUTSIDE + np.arange(NUM_OUTSIDE))
    return datagrams(scene, time_s, victim, host, port, service, sent, received)


def ssh_brute_force(scene: Scene, count: int) -> pa.Table:
    """One source that guesses passwords of one host."""
    campaign, time_s = bursts(scene, count, mean_size=40, gap_s=2.0)
    generator = scene.generator
    return connections(
        scene,
        time_s,
        attack_source(scene, campaign, inside=0.25),
        NUM_CLIENTS + one_each(scene, campaign, np.arange(len(SERVERS))),
        np.full(count, 22),
        service=same("ssh", count),
        duration_s=around(generator, count, 2.3, 0.5),
        sent=around(generator, count, 1_900, 0.3),
        received=around(generator, count, 2_300, 0.3),
        states={"SF": 0.76, "RSTO": 0.12, "RSTR": 0.08, "S0": 0.04},
    )


def sql_injection(scene: Scene, count: int) -> pa.Table:
    """Requests with SQL for the database behind the web server."""
    return _web_attack(scene, count, sql_injection_uris(scene.generator, count))


def xss(scene: Scene, count: int) -> pa.Table:
    """Requests with script for the browsers of other visitors."""
    return _web_attack(scene, count, cross_site_scripting_uris(scene.generator, count))


def beaconing(scene: Scene) -> pa.Table:
    """Infected clients that poll their command-and-control servers periodically."""
    return calls(
        scene, scene.network.beacons, jitter=0.15, size_spread=0.06, received=330, received_spread=0.3
    )


def exfiltration(scene: Scene, count: int) -> pa.Table:
    """Infected clients that send archives out, piece by piece."""
    campaign, time_s = bursts(scene, count, mean_size=14, gap_s=240)
    generator = scene.generator
    port = one_each(scene, campaign, np.array([443, 443, 443, 22, 21, 8443]))
    return connections(
        scene,
        time_s,
        one_each(scene, campaign, scene.network.infected),
        one_each(scene, campaign, scene.network.attackers),
        port,
        service=texts(np.select([port == 443, port == 22, port == 21], ["ssl", "ssh", "ftp"], "")),
        duration_s=around(generator, count, 45, 0.7),
        sent=around(generator, count, 5.5e6, 0.6),
        received=around(generator, count, 9_000, 0.6),
    )


def _web_attack(scene: Scene, count: int, uris: pa.Array) -> pa.Table:
    campaign, time_s = bursts(scene, count, mean_size=25, gap_s=1.2)
    attackers = one_each(scene, campaign, scene.network.attackers)
    anyone = one_each(scene, campaign, outside(scene, 500))
    agents = user_agents(scene.generator, count, programs=0.2, scanners=0.06)
    return web_requests(
        scene, time_s, np.where(share_of(scene, campaign, 0.7), attackers, anyone), uris, agents
    )


ATTACKS: Mapping[Callable[[Scene, int], pa.Table], float] = {
    horizontal_scan: 0.036,
    vertical_scan: 0.032,
    syn_flood: 0.04,
    udp_amplification: 0.025,
    ssh_brute_force: 0.026,
    sql_injection: 0.016,
    xss: 0.013,
    exfiltration: 0.006,
}
"""Attacks with their fraction of all flows; the label is the function's name."""

ATTACK_CALLS: tuple[Callable[[Scene], pa.Table], ...] = (beaconing,)
"""Periodic attacks; the time range determines their number."""
