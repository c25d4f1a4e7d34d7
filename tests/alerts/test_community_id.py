"""Against the published vectors, and the package of the specification's authors."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import communityid
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.alerts.community_id import community_ids, is_address

# Published with the specification: ends, ports (type and code of ICMP), protocol -> ID with seed 0.
PUBLISHED = (
    ("128.232.110.120", "66.35.250.204", 34855, 80, 6, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("66.35.250.204", "128.232.110.120", 80, 34855, 6, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    ("192.168.1.52", "8.8.8.8", 54585, 53, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("8.8.8.8", "192.168.1.52", 53, 54585, 17, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    ("192.168.0.89", "192.168.0.1", 8, 0, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("192.168.0.1", "192.168.0.89", 0, 8, 1, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 0, 58, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    ("192.168.170.8", "192.168.170.56", 7, 80, 132, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="),
)


def ids(rows: Sequence[tuple[Any, ...]], seed: int = 0) -> list[str | None]:
    """Of (source, destination, source port, destination port, protocol)."""
    src, dst, sport, dport, proto = (list(values) for values in zip(*rows, strict=True))
    ports = (pa.array(sport, pa.float64()), pa.array(dport, pa.float64()))
    columns = (pa.array(src, pa.string()), pa.array(dst, pa.string()))
    return community_ids(*columns, *ports, pa.array(proto, pa.string()), seed).to_pylist()


def by_reference(row: tuple[str, str, int, int, str], seed: int) -> str | None:
    src, dst, sport, dport, proto = row
    flow = communityid.FlowTuple(int(proto), src, dst, sport, dport)
    return communityid.CommunityID(seed=seed).calc(flow)


@pytest.mark.parametrize("row", PUBLISHED, ids=str)
def test_the_published_vectors_hold(row: tuple[Any, ...]):
    *ends, expected = row
    assert ids([(*ends[:4], str(ends[4]))]) == [expected]


short = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
long = st.integers(0, 2**128 - 1).map(lambda number: str(IPv6Address(number)))
ports = st.integers(0, 65_535) | st.integers(0, 20)
pairs = st.tuples(short, short) | st.tuples(long, long) | short.map(lambda one: (one, one))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(pairs, ports, ports, st.sampled_from((1, 6, 17, 47, 58, 132))), min_size=1), ports)
def test_ids_equal_those_of_the_reference(flows: list[tuple[Any, ...]], seed: int):
    rows = [
        (*ends, sport, dport, str(58 if proto == 1 and ":" in ends[0] else proto))
        for ends, sport, dport, proto in flows
    ]
    assert ids(rows, seed) == [by_reference(row, seed) for row in rows]


def test_a_flow_and_its_reverse_have_one_id():
    assert len(set(ids([("10.0.0.1", "10.0.0.2", 1, 2, "6"), ("10.0.0.2", "10.0.0.1", 2, 1, "6")]))) == 1


def test_protocols_by_name_and_by_number_are_the_same():
    assert len(set(ids([("::1", "::2", 128, 0, name) for name in ("58", "ipv6-icmp", "icmp", "ICMP6")]))) == 1
    assert len(set(ids([("10.0.0.1", "10.0.0.2", 1, 2, name) for name in ("tcp", "TCP", "6", "6.0")]))) == 1


def test_what_cannot_be_computed_is_null():
    whole = ("10.0.0.1", "10.0.0.2", 1, 2, "tcp")
    cases = (
        (0, None),
        (0, "host-7"),
        (0, "10.0.0.256"),
        (0, "010.0.0.1"),
        (1, "::1"),
        (2, None),
        (3, 70_000.0),
    )
    broken = [
        tuple(value if at == place else part for at, part in enumerate(whole)) for place, value in cases
    ]
    broken += [(*whole[:4], name) for name in (None, "http", "256")]
    assert ids(broken) == [None] * len(broken)


def test_a_protocol_without_ports_needs_none():
    ends = (pa.array(["10.0.0.1"]), pa.array(["10.0.0.2"]))
    expected = communityid.CommunityID().calc(communityid.FlowTuple(47, "10.0.0.1", "10.0.0.2"))
    assert community_ids(*ends, None, None, pa.array(["gre"])).to_pylist() == [expected]


def test_no_flows_have_no_ids():
    empty = pa.array([], pa.string())
    assert len(community_ids(empty, empty, None, None, empty)) == 0


def test_addresses_are_told_from_names():
    assert is_address(pa.array(["10.0.0.1", "::1", "host", None])).tolist() == [True, True, False, False]
