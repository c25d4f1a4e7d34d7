import ipaddress

import numpy as np
import pyarrow as pa
import pytest

from wirebert.encoding.categorical import ValueCounts
from wirebert.encoding.network import (
    FLAG_BITS,
    AddressEncoder,
    FlagsEncoder,
    PortEncoder,
    address_scope,
    read_flags,
)
from wirebert.encoding.numeric import NumberCounts


def fit_ports(ports: list[float]) -> PortEncoder:
    counts = NumberCounts()
    counts.add(np.array(ports, np.float64), np.ones(len(ports), np.int64))
    return PortEncoder.fit("dst_port", counts)


def fit_flags(values: list[str | None]) -> FlagsEncoder:
    counts = ValueCounts()
    counts.add(values, np.ones(len(values), np.int64))
    return FlagsEncoder.fit("flags", counts)


def port_texts(encoder: PortEncoder, ports: list[float | None]) -> list[str]:
    tokens = encoder.encode(pa.array(ports, pa.float64()))[:, 0].tolist()
    return [encoder.slots[0].texts[token] for token in tokens]


def test_a_port_is_its_service_or_its_range():
    encoder = fit_ports([80, 80, 53])
    asked: list[float | None] = [80, 53, 0, 1023, 1024, 49151, 49152, 65535]
    named = ["http", "dns", "well_known", "well_known", "registered", "registered", "ephemeral", "ephemeral"]
    assert port_texts(encoder, asked) == named
    assert encoder.slots[0].texts[encoder.default] == "http"


def test_a_service_that_training_lacks_is_its_range():
    assert port_texts(fit_ports([80]), [443, 3389]) == ["well_known", "registered"]


def test_what_is_no_port_is_unseen():
    assert port_texts(fit_ports([80]), [-1, 65536, 80.5, float("inf"), 1e300, None]) == ["<unseen>"] * 5 + [
        "<missing>"
    ]


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("10.1.2.3", "private"),
        ("192.168.0.1", "private"),
        ("8.8.8.8", "public"),
        ("224.0.0.251", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("127.0.0.1", "loopback"),
        ("169.254.7.7", "link_local"),
        ("0.0.0.0", "unspecified"),
        ("240.0.0.1", "reserved"),
        ("::1", "loopback"),
        ("::", "unspecified"),
        ("fe80::1%eth0", "link_local"),
        ("ff02::fb", "multicast"),
        ("fd00::1", "private"),
        ("2606:4700::1111", "public"),
        ("::ffff:10.0.0.1", "private"),
        ("00:1a:2b:3c:4d:5e", "mac"),
        ("01-00-5E-00-00-FB", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "broadcast"),
        ("host.example", None),
        ("", None),
        ("10.0.0.256", None),
    ],
)
def test_an_address_is_its_scope(address: str, scope: str | None):
    assert address_scope(address) == scope


def test_known_networks_make_addresses_inside_or_outside():
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")]
    addresses = ["10.9.9.9", "2001:db8::5", "192.168.1.1", "8.8.8.8", "224.0.0.1"]
    assert [address_scope(address, networks) for address in addresses] == [
        "inside",
        "inside",
        "outside",
        "outside",
        "multicast",
    ]


@pytest.mark.parametrize(
    "networks", [(), ("10.1.0.0/16", "10.1.2.0/24", "0.0.0.0/9", "203.0.113.7/32", "fe80::/10")]
)
def test_a_column_of_addresses_has_the_scope_of_each_at_every_border(networks: tuple[str, ...]):
    """The column is looked up in intervals, which must have all borders that one address has."""
    counts = ValueCounts()
    counts.add(["10.0.0.1"], np.ones(1, np.int64))
    encoder = AddressEncoder.fit("src", counts, networks)
    known = [
        *ipaddress.IPv4Address._constants._private_networks,  # pyright: ignore
        *getattr(ipaddress.IPv4Address._constants, "_private_networks_exceptions", []),  # pyright: ignore
        *(
            ipaddress.ip_network(one)
            for one in ("127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "100.64.0.0/10")
        ),
        *(ipaddress.ip_network(one) for one in networks if ":" not in one),
    ]
    ends = {int(end) for one in known for end in (one.network_address, one.broadcast_address)}
    near = sorted({end + by for end in ends for by in (-1, 0, 1) if 0 <= end + by < 1 << 32})
    drawn = np.random.default_rng(0).integers(0, 1 << 32, 3000).tolist()
    texts = [str(ipaddress.IPv4Address(number)) for number in [*near, *drawn]]
    texts += [
        "::ffff:10.1.2.3",
        "fe80::1",
        "2001:db8::5",
        "01.2.3.4",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.4\n",
    ]
    texts += [
        " 1.2.3.4",
        "1.2.3.4 ",
        "\u0661.2.3.4",
        "",
        "localhost",
        "ff:ff:ff:ff:ff:ff",
        "00:1b:44:11:3a:b7",
    ]
    inside = [ipaddress.ip_network(network) for network in networks]
    tokens = encoder.encode(pa.array([*texts, None]))[:, 0].tolist()
    found = [encoder.slots[0].texts[token] for token in tokens]
    assert found == [*(address_scope(text, inside) or "<unseen>" for text in texts), "<missing>"]


def test_an_address_column_keeps_no_identity():
    counts = ValueCounts()
    counts.add(["10.0.0.1", "10.0.0.2", "8.8.8.8", None], np.ones(4, np.int64))
    encoder = AddressEncoder.fit("src", counts, ())
    tokens = encoder.encode(pa.array(["10.0.0.1", "172.16.9.9", "1.1.1.1", "garbage", None]))[:, 0].tolist()
    assert [encoder.slots[0].texts[token] for token in tokens] == [
        "private",
        "private",
        "public",
        "<unseen>",
        "<missing>",
    ]
    assert encoder.slots[0].texts[encoder.default] == "private"
    assert encoder.encode(pa.nulls(2))[:, 0].tolist() == [0, 0]
    for kind in (pa.large_string(), pa.string_view()):
        assert encoder.encode(pa.array(["1.1.1.1", "garbage", None], kind))[:, 0].tolist() == tokens[2:]


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("S", 2),
        ("SAPF", 27),
        (".AP.SF", 27),
        ("...AP.SF", 27),
        ("......", 0),
        ("SYN|ACK", 18),
        ("syn,ack", 18),
        ("0x1b", 27),
        ("27", 27),
        ("27.0", 27),
        ("0", 0),
        ("CEUAPRSF", 255),
        ("", None),
        ("hello", None),
        ("99999", None),
    ],
)
def test_flags_are_read_in_every_usual_spelling(text: str, bits: int | None):
    assert read_flags(text) == bits


def test_each_flag_is_a_slot_of_its_own():
    encoder = fit_flags(["SA", "SA", "F"])
    assert [slot.name for slot in encoder.slots] == [f"flags.{bit}" for bit in FLAG_BITS]
    tokens = encoder.encode(pa.array(["SF", "rubbish", None]))
    texts = [
        [slot.texts[token] for slot, token in zip(encoder.slots, row, strict=True)] for row in tokens.tolist()
    ]
    assert texts[0] == ["1", "1", "0", "0", "0", "0", "0", "0"]
    assert texts[1:] == [["<unseen>"] * 8, ["<missing>"] * 8]
    assert [slot.texts[slot.default] for slot in encoder.slots] == ["0", "1", "0", "0", "1", "0", "0", "0"]


def test_two_digits_are_hexadecimal_where_the_column_shows_it():
    assert fit_flags(["18", "1b"]).encode(pa.array(["18"]))[0].tolist() == [3, 3, 3, 4, 4, 3, 3, 3]  # PSH ACK
    assert fit_flags(["18", "27"]).encode(pa.array(["18"]))[0].tolist() == [3, 4, 3, 3, 4, 3, 3, 3]  # SYN ACK
