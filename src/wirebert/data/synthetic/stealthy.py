"""Attacks that no single flow reveals: flows are drawn like those of a benign activity, except for hosts and
times.

Each attack is rarer than the activity that it resembles, so a detector that sees one flow at a time does best
by calling all of it benign.
"""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from wirebert.data.synthetic.benign import admin_scripts, strays, uploads, web_browsing
from wirebert.data.synthetic.network import FIRST_OUTSIDE, NUM_CLIENTS, SERVERS
from wirebert.data.synthetic.wire import Codes, Numbers, Scene, around, attack_source, bursts, one_each


def scan(scene: Scene, count: int) -> pa.Table:
    """One source that probes like misconfigured hosts, but many hosts within a minute."""
    campaign, time_s = bursts(scene, count, mean_size=50, gap_s=0.8)
    source = attack_source(scene, campaign, inside=0.5)
    destination = scene.generator.integers(0, FIRST_OUTSIDE, count)
    return _turned(strays(scene, count), time_s, source, destination)


def brute_force(scene: Scene, count: int) -> pa.Table:
    """One source that logs in like scripts, but repeatedly at one host."""
    campaign, time_s = bursts(scene, count, mean_size=40, gap_s=4)
    source = attack_source(scene, campaign, inside=0.6)
    destination = NUM_CLIENTS + one_each(scene, campaign, np.arange(len(SERVERS)))
    return _turned(admin_scripts(scene, count), time_s, source, destination)


def beacon(scene: Scene, count: int) -> pa.Table:
    """An infected client on the web like other clients, but periodically at one host."""
    campaign, _ = bursts(scene, count, mean_size=40, gap_s=1)
    source = one_each(scene, campaign, scene.network.infected)
    destination = one_each(scene, campaign, scene.network.attackers)
    return _turned(web_browsing(scene, count), _steady(scene, campaign), source, destination)


def slow_exfiltration(scene: Scene, count: int) -> pa.Table:
    """An infected client that uploads files like people, but one after the other to one host."""
    campaign, time_s = bursts(scene, count, mean_size=20, gap_s=90)
    source = one_each(scene, campaign, scene.network.infected)
    destination = one_each(scene, campaign, scene.network.attackers)
    return _turned(uploads(scene, count), time_s, source, destination)


def _steady(scene: Scene, campaign: Codes) -> Numbers:
    """Periodic times for each campaign, with up to 10 % jitter."""
    generator, (start_s, stop_s) = scene.generator, scene.span_s
    sizes = np.bincount(campaign)
    index = np.arange(len(campaign)) - np.searchsorted(campaign, campaign)
    periods_s = np.minimum(120 * around(generator, len(sizes), 1.0, 0.5), (stop_s - start_s) / (sizes + 1))
    starts_s = start_s + generator.random(len(sizes)) * (stop_s - start_s - sizes * periods_s)
    off = generator.uniform(0, 0.1, len(campaign))
    return starts_s[campaign] + (index + off) * periods_s[campaign]


def _turned(flows: pa.Table, time_s: Numbers, source: Codes, destination: Codes) -> pa.Table:
    """The flows at other times, between other hosts."""
    changed = {"time_s": time_s, "source": source, "destination": destination}
    columns = {name: changed.get(name, flows.column(name)) for name in flows.column_names}
    return pa.table(columns, schema=flows.schema)


STEALTHY_ATTACKS: Mapping[Callable[[Scene, int], pa.Table], float] = {
    scan: 0.007,
    brute_force: 0.006,
    beacon: 0.012,
    slow_exfiltration: 0.005,
}
"""Attacks with their fraction of all flows; the label is the function's name."""
