# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log


@pytest.fixture(scope="module")
def flows() -> pa.Table:
    return pa.concat_tables(generate(3_000, seed=4)).combine_chunks()


@pytest.fixture(scope="module")
def log(flows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("logs") / "conn.log"
    write_conn_log(path, [flows], seed=4)
    return path


@pytest.fixture(scope="module")
def read(log: Path) -> pa.Table:
    """As any Zeek log is read."""
    return pa.concat_tables(open_flows(log).blocks()).combine_chunks()


def test_it_is_a_zeek_log_with_labels_and_context(log: Path):
    opened = open_flows(log)
    assert opened.described.startswith("Zeek conn log")
    assert opened.require_label() == "label"
    assert opened.schema.context is not None


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(name, name) for name in ("uid", "src_ip", "dst_ip", "protocol", "service", "conn_state", "label")]
    + [("src_port", "src_port"), ("dst_port", "dst_port"), ("src_packets", "src_packets")],
)
def test_what_zeek_says_in_the_same_words_is_the_same(
    ours: str, theirs: str, flows: pa.Table, read: pa.Table
):
    expected = flows[ours].to_pylist()
    if ours == "service":
        expected = [value or None for value in expected]
    assert read[theirs].to_pylist() == expected


def test_times_are_the_same_to_the_microsecond(flows: pa.Table, read: pa.Table):
    stamps = pc.strptime(pc.utf8_slice_codeunits(flows["ts"], 0, 19), "%Y-%m-%dT%H:%M:%S", "s")
    whole = [int(float(text)) for text in read["ts"].to_pylist()]
    assert whole == stamps.cast(pa.int64()).to_pylist()


def test_ip_bytes_are_content_and_headers(read: pa.Table):
    known = read.filter(pc.is_valid(read["src_payload_bytes"]))
    firsts: set[int] = set()
    for row in known.select(["protocol", "src_ip_bytes", "src_payload_bytes", "src_packets"]).to_pylist():
        headers = row["src_ip_bytes"] - row["src_payload_bytes"]
        if row["protocol"] == "tcp":  # 40 bytes, and options by the system of the host
            assert 40 * row["src_packets"] <= headers <= 8 + 52 * row["src_packets"]
            firsts |= {headers} if row["src_packets"] == 1 else set()
        else:
            assert headers == 28 * row["src_packets"]
    assert firsts >= {40, 44, 60}


def test_a_single_packet_has_neither_duration_nor_content(read: pa.Table):
    packets = pc.add(read["src_packets"], read["dst_packets"])
    single = pc.equal(packets, 1)
    assert pc.any(single).as_py()
    for name in ("duration_s", "src_payload_bytes", "dst_payload_bytes"):
        assert pc.is_null(read[name]).to_pylist() == single.to_pylist()


def test_the_same_seed_writes_the_same_log(flows: pa.Table, log: Path, tmp_path: Path):
    write_conn_log(tmp_path / "again.log", [flows], seed=4)
    assert (tmp_path / "again.log").read_bytes() == log.read_bytes()
