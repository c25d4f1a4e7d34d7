"""Short captures of many different generated networks, to train detectors for other networks.

`generate` simulates one network with one level of activity. Here hosts, rate, length, failures and activities
are drawn for each capture, over orders of magnitude, so that a count alone reveals little. About half of the
captures contain an attack, of one kind, and most contain benign habits that look like one.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from capture_generator.campaigns import calling_home, password_guessing, scanning
from capture_generator.habits import HABITS, beats
from capture_generator.talks import log_uniform
from wirebert.data.synthetic.attacks import syn_flood
from wirebert.data.synthetic.benign import BENIGN, strays
from wirebert.data.synthetic.network import (
    FIRST_GROUP,
    GROUPS,
    NUM_CLIENTS,
    Network,
    server,
)
from wirebert.data.synthetic.stealthy import slow_exfiltration
from wirebert.data.synthetic.traffic import as_sensed
from wirebert.data.synthetic.wire import (
    Codes,
    Numbers,
    Scene,
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
    attack: Callable[[Scene, int], pa.Table] | None
    num_attacks: int
    habits: tuple[tuple[Callable[[Scene, int], pa.Table], int], ...]
    """Benign look-alikes, with the number of their flows."""
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
    is_busy = generator.random() < 0.08
    num_clients = 1 if is_of_one_host else round(log_uniform(generator, 1, NUM_CLIENTS))
    seconds = log_uniform(generator, 20, 4 * 3_600)
    attack = _one(generator, CAPTURED_ATTACKS) if generator.random() < 0.5 else None
    habits = [_one(generator, HABITS) for _ in range(generator.binomial(3, 0.4))]
    period_s = log_uniform(generator, 2, 1_800)
    if attack is calling_home or beats in habits:  # long enough to see the period
        seconds = max(seconds, period_s * generator.uniform(6, 30))

    def num_flows(activity: Callable[[Scene, int], pa.Table]) -> int:
        if activity in (calling_home, beats):
            return int(np.clip(seconds / period_s, 4, 1_500 if is_busy else 300))
        return int(log_uniform(generator, 12, 1_500 if is_busy else 300))

    # Flows of a client in a minute: from an idle printer to ten pages opened at once.
    rate = log_uniform(generator, 0.2, 120)
    return Pace(
        num_clients=num_clients,
        seconds=seconds,
        num_benign=int(np.clip(num_clients * rate * seconds / 60, 20, 3_000 if is_busy else 600)),
        attack=attack,
        num_attacks=0 if attack is None else num_flows(attack),
        habits=tuple((habit, num_flows(habit)) for habit in habits),
        failing_fraction=float(generator.beta(0.6, 14)),
    )


def _one(
    generator: np.random.Generator, chances: Mapping[Callable[[Scene, int], pa.Table], float]
) -> Callable[[Scene, int], pa.Table]:
    return list(chances)[generator.choice(len(chances), p=list(chances.values()))]


def _flows(scene: Scene, pace: Pace) -> pa.Table:
    generator = scene.generator
    weights = np.array(list(CAPTURED_WORK.values()))
    weights = weights * np.exp(1.2 * generator.standard_normal(len(weights)))
    counts = generator.multinomial(pace.num_benign, weights / weights.sum())
    # Misconfigured hosts probe rarely: many unanswered probes by one host would be a scan.
    counts[list(CAPTURED_WORK).index(strays)] = generator.binomial(pace.num_benign, 0.004)
    activities = zip(CAPTURED_WORK, counts.tolist(), strict=True)
    ordinary = pa.concat_tables([activity(scene, count) for activity, count in activities if count])
    ordinary = _among(_failing(scene, ordinary, pace.failing_fraction), pace.num_clients, "destination")
    parts = [(ordinary, "benign"), *((habit(scene, count), "benign") for habit, count in pace.habits)]
    if pace.attack is not None:
        parts.append((pace.attack(scene, pace.num_attacks), CAPTURED_LABELS[pace.attack]))
    labels = pa.concat_arrays([pa.repeat(pa.scalar(label), flows.num_rows) for flows, label in parts])
    joined = pa.concat_tables([flows for flows, _ in parts]).append_column("label", labels)
    joined = _among(joined, pace.num_clients, "source")
    return joined.take(pc.sort_indices(joined.column("time_s"))).combine_chunks()


def _among(flows: pa.Table, num_clients: int, end: str) -> pa.Table:
    """The flows, with a few clients in the place of all."""
    hosts = flows.column(end).to_numpy()
    hosts = np.where(hosts < NUM_CLIENTS, hosts % num_clients, hosts)
    return flows.set_column(flows.column_names.index(end), end, pa.array(hosts))


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
    port = np.where(share_of(scene, page, generator.random() * 0.3), 80, 443)
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


class _Ends(NamedTuple):
    time_s: Numbers
    source: Codes
    destination: Codes
    port: Codes


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

CAPTURED_ATTACKS: Mapping[Callable[[Scene, int], pa.Table], float] = {
    scanning: 0.42,
    password_guessing: 0.2,
    calling_home: 0.2,
    slow_exfiltration: 0.08,
    syn_flood: 0.1,
}
"""Attacks of captures with their probabilities."""

CAPTURED_LABELS: Mapping[Callable[[Scene, int], pa.Table], str] = {
    scanning: "scan",
    password_guessing: "brute_force",
    calling_home: "beacon",
    slow_exfiltration: "exfiltration",
    syn_flood: "flood",
}
