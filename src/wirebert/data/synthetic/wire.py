"""Generated connections on the wire: from hosts, times and sizes to the columns that a sensor writes."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.synthetic.network import (
    FIRST_OUTSIDE,
    NUM_CLIENTS,
    NUM_OUTSIDE,
    Network,
    Periodic,
    busy_time_s,
    server,
)
from wirebert.shapes import Bool, Float64, Int64

# Zeek's connection states, and the TCP flags of each.
FLAGS = {
    "SF": "SAPF",
    "S0": "S",
    "REJ": "SR",
    "RSTO": "SAPR",
    "RSTR": "SAPFR",
    "S1": "SAP",
    "OTH": "AP",
    "SH": "SF",
    "S2": "SAPF",
    "S3": "SAPF",
    "RSTOS0": "SR",
    "RSTRH": "SAR",
    "SHR": "SAF",
}
_STATES = tuple(FLAGS)
_S0, _REJ = _STATES.index("S0"), _STATES.index("REJ")
GOOD: Mapping[str, float] = {"SF": 0.925, "RSTO": 0.03, "RSTR": 0.02, "S1": 0.01, "OTH": 0.005, "S0": 0.01}

PROBED_PORTS = np.array([22, 23, 80, 443, 445, 1433, 3306, 3389, 5900, 8080])
"""Ports that scanners and misconfigured hosts probe."""

Numbers = Float64[np.ndarray, " flows"]
Codes = Int64[np.ndarray, " flows"]


@dataclass(frozen=True)
class Scene:
    """The span of time that one block of flows covers."""

    network: Network
    generator: np.random.Generator
    first_day: float
    """Start, in days of people's work (see `busy_time_s`)."""
    last_day: float
    """End, likewise."""

    @property
    def span_s(self) -> tuple[float, float]:
        """Start and end in seconds since the first midnight."""
        start, stop = busy_time_s(np.array([self.first_day, self.last_day])).tolist()
        return start, stop


def connections(
    scene: Scene,
    time_s: Numbers,
    source: Codes,
    destination: Codes,
    port: Codes,
    *,
    service: pa.Array,
    duration_s: Numbers,
    sent: Numbers,
    received: Numbers,
    states: Mapping[str, float] = GOOD,
    uri: pa.Array | None = None,
    user_agent: pa.Array | None = None,
) -> pa.Table:
    """TCP connections; without an answer there is no service, no content and no request."""
    generator, count = scene.generator, len(time_s)
    state = generator.choice([_STATES.index(name) for name in states], count, p=list(states.values()))
    is_silent = (state == _S0) | (state == _REJ)
    tries = np.where(state == _S0, generator.integers(1, 4, count), 1)
    # A silent connection lasts as long as its sender tries: 1 s to the second packet, 2 s more to the third.
    waited = np.where(tries > 1, 2.0 ** (tries - 1) - 1, np.nan)
    has_answer = ~is_silent
    sent_packets = np.where(has_answer, 3 + np.ceil(sent / 1_300) + np.floor(received / 2_900), tries)
    received_packets = np.where(
        has_answer, 3 + np.ceil(received / 1_300) + np.floor(sent / 2_900), state == _REJ
    )
    columns = {
        "protocol": same("tcp", count),
        "service": pc.if_else(pa.array(has_answer), service, pa.scalar(None, pa.string())),
        "conn_state": pa.array(_STATES).take(pa.array(state)),
        "tcp_flags": pa.array([FLAGS[name] for name in _STATES]).take(pa.array(state)),
        "duration_s": np.where(has_answer, duration_s, waited),
        "src_payload_bytes": np.where(has_answer, np.round(sent), np.where(tries > 1, 0, np.nan)),
        "dst_payload_bytes": np.where(has_answer, np.round(received), np.where(tries > 1, 0, np.nan)),
        "src_packets": sent_packets.astype(np.int64),
        "dst_packets": received_packets.astype(np.int64),
        "uri": _values_where(uri, has_answer),
        "user_agent": _values_where(user_agent, has_answer),
    }
    return _table(scene, time_s, source, destination, port, columns)


def datagrams(
    scene: Scene,
    time_s: Numbers,
    source: Codes,
    destination: Codes,
    port: Codes,
    service: pa.Array,
    sent: Numbers,
    received: Numbers,
    protocol: str = "udp",
    answered: float | int = 0.97,
) -> pa.Table:
    """UDP or ICMP exchanges, a fraction of them answered."""
    generator, count = scene.generator, len(time_s)
    is_answered = generator.random(count) < answered
    columns = {
        "protocol": same(protocol, count),
        "service": service,
        "conn_state": texts(np.where(is_answered, "SF", "S0")),
        "tcp_flags": pa.nulls(count, pa.string()),
        "duration_s": np.where(is_answered, around(generator, count, 0.02, 1.1), np.nan),
        "src_payload_bytes": np.round(sent),
        "dst_payload_bytes": np.where(is_answered, np.round(received), 0.0),
        "src_packets": np.ceil(sent / 130).astype(np.int64),
        "dst_packets": np.where(is_answered, np.ceil(received / 1_300), 0).astype(np.int64),
        "uri": pa.nulls(count, pa.string()),
        "user_agent": pa.nulls(count, pa.string()),
    }
    return _table(scene, time_s, source, destination, port, columns)


def knocks(
    scene: Scene, time_s: Numbers, source: Codes, destination: Codes, port: Codes, states: Mapping[str, float]
) -> pa.Table:
    """TCP probes: no content except for a banner."""
    generator, count = scene.generator, len(time_s)
    return connections(
        scene,
        time_s,
        source,
        destination,
        port,
        service=pa.nulls(count, pa.string()),
        duration_s=around(generator, count, 0.05, 1.0),
        sent=np.zeros(count),
        received=np.where(generator.random(count) < 0.2, around(generator, count, 60, 0.5), 0.0),
        states=states,
    )


def calls(
    scene: Scene,
    pairs: Periodic,
    *,
    jitter: float | int,
    size_spread: float | int,
    received: float | int,
    received_spread: float | int,
) -> pa.Table:
    """Periodic connections of each pair of hosts; `jitter` is a fraction of the period."""
    generator, (start_s, stop_s) = scene.generator, scene.span_s
    first = np.ceil((start_s - pairs.phase_s) / pairs.period_s)
    counts = (np.ceil((stop_s - pairs.phase_s) / pairs.period_s) - first).astype(np.int64)
    pair = np.repeat(np.arange(len(counts)), counts)
    beat = first[pair] + np.arange(len(pair)) - (np.cumsum(counts) - counts)[pair]
    off = generator.uniform(-jitter, jitter, len(pair))
    time_s = np.clip(pairs.phase_s[pair] + (beat + off) * pairs.period_s[pair], start_s, stop_s - 1e-3)
    is_encrypted = pair % 4 != 0
    requests = pa.array([f"/api/v1/status?id={number}" for number in range(7, 60)])
    return connections(
        scene,
        time_s,
        pairs.source[pair],
        pairs.destination[pair],
        np.where(is_encrypted, 443, 80),
        service=texts(np.where(is_encrypted, "ssl", "http")),
        duration_s=around(generator, len(pair), 0.3, 0.5),
        sent=pairs.size_bytes[pair] * around(generator, len(pair), 1.0, size_spread),
        received=around(generator, len(pair), received, received_spread),
        uri=scattered(requests.take(pa.array(pair[~is_encrypted])), ~is_encrypted),
        user_agent=texts(np.where(is_encrypted, "", "Go-http-client/1.1")),
    )


def _table(
    scene: Scene,
    time_s: Numbers,
    source: Codes,
    destination: Codes,
    port: Codes,
    columns: Mapping[str, pa.Array | Numbers | Codes],
) -> pa.Table:
    """The flows of one activity in sensor columns; hosts are numbers, times are seconds, not sorted."""
    client_port = scene.generator.integers(32_768, 61_000, len(time_s))
    ends = {
        "time_s": time_s,
        "source": source,
        "src_port": client_port,
        "destination": destination,
        "dst_port": port,
    }
    return pa.table(
        {name: pa.array(values, from_pandas=True) for name, values in {**ends, **columns}.items()}
    )


def web_requests(scene: Scene, time_s: Numbers, source: Codes, uris: pa.Array, agents: pa.Array) -> pa.Table:
    """Plain HTTP between the gateway and the web servers."""
    generator, count = scene.generator, len(time_s)
    return connections(
        scene,
        time_s,
        source,
        np.where(generator.random(count) < 0.6, server("web"), server("shop")),
        choose(generator, count, {80: 0.9, 8080: 0.1}),
        service=same("http", count),
        duration_s=around(generator, count, 0.4, 1.1),
        sent=around(generator, count, 420, 0.35) + pc.binary_length(uris).to_numpy(zero_copy_only=False),
        received=around(generator, count, 9_000, 1.4),
        uri=uris,
        user_agent=agents,
    )


# When


def by_day(scene: Scene, count: int) -> Numbers:
    """Times by people's activity."""
    return busy_time_s(scene.generator.uniform(scene.first_day, scene.last_day, count))


def evenly(scene: Scene, count: int) -> Numbers:
    """Uniform times, day and night."""
    return scene.generator.uniform(*scene.span_s, count)


def bursts(scene: Scene, count: int, *, mean_size: float | int, gap_s: float | int) -> tuple[Codes, Numbers]:
    """The burst of each flow, and its time; bursts differ in size and pace."""
    generator, (start_s, stop_s) = scene.generator, scene.span_s
    num_bursts = max(1, round(count / mean_size))
    weights = generator.exponential(1.0, num_bursts) + 0.2
    burst = np.sort(generator.choice(num_bursts, count, p=weights / weights.sum()))
    index = np.arange(count) - np.searchsorted(burst, np.arange(num_bursts))[burst]
    sizes = np.bincount(burst, minlength=num_bursts)
    gaps_s = np.minimum(gap_s * around(generator, num_bursts, 1.0, 0.5), (stop_s - start_s) / (sizes + 2))
    starts_s = start_s + generator.random(num_bursts) * (stop_s - start_s - (sizes + 1) * gaps_s)
    return burst, starts_s[burst] + (index + generator.random(count)) * gaps_s[burst]


# Who


def clients(scene: Scene, count: int) -> Codes:
    """Inside clients, including infected ones."""
    return scene.generator.integers(0, NUM_CLIENTS, count)


def outside(scene: Scene, count: int) -> Codes:
    """Any outside hosts."""
    return FIRST_OUTSIDE + scene.generator.integers(0, NUM_OUTSIDE, count)


def popular_outside(scene: Scene, count: int) -> Codes:
    """Outside hosts, some of them much more often than others."""
    return FIRST_OUTSIDE + (scene.generator.random(count) ** 4 * NUM_OUTSIDE).astype(np.int64)


def visitors(scene: Scene, count: int, *, attackers: float | int) -> Codes:
    """Outside hosts, a fraction of which attack at other times."""
    attacking = scene.generator.choice(scene.network.attackers, count)
    return np.where(scene.generator.random(count) < attackers, attacking, outside(scene, count))


def attack_source(scene: Scene, campaign: Codes, *, inside: float | int) -> Codes:
    """One attacker per campaign: outside, or in a fraction of campaigns an infected client."""
    infected = one_each(scene, campaign, scene.network.infected)
    return np.where(
        share_of(scene, campaign, inside), infected, one_each(scene, campaign, scene.network.attackers)
    )


def one_each(scene: Scene, group: Codes, pool: Int64[np.ndarray, " pool"]) -> Codes:
    """One member of the pool per group, for each flow of the group."""
    return scene.generator.choice(pool, int(group.max(initial=0)) + 1)[group]


def share_of(scene: Scene, group: Codes, fraction: float | int) -> Bool[np.ndarray, " flows"]:
    """True for all flows of a fraction of the groups."""
    return (scene.generator.random(int(group.max(initial=0)) + 1) < fraction)[group]


# What


def any_port(generator: np.random.Generator, count: int) -> Codes:
    """Ports up to 20,000, low ones more often."""
    return 1 + (generator.random(count) ** 2 * 20_000).astype(np.int64)


def around(generator: np.random.Generator, count: int, middle: float | int, spread: float | int) -> Numbers:
    """Log-normal numbers: half of them below `middle`, two thirds within a factor of e ** spread."""
    return middle * np.exp(spread * generator.standard_normal(count))


def choose(generator: np.random.Generator, count: int, chances: Mapping[int, float]) -> Codes:
    """Numbers by their probabilities, which sum to one."""
    return generator.choice(np.array(list(chances)), count, p=list(chances.values()))


def same(text: str | None, count: int) -> pa.Array:
    """One text, or missing, everywhere."""
    return pa.repeat(pa.scalar(text, pa.string()), count)


def texts(values: np.ndarray) -> pa.Array:
    """Texts from a NumPy array; empty means missing."""
    array = pa.array(values, pa.string())
    return pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)


def scattered(values: pa.Array, chosen: Bool[np.ndarray, " flows"]) -> pa.Array:
    """The values, in order, where `chosen`; missing elsewhere."""
    return values.take(pa.array(np.cumsum(chosen) - 1, mask=~chosen))


def _values_where(values: pa.Array | None, is_present: Bool[np.ndarray, " flows"]) -> pa.Array:
    nothing = pa.nulls(len(is_present), pa.string())
    return nothing if values is None else pc.if_else(pa.array(is_present), values, nothing)
