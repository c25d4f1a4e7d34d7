"""What is taken from which column, and what is done where there is none."""

# The pyarrow stubs know no dictionary of columns as an argument.
# pyright: reportArgumentType=false, reportCallIssue=false

import pyarrow as pa
import pytest

from wirebert.data.context.endpoints import read_endpoints

ENDS = {"ts": ["1", "2.5", None], "src_ip": ["a", "b", "a"], "dst_ip": ["x", "x", "b"]}


def test_equal_hosts_have_equal_keys_at_either_end():
    is_usable, endpoints = read_endpoints(pa.table(ENDS))
    assert is_usable.all()
    assert endpoints.source[0] == endpoints.source[2] != endpoints.source[1] == endpoints.destination[2]
    assert endpoints.time_s[:2].tolist() == [1.0, 2.5]


def test_dictionaries_read_like_plain_columns():
    table = pa.table({**ENDS, "dst_port": [80.0, None, 80.0], "conn_state": ["SF", "S0", None]})
    plain = read_endpoints(table)[1]
    encoded = read_endpoints(
        pa.table({name: table.column(name).dictionary_encode() for name in table.column_names})
    )[1]
    for one, other in zip(plain, encoded, strict=True):
        assert one.tobytes() == other.tobytes()


def test_flows_without_an_end_are_not_usable():
    is_usable, _ = read_endpoints(pa.table({**ENDS, "dst_ip": ["x", None, "b"]}))
    assert is_usable.tolist() == [True, False, True]


def test_a_missing_port_is_a_port_of_its_own():
    port = read_endpoints(pa.table({**ENDS, "dst_port": [0.0, None, None]}))[1].port
    assert port[1] == port[2] != port[0]


def test_without_a_state_flows_are_failed_whose_destination_sent_no_packet():
    table = pa.table({**ENDS, "dst_packets": [0.0, 5.0, None]})
    assert read_endpoints(table)[1].is_failed.tolist() == [True, False, False]
    table = table.append_column("conn_state", pa.array(["SF", "REJ", None]))
    assert read_endpoints(table)[1].is_failed.tolist() == [False, True, False]


@pytest.mark.parametrize("state", ["S0", "REJ", "RSTOS0", "SH"])
def test_failed_is_what_was_refused_or_not_answered(state: str):
    table = pa.table({**ENDS, "conn_state": [state, "RSTO", "S1"]})
    assert read_endpoints(table)[1].is_failed.tolist() == [True, False, False]


@pytest.mark.parametrize("side", ["src", "dst"])
def test_bytes_are_those_of_packets_before_those_of_content_and_whole(side: str):
    columns = {
        f"{side}_bytes": [1.0, 2.0, 3.0],
        f"{side}_payload_bytes": [7.0, 1e300, None],
        f"{side}_ip_bytes": [50.9, None, None],
    }
    endpoints = read_endpoints(pa.table({**ENDS, **columns}))[1]
    ours, others = endpoints.sent_bytes.tolist(), endpoints.received_bytes.tolist()
    if side == "dst":
        ours, others = others, ours
    assert ours == [50, 1 << 40, 3]
    assert others == [0, 0, 0]
