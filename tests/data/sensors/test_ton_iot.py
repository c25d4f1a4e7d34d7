from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.dialect import read_head
from wirebert.data.sensors.ton_iot import TonIotFlows, open_ton_iot


@pytest.fixture(scope="module")
def table(data_dir: Path) -> pa.Table:
    path = data_dir / "ton-iot" / "train_test_network.csv.gz"
    head, compression = read_head(path)
    source = open_ton_iot(path, head, compression, path.name)
    assert isinstance(source, TonIotFlows)
    assert source.schema.label == "type"
    return pa.concat_tables(source.read(8 << 20)).unify_dictionaries()


def test_the_table_is_read_whole(table: pa.Table):
    assert table.num_rows == 211_043
    assert len(table["type"].unique()) == 10


def test_bytes_of_packets_and_of_content_change_their_names(table: pa.Table):
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["src_payload_bytes"], first["src_ip_bytes"]) == ("101568", "108064")
    assert (first["protocol"], first["conn_state"], first["src_packets"]) == ("tcp", "OTH", "108")


def test_zero_where_there_was_no_dns_is_missing(table: pa.Table):
    rows = table.slice(0, 50_000).select(["dns_qclass", "dns_rcode", "http_status_code"]).to_pylist()
    assert all(row["dns_rcode"] is None for row in rows if row["dns_qclass"] is None)
    assert not any(row["dns_qclass"] == "0" or row["http_status_code"] == "0" for row in rows)


def test_services_and_truth_values_are_zeeks(table: pa.Table):
    assert "gssapi;smb" in table["service"].unique().to_pylist()
    assert set(table["dns_AA"].unique().to_pylist()) == {"-", "0", "1"}


def test_other_files_are_no_ton_iot(tmp_path: Path):
    assert open_ton_iot(tmp_path / "f", b"src_ip,dst_ip,proto\n", "none", "f") is None
