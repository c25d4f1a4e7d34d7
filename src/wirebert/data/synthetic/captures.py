"""Short captures of many different generated networks, to train detectors for other networks.

`generate` simulates one network with one level of activity. Here hosts, rate, length, failures and activities
are drawn for each capture, over orders of magnitude, so that a count alone reveals little. About half of the
captures contain an attack, of one kind.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.synthetic.attacks import syn_flood
from wirebert.data.synthetic.benign import BENIGN, strays
from wirebert.data.synthetic.network import (
    FIRST_GROUP,
    GROUPS,
    NUM_CLIENTS,
    Network,
    server,
)
from wirebert.data.synthetic.stealthy import beacon, brute_force, slow_exfiltration
from wirebert.data.synthetic.traffic import as_sensed
from wirebert.data.synthetic.wire import (
    PROBED_PORTS,
    Codes,
    Numbers,
    Scene,
    any_port,
    around,
    bursts,
    connections,
    datagrams,
    evenly,
    knocks,
    one_each,
    popular_outside,
    same,
    share_of,
    texts,
)

GAP_DAYS = 2
"""Days between the starts of two captures: longer than any context window."""

WORKING_TIME = 0.3
"""Fraction of a day's work that is done when a capture begins."""
SECONDS_PER_DAY_OF_WORK = 49_000
"""At that time of day."""


class Pace(NamedTuple):
    """The parameters of one capture."""

    num_clients: int
    seconds: float
    num_benign: int
    num_attacks: int
    failing_fraction: float
    """Fraction of benign connections without answer."""


def captures(num_captures: int, seed: int) -> Iterator[pa.Table]:
    """Flows of each capture in order of time, with the columns of `generate`; captures are days apart.

    >>> first = next(captures(1, seed=0))
    >>> first.column_names[:4], first.column_names[-1]
    (['ts', 'uid', 'src_ip', 'src_port'], 'label')
    """
    for position in range(num_captures):
        generator = np.random.default_rng([seed, 8, position])
        scene_of = Network(int(generator.integers(1 << 30)))
        pace = _pace(generator)
        first = position * GAP_DAYS + WORKING_TIME
        scene = Scene(scene_of, generator, first, first + pace.seconds / SECONDS_PER_DAY_OF_WORK)
        yield as_sensed(scene, _flows(scene, pace))


def _pace(generator: np.random.Generator) -> Pace:
    is_of_one_host = generator.random() < 0.3  # a single-host sensor, or a test machine
    num_clients = 1 if is_of_one_host else round(np.exp(generator.uniform(0, np.log(NUM_CLIENTS))))
    seconds = float(np.exp(generator.uniform(np.log(20), np.log(4 * 3_600))))
    # Flows of a client in a minute: from an idle printer to ten pages opened at once.
    rate = np.exp(generator.uniform(np.log(0.2), np.log(120)))
    num_benign = int(np.clip(num_clients * rate * seconds / 60, 20, 600))
    is_attacked = generator.random() < 0.5
    return Pace(
        num_clients=num_clients,
        seconds=seconds,
        num_benign=num_benign,
        num_attacks=int(np.exp(generator.uniform(np.log(12), np.log(300)))) * is_attacked,
        failing_fraction=float(generator.beta(0.6, 14)),
    )


def _flows(scene: Scene, pace: Pace) -> pa.Table:
    generator = scene.generator
    weights = np.array(list(CAPTURED_WORK.values()))
    weights = weights * np.exp(1.2 * generator.standard_normal(len(weights)))
    counts = generator.multinomial(pace.num_benign, weights / weights.sum())
    # Misconfigured hosts probe rarely: many unanswered probes by one host would be a scan.
    counts[list(CAPTURED_WORK).index(strays)] = generator.binomial(pace.num_benign, 0.004)
    activities = zip(CAPTURED_WORK, counts.tolist(), strict=True)
    parts = [(activity(scene, count), "benign") for activity, count in activities]
    ordinary = pa.concat_tables([flows for flows, _ in parts if flows.num_rows])
    parts = [(_failing(scene, ordinary, pace.failing_fraction), "benign")]
    if pace.num_attacks:
        attack = list(CAPTURED_ATTACKS)[generator.choice(len(CAPTURED_ATTACKS), p=_CHANCES)]
        parts.append((attack(scene, pace.num_attacks), CAPTURED_ATTACKS[attack]))
    labels = pa.concat_arrays([pa.repeat(pa.scalar(label), flows.num_rows) for flows, label in parts])
    joined = pa.concat_tables([flows for flows, _ in parts]).append_column("label", labels)
    joined = _among(joined, pace.num_clients)
    return joined.take(pc.sort_indices(joined.column("time_s"))).combine_chunks()


def _among(flows: pa.Table, num_clients: int) -> pa.Table:
    """The flows, with a few clients as the source of all client flows."""
    for name in ("source", "destination"):
        hosts = flows.column(name).to_numpy()
        hosts = np.where(hosts < NUM_CLIENTS, hosts % num_clients, hosts)
        flows = flows.set_column(flows.column_names.index(name), name, pa.array(hosts))
    return flows


def _failing(scene: Scene, flows: pa.Table, fraction: float | int) -> pa.Table:
    """The flows, with a fraction of the TCP ones unanswered: a few dead hosts and blocked trackers, tried
    repeatedly."""
    generator = scene.generator
    is_tcp = pc.equal(flows.column("protocol"), "tcp").to_numpy()
    fails = is_tcp & (generator.random(flows.num_rows) < fraction)
    lost = flows.filter(pa.array(fails))
    time_s, source, port = (
        lost.column(name).to_numpy(zero_copy_only=False) for name in ("time_s", "source", "dst_port")
    )
    dead = generator.choice(popular_outside(scene, int(generator.integers(1, 5))), len(time_s))
    failed = knocks(scene, time_s, source, dead, port, {"S0": 0.8, "REJ": 0.2})
    return pa.concat_tables([flows.filter(pa.array(~fails)), failed])


def page_loads(scene: Scene, count: int) -> pa.Table:
    """A page from many hosts at once, and the names of these hosts looked up just before."""
    generator = scene.generator
    page, time_s = bursts(
        scene, count, mean_size=int(generator.integers(4, 40)), gap_s=generator.uniform(0.02, 0.6)
    )
    source = one_each(scene, page, np.arange(NUM_CLIENTS))
    port = np.where(share_of(scene, page, generator.random() * 0.5), 80, 443)
    is_name = generator.random(count) < 0.3
    pages = _picked(~is_name, time_s, source, popular_outside(scene, count), port)
    is_quic = (generator.random(len(pages.time_s)) < 0.15) & (pages.port == 443)
    names = _picked(is_name, time_s, source, np.full(count, server("dns")), np.full(count, 53))
    quic = _picked(is_quic, *pages)
    plain = _picked(~is_quic, *pages)
    return pa.concat_tables(
        [
            datagrams(
                scene, *names, same("dns", len(names.port)), _near(scene, names, 62), _near(scene, names, 150)
            ),
            datagrams(
                scene, *quic, same("quic", len(quic.port)), _near(scene, quic, 4e3), _near(scene, quic, 3e4)
            ),
            connections(
                scene,
                *plain,
                service=texts(np.where(plain.port == 443, "ssl", "http")),
                duration_s=around(generator, len(plain.port), 1.0, 1.5),
                sent=_near(scene, plain, 900),
                received=_near(scene, plain, 9_000),
            ),
        ]
    )


def group_calls(scene: Scene, count: int) -> pa.Table:
    """Hosts asking everyone on their network, by group or broadcast addresses, which nobody answers to the
    sensor."""
    generator = scene.generator
    time_s = evenly(scene, count)
    kind = generator.integers(0, len(GROUPS), count)
    port = np.array([port for _, port in GROUPS])[kind]
    size = around(generator, count, 120, 0.8) * generator.integers(1, 6, count)
    return datagrams(
        scene,
        time_s,
        generator.integers(0, NUM_CLIENTS, count),
        FIRST_GROUP + kind,
        port,
        texts(np.where(np.isin(port, (137, 5353, 5355)), "dns", np.where(port == 67, "dhcp", ""))),
        size,
        np.zeros(count),
        answered=0,
    )


def spread(scene: Scene, count: int) -> pa.Table:
    """One source at many hosts: knocks that fail and, where somebody answers, a word or a request."""
    generator = scene.generator
    campaign, time_s = _campaigns(scene, count)
    ports = np.concatenate([PROBED_PORTS, [80, 80, 443, 25, 8080]])
    port = one_each(scene, campaign, ports)
    if generator.random() < 0.2:  # a few ports of each host
        port = generator.choice(generator.choice(ports, 4), count)
    destination = generator.integers(0, FIRST_GROUP, count)
    source = _source(scene, campaign)
    # Blind knocking finds few hosts, a list of hosts that were there yesterday finds most of them.
    is_blind = generator.random() < 0.5
    open_fraction = generator.beta(0.5, 4) if is_blind else generator.uniform(0.4, 0.98)
    return _met(scene, _Ends(time_s, source, destination, port), open_fraction)


def sweep(scene: Scene, count: int) -> pa.Table:
    """One source at many ports of one host."""
    generator = scene.generator
    campaign, time_s = _campaigns(scene, count)
    destination = one_each(scene, campaign, np.arange(NUM_CLIENTS, FIRST_GROUP))
    service_ports = generator.choice(np.concatenate([PROBED_PORTS, np.arange(20, 1_100)]), count)
    port = np.where(generator.random(count) < generator.random(), service_ports, any_port(generator, count))
    ends = _Ends(time_s, _source(scene, campaign), destination, port)
    return _met(scene, ends, generator.beta(0.7, 5))


class _Ends(NamedTuple):
    time_s: Numbers
    source: Codes
    destination: Codes
    port: Codes


def _met(scene: Scene, ends: _Ends, open_fraction: float) -> pa.Table:
    """What knocks of one capture come to: all campaigns of it meet hosts alike."""
    generator = scene.generator
    refused = generator.random()  # some networks drop, others refuse
    states = {"S0": 1 - refused, "REJ": refused}
    is_open = generator.random(len(ends.port)) < open_fraction
    opened, closed = _picked(is_open, *ends), _picked(~is_open, *ends)
    missed = knocks(scene, *closed, states)
    if generator.random() < 0.4:  # half-open: leave as soon as somebody answers
        return pa.concat_tables([missed, knocks(scene, *opened, {"RSTO": 0.9, "SF": 0.1})])
    services = {80: "http", 8080: "http", 443: "ssl", 22: "ssh", 25: "smtp", 445: "smb", 3389: "rdp"}
    speaks = generator.random() < 0.7
    names = np.array([services.get(port, "") if speaks else "" for port in opened.port.tolist()], np.str_)
    mean_sent, mean_received = around(generator, 2, 600, 1.2) * speaks
    return pa.concat_tables(
        [
            missed,
            connections(
                scene,
                *opened,
                service=texts(names),
                duration_s=_near(scene, opened, 0.3),
                sent=around(generator, len(opened.port), mean_sent, 0.3),
                received=_near(scene, opened, mean_received),
            ),
        ]
    )


def _campaigns(scene: Scene, count: int) -> tuple[Codes, Numbers]:
    generator = scene.generator
    gap_s = float(np.exp(generator.uniform(np.log(0.003), np.log(5))))
    return bursts(scene, count, mean_size=count, gap_s=gap_s)


def _source(scene: Scene, campaign: Codes) -> Codes:
    """Attackers from outside, or clients with benign flows too."""
    inside = one_each(scene, campaign, np.arange(NUM_CLIENTS))
    return np.where(
        share_of(scene, campaign, 0.65), inside, one_each(scene, campaign, scene.network.attackers)
    )


def _picked(chosen: np.ndarray, *columns: np.ndarray) -> _Ends:
    return _Ends(*(values[chosen] for values in columns))


def _near(scene: Scene, ends: _Ends, middle: float | int) -> Numbers:
    return around(scene.generator, len(ends.port), middle, 1.2)


CAPTURED_WORK: Mapping[Callable[[Scene, int], pa.Table], float] = {
    **BENIGN,
    page_loads: 40.0,
    group_calls: 12.0,
}
"""Benign activities of captures, with the mean of their weights."""

CAPTURED_ATTACKS: Mapping[Callable[[Scene, int], pa.Table], str] = {
    spread: "scan",
    sweep: "scan",
    brute_force: "brute_force",
    beacon: "beacon",
    slow_exfiltration: "exfiltration",
    syn_flood: "flood",
}
"""Attacks of captures, and their labels."""

_CHANCES = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.1])
