"""Benign activities: one small function each.

Some look like attacks on purpose: scripts log in as fast as password guessers, uploads are as large as stolen
archives, updates poll as periodically as beacons, and misconfigured hosts probe closed ports like scanners.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from wirebert.data.synthetic.network import FIRST_OUTSIDE, NUM_CLIENTS, SERVERS, server
from wirebert.data.synthetic.requests import (
    benign_uris,
    user_agents,
)
from wirebert.data.synthetic.wire import (
    PROBED_PORTS,
    Scene,
    any_port,
    around,
    bursts,
    by_day,
    calls,
    choose,
    clients,
    connections,
    datagrams,
    evenly,
    knocks,
    one_each,
    outside,
    popular_outside,
    same,
    scattered,
    share_of,
    texts,
    visitors,
    web_requests,
)


def web_browsing(scene: Scene, count: int) -> pa.Table:
    """Clients on outside web sites, mostly encrypted."""
    generator = scene.generator
    port = choose(generator, count, {443: 0.86, 80: 0.12, 8080: 0.02})
    is_open = port != 443
    num_open = int(is_open.sum())
    return connections(
        scene,
        by_day(scene, count),
        clients(scene, count),
        popular_outside(scene, count),
        port,
        service=texts(np.where(port == 443, "ssl", "http")),
        duration_s=around(generator, count, 2.0, 1.4),
        sent=around(generator, count, 1_400, 0.9),
        received=around(generator, count, 14_000, 1.6),
        uri=scattered(benign_uris(generator, num_open), is_open),
        user_agent=scattered(user_agents(generator, num_open, programs=0.08), is_open),
    )


def web_visits(scene: Scene, count: int) -> pa.Table:
    """Outside visitors on the web servers; attackers visit too."""
    uris = benign_uris(scene.generator, count)
    agents = user_agents(scene.generator, count, programs=0.18, scanners=0.005)
    return web_requests(scene, by_day(scene, count), visitors(scene, count, attackers=0.12), uris, agents)


def name_lookups(scene: Scene, count: int) -> pa.Table:
    """Clients asking the name server, and the name server asking outside."""
    generator = scene.generator
    is_relayed = generator.random(count) < 0.3
    return datagrams(
        scene,
        by_day(scene, count),
        np.where(is_relayed, server("dns"), clients(scene, count)),
        np.where(is_relayed, popular_outside(scene, count), server("dns")),
        np.full(count, 53),
        same("dns", count),
        sent=around(generator, count, 62, 0.25),
        received=around(generator, count, 150, 0.7),
    )


def names_served(scene: Scene, count: int) -> pa.Table:
    """Outside resolvers asking our name server, with large signed answers among them."""
    generator = scene.generator
    is_signed = generator.random(count) < 0.3
    received = np.where(is_signed, around(generator, count, 1_700, 0.4), around(generator, count, 210, 0.6))
    sent = around(generator, count, 66, 0.22)
    source = visitors(scene, count, attackers=0.02)
    return datagrams(
        scene,
        evenly(scene, count),
        source,
        np.full(count, server("dns")),
        np.full(count, 53),
        same("dns", count),
        sent,
        received,
    )


def clock_queries(scene: Scene, count: int) -> pa.Table:
    """Hosts setting their clocks; a few outside ones set theirs by ours."""
    generator = scene.generator
    is_ours = generator.random(count) < 0.8
    source = np.where(is_ours, clients(scene, count), outside(scene, count))
    destination = np.where(is_ours, popular_outside(scene, count), server("monitor"))
    size = np.full(count, 48.0) * generator.integers(1, 3, count)
    received = size * np.where(generator.random(count) < 0.06, around(generator, count, 9, 0.4), 1)
    return datagrams(
        scene,
        evenly(scene, count),
        source,
        destination,
        np.full(count, 123),
        same("ntp", count),
        size,
        received,
    )


def mail(scene: Scene, count: int) -> pa.Table:
    """Mail coming in, going out and being read."""
    generator = scene.generator
    port = choose(generator, count, {993: 0.5, 25: 0.3, 587: 0.2})
    source = np.where(port == 25, outside(scene, count), clients(scene, count))
    sent = np.where(port == 993, around(generator, count, 900, 0.6), around(generator, count, 24_000, 1.6))
    return connections(
        scene,
        by_day(scene, count),
        source,
        np.full(count, server("mail")),
        port,
        service=texts(np.where(port == 993, "ssl", "smtp")),
        duration_s=around(generator, count, 3.5, 1.3),
        sent=sent,
        received=around(generator, count, 2_600, 1.4),
    )


def remote_shells(scene: Scene, count: int) -> pa.Table:
    """Administrators at work: long sessions, typed by hand."""
    generator = scene.generator
    return connections(
        scene,
        by_day(scene, count),
        generator.integers(0, 12, count),
        NUM_CLIENTS + generator.integers(0, len(SERVERS), count),
        np.full(count, 22),
        service=same("ssh", count),
        duration_s=around(generator, count, 240, 1.5),
        sent=around(generator, count, 9_000, 1.2),
        received=around(generator, count, 22_000, 1.4),
    )


def admin_scripts(scene: Scene, count: int) -> pa.Table:
    """Scripts that log in everywhere for one command: in bursts, brief, and refused now and then."""
    generator = scene.generator
    run, time_s = bursts(scene, count, mean_size=15, gap_s=1.5)
    outside = one_each(scene, run, scene.network.attackers[20:])  # maintenance firms behind shared addresses
    source = np.where(share_of(scene, run, 0.4), outside, one_each(scene, run, np.arange(12)))
    return connections(
        scene,
        time_s,
        source,
        NUM_CLIENTS + generator.integers(0, len(SERVERS), count),
        np.full(count, 22),
        service=same("ssh", count),
        duration_s=around(generator, count, 1.7, 0.6),
        sent=around(generator, count, 2_900, 0.35),
        received=around(generator, count, 3_300, 0.4),
        states={"SF": 0.85, "RSTO": 0.08, "RSTR": 0.05, "S0": 0.02},
    )


def backups(scene: Scene, count: int) -> pa.Table:
    """Hosts copying their disks to the backup server, at night too."""
    generator = scene.generator
    return connections(
        scene,
        evenly(scene, count),
        generator.integers(0, FIRST_OUTSIDE, count),
        np.full(count, server("backup")),
        choose(generator, count, {873: 0.7, 22: 0.2, 443: 0.1}),
        service=texts(np.where(generator.random(count) < 0.3, "ssh", "")),
        duration_s=around(generator, count, 60, 1.0),
        sent=around(generator, count, 2e7, 1.4),
        received=around(generator, count, 60_000, 1.0),
    )


def uploads(scene: Scene, count: int) -> pa.Table:
    """People putting files into shared folders of the outside world."""
    generator = scene.generator
    port = choose(generator, count, {443: 0.85, 22: 0.1, 21: 0.05})
    return connections(
        scene,
        by_day(scene, count),
        clients(scene, count),
        popular_outside(scene, count),
        port,
        service=texts(np.select([port == 443, port == 22], ["ssl", "ssh"], "ftp")),
        duration_s=around(generator, count, 14, 1.1),
        sent=around(generator, count, 1.4e6, 1.3),
        received=around(generator, count, 16_000, 1.0),
    )


def file_shares(scene: Scene, count: int) -> pa.Table:
    """Clients on the file server and the printer."""
    generator = scene.generator
    is_printing = generator.random(count) < 0.15
    return connections(
        scene,
        by_day(scene, count),
        clients(scene, count),
        np.where(is_printing, server("print"), server("files")),
        np.where(is_printing, 9100, 445),
        service=texts(np.where(is_printing, "", "smb")),
        duration_s=around(generator, count, 12, 1.6),
        sent=around(generator, count, 9_000, 1.7),
        received=around(generator, count, 30_000, 1.9),
    )


def strays(scene: Scene, count: int) -> pa.Table:
    """Misconfigured, outdated or curious hosts that connect to closed ports."""
    generator = scene.generator
    is_inside = generator.random(count) < 0.5
    source = np.where(is_inside, clients(scene, count), visitors(scene, count, attackers=0.15))
    inner = generator.integers(0, FIRST_OUTSIDE, count)
    destination = np.where(is_inside & (generator.random(count) < 0.4), popular_outside(scene, count), inner)
    port = np.where(
        generator.random(count) < 0.65, generator.choice(PROBED_PORTS, count), any_port(generator, count)
    )
    return knocks(scene, by_day(scene, count), source, destination, port, {"S0": 0.62, "REJ": 0.38})


def pings(scene: Scene, count: int) -> pa.Table:
    """Hosts asking whether another is there."""
    generator = scene.generator
    size = 56.0 * generator.integers(1, 6, count)
    source, destination = generator.integers(0, FIRST_OUTSIDE, (2, count))
    time_s = evenly(scene, count)
    return datagrams(
        scene, time_s, source, destination, np.zeros(count, np.int64), same(None, count), size, size, "icmp"
    )


def update_calls(scene: Scene) -> pa.Table:
    """Programs that poll for updates periodically."""
    return calls(
        scene, scene.network.updaters, jitter=0.1, size_spread=0.12, received=850, received_spread=0.6
    )


def health_checks(scene: Scene) -> pa.Table:
    """The monitor asking every server how it is."""
    return calls(
        scene, scene.network.health_checks, jitter=0.01, size_spread=0.02, received=420, received_spread=0.3
    )


BENIGN: Mapping[Callable[[Scene, int], pa.Table], float] = {
    web_browsing: 30.0,
    web_visits: 22.0,
    name_lookups: 20.0,
    names_served: 2.5,
    clock_queries: 2.5,
    mail: 7.0,
    remote_shells: 1.5,
    admin_scripts: 1.6,
    backups: 1.2,
    uploads: 1.2,
    file_shares: 5.0,
    strays: 2.0,
    pings: 1.0,
}
"""Benign activities with their weights, for the rows that periodic calls and attacks leave."""

BENIGN_CALLS: tuple[Callable[[Scene], pa.Table], ...] = (update_calls, health_checks)
"""Periodic benign activities; the time range determines their number."""
