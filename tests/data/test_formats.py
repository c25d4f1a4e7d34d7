from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.formats import flow_files
from wirebert.data.schema.library import known_schemas
from wirebert.data.schema.schema import ColumnKind
from wirebert.encoding.tokenizer import FlowTokenizer

EVE = (
    '{"timestamp":"2021-06-06T15:57:37.2+0200","flow_id":1,"event_type":"flow","src_ip":"10.0.0.1","src_port":9,'
    '"dest_ip":"10.0.0.2","dest_port":53,"proto":"UDP","flow":{"pkts_toserver":1,"pkts_toclient":0,"bytes_toserver":60,'
    '"bytes_toclient":0,"start":"2021-06-06T15:57:37.2+0200","end":"2021-06-06T15:57:37.2+0200"}}\n'
)
ARGUS = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,SrcPkts,Label\n"
    "2019/04/04 16:23:00.355768,1.5,tcp,10.0.0.1,4800,->,10.0.0.2,443,SPA_SRPA,0,,"
    "3,300,200,2,flow=Background\n"
)


def rows_of(flows: Flows) -> pa.Table:
    """All rows, whether a column came as a dictionary or not."""
    rows = [row for table in flows.blocks() for row in table.to_pylist()]
    return pa.Table.from_pylist(rows)


def test_a_sensor_log_needs_no_option(tmp_path: Path):
    (tmp_path / "eve.json").write_text(EVE)
    flows = open_flows(tmp_path / "eve.json")
    assert flows.dialect.describe() == "suricata"
    assert (flows.schema.name, flows.schema.label) == ("suricata", None)
    assert rows_of(flows)["src_ip_bytes"].to_pylist() == [46.0]


def test_logs_of_two_sensors_are_one_table(tmp_path: Path):
    (tmp_path / "a.binetflow").write_text(ARGUS)
    (tmp_path / "b.json").write_text(EVE)
    flows = open_flows(tmp_path)
    assert flows.schema.name == "canonical"
    rows = rows_of(flows)
    assert rows["protocol"].to_pylist() == ["tcp", "udp"]
    assert rows["label"].to_pylist() == ["flow=Background", None]
    assert rows["num_alerts"].to_pylist() == [None, 0.0]
    assert not {"sTos", "dTos"} & set(rows.column_names)


def test_a_schema_of_the_files_own_names_reads_it_as_any_table(tmp_path: Path):
    (tmp_path / "a.binetflow").write_text(ARGUS)
    (tmp_path / "own.toml").write_text(
        'name = "own"\n[[columns]]\nname = "TotBytes"\nkind = "count"\n'
        '[[columns]]\nname = "Label"\nkind = "label"\n'
    )
    flows = open_flows(tmp_path / "a.binetflow", DataConfig(schema=str(tmp_path / "own.toml")))
    assert flows.dialect.format == "delimited"
    assert rows_of(flows).to_pylist() == [{"TotBytes": 300.0, "Label": "flow=Background"}]


def test_a_named_delimiter_reads_a_sensor_file_as_any_table(tmp_path: Path):
    (tmp_path / "a.binetflow").write_text(ARGUS + ARGUS.splitlines()[1] + "\n")
    flows = open_flows(tmp_path / "a.binetflow", DataConfig(delimiter=","))
    assert "TotBytes" in flows.schema.names


def test_zeek_logs_that_are_joined_are_no_flows_of_their_own():
    paths = [Path(name) for name in ("a/conn.log.gz", "a/http.log.gz", "b/http.log", "b/http_params.csv")]
    assert flow_files(paths) == [paths[0], paths[2], paths[3]]


def test_the_fingerprint_covers_the_logs_that_are_joined(data_dir: Path):
    flows = open_flows(data_dir / "sensors" / "zeek-tsv")
    assert sorted(path.name for path in flows.files) == ["conn.log", "dns.log", "ssl.log"]


def test_all_sensors_of_the_shared_data_are_one_table(data_dir: Path):
    rows = 0
    for folder, num_rows in [("sensors", 14_535), ("iot-23", 4_878)]:
        # Under a given schema, since the labels of several sensors are not those of one data set.
        flows = open_flows(data_dir / folder, schema=open_flows(data_dir / folder).schema)
        for table in flows.blocks():
            assert table.column_names == list(flows.schema.names)
            rows += table.num_rows
        assert rows == num_rows
        rows = 0


@pytest.mark.parametrize(
    "log", ["sensors/suricata", "sensors/netflow", "sensors/argus", "sensors/zeek-json", "ton-iot"]
)
def test_every_sensor_has_the_columns_that_a_model_needs(data_dir: Path, log: str):
    """What a model trained on one sensor has to find in the logs of another."""
    flows = open_flows(data_dir / log)
    needed = (
        "src_ip dst_ip dst_port protocol conn_state duration_s src_ip_bytes dst_ip_bytes "
        "src_packets dst_packets"
    )
    kinds = known_schemas()["canonical"]
    for name in needed.split():
        assert flows.schema.column(name).kind is kinds.column(name).kind
    table = next(flows.blocks())
    assert table.num_rows > 0
    assert all(table[name].null_count < table.num_rows for name in needed.split())


def test_a_model_of_one_sensor_reads_the_log_of_another(data_dir: Path):
    schema = open_flows(data_dir / "sensors" / "zeek-labeled").schema
    flows = open_flows(data_dir / "sensors" / "netflow", schema=schema)
    table = next(flows.blocks())
    assert set(table.column_names) < set(schema.names)
    assert {"service", "missed_bytes", "src_payload_bytes"} <= set(flows.absent)
    assert schema.column("conn_state").kind is ColumnKind.CATEGORY


WORDS = ("protocol", "service", "conn_state", "src_ip_bytes", "dst_ip_bytes")


@pytest.fixture(scope="module")
def ton_iot_tokenizer(data_dir: Path) -> FlowTokenizer:
    flows = open_flows(data_dir / "ton-iot")
    schema = replace(flows.schema, columns=tuple(flows.schema.column(name) for name in WORDS))
    return FlowTokenizer.fit(schema, (block.select(WORDS) for block in flows.blocks()))


@pytest.mark.parametrize("sensor", ["suricata", "netflow", "zeek-labeled", "zeek-scans"])
def test_sensors_speak_the_words_that_a_model_of_ton_iot_knows(
    data_dir: Path, sensor: str, ton_iot_tokenizer: FlowTokenizer
):
    table = next(open_flows(data_dir / "sensors" / sensor, schema=ton_iot_tokenizer.schema).blocks())
    block = ton_iot_tokenizer.encode(table)
    rows = [ton_iot_tokenizer.decode(block.ids[a:b]) for a, b in pairwise(block.offsets.tolist())]
    for name in WORDS:
        values = Counter(row[name] for row in rows)
        has_service = sensor != "netflow"  # NetFlow does not look at content
        assert values["<absent>"] == (0 if name != "service" or has_service else len(rows))
        assert values["<unseen>"] <= 0.01 * len(rows), (name, values)
