"""Scans, guessed passwords and beacons in the ways that are seen: each call draws one campaign anew."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from typing import NamedTuple

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
)
from wirebert.data.synthetic.network import FIRST_GROUP, FIRST_OUTSIDE, NUM_CLIENTS, NUM_OUTSIDE, SERVERS
from wirebert.data.synthetic.wire import PROBED_PORTS, Codes, Numbers, Scene, knocks
from wirebert.shapes import Bool

_OTHER_PORTS = """21 25 53 81 110 111 135 139 143 389 554 587 993 995 1080 1723 2222 2323 2375 3128 5060 5432
    5555 5985 6379 6667 7547 8000 8081 8443 8888 9000 9200"""
SCANNED_PORTS = np.concatenate([PROBED_PORTS, np.array(_OTHER_PORTS.split(), np.int64)])


class Probes(NamedTuple):
    """The probes of a scan in order: when, whom, what, and what is there."""

    time_s: Numbers
    source: Codes
    destination: Codes
    port: Codes
    is_alive: Bool[np.ndarray, " flows"]
    is_open: Bool[np.ndarray, " flows"]

    def where(self, chosen: Bool[np.ndarray, " flows"]) -> "Probes":
        """Some of them."""
        return Probes(*(values[chosen] for values in self))

    @property
    def ends(self) -> tuple[Numbers, Codes, Codes, Codes]:
        """Time, source, destination and port."""
        return self.time_s, self.source, self.destination, self.port


def scanning(scene: Scene, count: int) -> pa.Table:
    """One source at many hosts, many ports, or both: fast or slow, blind or by a list, in any technique."""
    probes = _probes(scene, count)
    technique = scene.generator.choice(
        ["half_open", "connect", "speak", "odd", "udp", "icmp"], p=[0.3, 0.2, 0.34, 0.04, 0.08, 0.04]
    )
    if technique == "udp":
        how = scaled(scene, Talk(0, "", 40, 90, protocol="udp"))
        parts = [
            talk(scene, how, some.time_s, some.source, some.destination, port=some.port, answered=answered)
            for some, answered in ((probes.where(probes.is_open), 1), (probes.where(~probes.is_open), 0))
        ]
        return pa.concat_tables(parts)
    if technique == "icmp":
        parts = [
            talk(scene, TALKS["ping"], *some.ends[:3], spread=0.0, answered=answered)
            for some, answered in ((probes.where(probes.is_alive), 1), (probes.where(~probes.is_alive), 0))
        ]
        return pa.concat_tables(parts)
    if technique == "odd":  # FIN, NULL and ACK probes: answered by a reset, or not at all
        answers = probes.is_alive.astype(np.int64)
        return _in_packets(
            knocks(scene, *probes.ends, {"OTH": 0.8, "SH": 0.2}), np.ones_like(answers), answers
        )
    is_refused = probes.is_alive & ~probes.is_open
    return pa.concat_tables(
        [
            knocks(scene, *probes.where(~probes.is_alive).ends, {"S0": 1.0}),
            knocks(scene, *probes.where(is_refused).ends, {"REJ": 1.0}),
            _opened(scene, probes.where(probes.is_open), str(technique)),
        ]
    )


def _probes(scene: Scene, count: int) -> Probes:
    generator = scene.generator
    shape = generator.choice(["hosts", "ports", "both"], p=[0.55, 0.27, 0.18])
    num_hosts = {"hosts": count, "ports": int(generator.integers(1, 3)), "both": max(1, int(np.sqrt(count)))}
    hosts = _targets(scene, num_hosts[str(shape)])
    few = int(generator.choice([1, 1, 1, 2, 3, 5])) if shape == "hosts" else max(2, count // len(hosts))
    ports = _ports(scene, few)
    if shape == "hosts" and generator.random() < 0.4:
        ports[0] = generator.choice([80, 80, 443, 8080])
    host, port = np.meshgrid(np.arange(len(hosts)), np.arange(len(ports)), indexing="ij")
    if generator.random() < 0.5:
        host, port = host.T, port.T
    order = np.arange(host.size) if generator.random() < 0.5 else generator.permutation(host.size)
    again = int(generator.choice([1, 1, 1, 2]))  # unanswered probes are repeated
    chosen = np.resize(np.repeat(order, again), count)
    host, port = host.ravel()[chosen], port.ravel()[chosen]
    # Blind knocking finds few hosts, a list of hosts that were there yesterday finds most of them.
    alive_fraction = generator.choice([generator.beta(0.5, 3), generator.uniform(0.4, 1.0), 1.0])
    open_fraction = generator.choice([generator.beta(0.6, 6), generator.uniform(0.3, 1.0)], p=[0.6, 0.4])
    alive = generator.random(len(hosts)) < alive_fraction
    if len(hosts) < 4 and generator.random() < 0.7:
        alive[:] = True
    is_filtered = generator.random(len(hosts)) < generator.beta(0.4, 0.6)  # drops instead of refusing
    opened = generator.random((len(hosts), len(ports))) < open_fraction
    is_alive = alive[host]
    is_open = is_alive & opened[host, port]
    time_s = paced(scene, count, log_uniform(generator, 0.001, 40))
    return Probes(
        time_s,
        np.full(count, _source(scene, 0.6)),
        hosts[host],
        ports[port],
        is_open | (is_alive & ~is_filtered[host]),
        is_open,
    )


def _targets(scene: Scene, count: int) -> Codes:
    """Hosts of the own network, of the world, or of both; where too few, addresses that nobody has."""
    generator = scene.generator
    low, high = ((0, FIRST_GROUP), (0, FIRST_OUTSIDE), (FIRST_OUTSIDE, FIRST_GROUP))[generator.integers(3)]
    return generator.permutation(np.arange(low, max(high, low + count)).clip(max=FIRST_GROUP - 1))[:count]


def _ports(scene: Scene, count: int) -> Codes:
    generator = scene.generator
    kind = generator.integers(4)
    if kind <= 1 and count <= len(SCANNED_PORTS):
        return generator.permutation(SCANNED_PORTS)[:count]
    if kind == 2:
        return int(generator.integers(1, 3_000)) + np.arange(count)
    return 1 + (generator.random(count) ** 3 * 65_000).astype(np.int64)


def _opened(scene: Scene, probes: Probes, technique: str) -> pa.Table:
    """What comes of probes of open ports: left at once, connected, or spoken to."""
    generator, count = scene.generator, len(probes.port)
    if technique == "half_open":
        return _in_packets(
            knocks(scene, *probes.ends, {"RSTO": 1.0}),
            generator.integers(2, 4, count),
            np.ones(count, np.int64),
        )
    if technique == "connect":
        flows = knocks(scene, *probes.ends, {"RSTO": 0.5, "SF": 0.5})
        return _in_packets(flows, generator.integers(3, 6, count), generator.integers(1, 4, count))
    by_port = {how.port: how.service for how in TALKS.values() if how.protocol == "tcp"}
    spread, received_spread = generator.uniform(0.01, 0.5), generator.uniform(0.05, 1.6)
    odd = generator.beta(0.7, 5)
    states = {"SF": 1 - odd, "RSTR": odd * 0.4, "RSTO": odd * 0.4, "S1": odd * 0.1, "SH": odd * 0.1}
    parts = [knocks(scene, *probes.where(probes.port < 0).ends, states)]
    for port in np.unique(probes.port).tolist():  # what is asked and answered depends on the port
        own = probes.where(probes.port == port)
        how = scaled(scene, Talk(port, by_port.get(port, ""), 300, 1_000, 0.3), 1.0)
        spreads = {"spread": spread, "received_spread": received_spread}
        parts.append(talk(scene, how, *own.ends[:3], states=states, **spreads))
    return pa.concat_tables(parts)


def password_guessing(scene: Scene, count: int) -> pa.Table:
    """Passwords tried at a service: by one host or several, at one server or some, fast or slow."""
    generator = scene.generator
    names = (
        "ssh ssh ssh rdp rdp ftp smb http http https http8080 telnet imap pop smtp mysql mssql postgresql vnc"
    )
    how = scaled(scene, one_of(scene, names), 0.5)
    if generator.random() < 0.15:  # services move to other ports
        how = how._replace(port=int(generator.choice([2222, 2200, 8022, 33_890, 2121, 8888, 10_000])))
    num_sources = int(generator.choice([1, 1, 1, 1, 1, 3, 12]))
    inside = generator.random() < 0.4
    sources = np.array([_source(scene, float(inside)) for _ in range(num_sources)])
    num_targets = int(generator.choice([1, 1, 1, 1, 2, 6]))
    targets = NUM_CLIENTS + generator.integers(0, len(SERVERS), num_targets)
    if generator.random() < 0.3:
        targets = FIRST_OUTSIDE + generator.integers(0, NUM_OUTSIDE, num_targets)
    odd, failed = generator.beta(0.7, 3) * 0.7, generator.beta(0.5, 10) * 0.25
    states = {
        "SF": 1 - odd - failed,
        "RSTO": odd * 0.45,
        "RSTR": odd * 0.35,
        "S1": odd * 0.1,
        "S3": odd * 0.1,
        "S0": failed / 2,
        "REJ": failed / 2,
    }
    return talk(
        scene,
        how,
        paced(scene, count, log_uniform(generator, 0.02, 10)),
        generator.choice(sources, count),
        generator.choice(targets, count),
        spread=float(generator.choice([0.01, 0.05, 0.1, 0.2])),
        states=states,
    )


def calling_home(scene: Scene, count: int) -> pa.Table:
    """An infected host, or a few, that call home by a period with some jitter; at times there is an order."""
    generator = scene.generator
    names = "https https https http http http8080 https8443 dns quic ssh mqtt_plain"
    how = scaled(scene, one_of(scene, names), 0.8)
    if generator.random() < 0.25:
        port = generator.choice(
            [4444, 1337, 6667, 8081, 9001, 50_050, int(generator.integers(1_024, 65_000))]
        )
        how = scaled(scene, Talk(int(port), "", 180, 220, 0.3), 1.0)
    states = {"SF": 0.94, "RSTO": 0.02, "RSTR": 0.02, "S1": 0.02}
    if generator.random() < 0.2:  # its home is down
        how, refused = how._replace(protocol="tcp"), generator.beta(0.3, 0.6)
        states = {"S0": 1 - refused, "REJ": refused}
    jitter, spread = generator.choice([0.0, 0.05, 0.1, 0.2, 0.4]), generator.choice([0.0, 0.02, 0.1, 0.3])
    parts: list[pa.Table] = []
    for part in np.array_split(np.arange(count), min(count, int(generator.choice([1, 1, 1, 2])))):
        home = FIRST_OUTSIDE + generator.integers(NUM_OUTSIDE)
        parts.append(
            talk(
                scene,
                how,
                steadily(scene, len(part), float(jitter)),
                np.full(len(part), _source(scene, 1.0)),
                np.full(len(part), home),
                spread=float(spread),
                states=states,
            )
        )
    return pa.concat_tables(parts)


def _source(scene: Scene, inside: float | int) -> int:
    """An attacker outside, or a client that has benign flows too."""
    generator = scene.generator
    if generator.random() < inside:
        return int(generator.integers(0, NUM_CLIENTS))
    return int(generator.choice(scene.network.attackers))


def _in_packets(flows: pa.Table, sent: Codes, received: Codes) -> pa.Table:
    """The flows with other numbers of packets."""
    for name, packets in (("src_packets", sent), ("dst_packets", received)):
        flows = flows.set_column(flows.column_names.index(name), name, pa.array(packets))
    return flows
