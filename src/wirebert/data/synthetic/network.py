"""The generated network: its hosts, groups and clock."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wirebert.shapes import Float64, Int64

DAY_S = 86_400
NUM_CLIENTS = 160
NUM_OUTSIDE = 6_000
NUM_ATTACKERS = 60
NUM_INFECTED = 6

SERVERS = (
    "web",
    "shop",
    "dns",
    "mail",
    "bastion",
    "git",
    "backup",
    "database",
    "files",
    "monitor",
    "print",
    "legacy",
)
"""Servers by role; addresses have the order of this list, after the clients."""

# Activity of people in each hour of the day, from midnight; machines are equally active all day.
_BUSY_BY_HOUR = np.array(
    [2, 1.5, 1, 1, 1, 1.5, 3, 6, 10, 12, 12, 11, 8, 10, 12, 12, 11, 9, 6, 5, 5, 4, 3, 2.5]
)
_BUSY_UNTIL = np.concatenate([[0.0], np.cumsum(_BUSY_BY_HOUR) / _BUSY_BY_HOUR.sum()])


class Periodic(NamedTuple):
    """Pairs of hosts with periodic connections, one entry each."""

    source: Int64[np.ndarray, " pairs"]
    destination: Int64[np.ndarray, " pairs"]
    period_s: Float64[np.ndarray, " pairs"]
    phase_s: Float64[np.ndarray, " pairs"]
    size_bytes: Float64[np.ndarray, " pairs"]


@dataclass(frozen=True)
class Network:
    """Hosts as numbers: clients first, then servers, the outside, and the addresses of groups."""

    seed: int

    @cached_property
    def addresses(self) -> list[str]:
        """Address of each host; two outside hosts may share one, as behind a gateway."""
        generator = np.random.default_rng([self.seed, 1])
        clients = [f"10.20.{1 + host // 50}.{20 + host % 50}" for host in range(NUM_CLIENTS)]
        servers = [f"10.20.100.{10 + index}" for index in range(len(SERVERS))]
        first = generator.choice(
            [5, 18, 23, 34, 45, 52, 62, 77, 80, 91, 104, 142, 151, 178, 185, 193, 203], NUM_OUTSIDE
        )
        rest = generator.integers(1, 255, (NUM_OUTSIDE, 3))
        outside = [f"{a}.{b}.{c}.{d}" for a, (b, c, d) in zip(first.tolist(), rest.tolist(), strict=True)]
        return [*clients, *servers, *outside, *(address for address, _ in GROUPS)]

    @cached_property
    def infected(self) -> Int64[np.ndarray, " hosts"]:
        """Clients under an attacker's control; they still act as clients too."""
        return np.random.default_rng([self.seed, 2]).permutation(NUM_CLIENTS)[:NUM_INFECTED]

    @cached_property
    def attackers(self) -> Int64[np.ndarray, " hosts"]:
        """Outside hosts that attack, and also visit the web server."""
        return FIRST_OUTSIDE + np.random.default_rng([self.seed, 3]).permutation(NUM_OUTSIDE)[:NUM_ATTACKERS]

    @cached_property
    def beacons(self) -> Periodic:
        """Infected clients and their command-and-control servers."""
        generator = np.random.default_rng([self.seed, 4])
        return Periodic(
            self.infected[:5],
            self.attackers[:5],
            generator.uniform(900, 2_200, 5),
            generator.uniform(0, 900, 5),
            generator.uniform(250, 900, 5),
        )

    @cached_property
    def updaters(self) -> Periodic:
        """Clients that poll for updates or send telemetry: as periodic as beacons, but benign."""
        generator = np.random.default_rng([self.seed, 5])
        return Periodic(
            generator.integers(0, NUM_CLIENTS, 12),
            FIRST_OUTSIDE + generator.integers(0, NUM_OUTSIDE, 12),
            generator.uniform(1_200, 3_600, 12),
            generator.uniform(0, 1_200, 12),
            generator.uniform(300, 1_600, 12),
        )

    @cached_property
    def health_checks(self) -> Periodic:
        """The monitor, which polls every server."""
        generator = np.random.default_rng([self.seed, 6])
        return Periodic(
            np.full(len(SERVERS), server("monitor")),
            NUM_CLIENTS + np.arange(len(SERVERS)),
            np.full(len(SERVERS), 1_200.0),
            generator.uniform(0, 1_200, len(SERVERS)),
            generator.uniform(150, 500, len(SERVERS)),
        )


FIRST_OUTSIDE = NUM_CLIENTS + len(SERVERS)
FIRST_GROUP = FIRST_OUTSIDE + NUM_OUTSIDE
GROUPS = (
    ("224.0.0.251", 5353),
    ("224.0.0.252", 5355),
    ("239.255.255.250", 1900),
    ("10.20.255.255", 137),
    ("255.255.255.255", 67),
)
"""Multicast and broadcast addresses with their ports; they follow the outside hosts."""


def server(role: str) -> int:
    """The host with a role."""
    return NUM_CLIENTS + SERVERS.index(role)


def busy_time_s(days: Float64[np.ndarray, " flows"]) -> Float64[np.ndarray, " flows"]:
    """Seconds since the first midnight by which people have done the work of `days` days.

    Equal steps of `days` are short by day and long by night.
    """
    whole = np.floor(days)
    hours = np.interp(days - whole, _BUSY_UNTIL, np.arange(25.0))
    return whole * DAY_S + hours * 3_600
