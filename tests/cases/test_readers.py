"""Files of the formats that people have: read as what they are, or refused with the sentence that helps."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.config import DataConfig
from wirebert.data.flows import Flows, open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, NoFlowsError

CASES = Path(__file__).parent / "readers"


def rows_of(flows: Flows) -> pa.Table:
    return pa.concat_tables(flows.blocks(), promote_options="default")


@pytest.mark.parametrize("separator", ["comma", "pipe"])
def test_zeek_logs_of_any_separator_are_read(separator: str):
    log = CASES / f"zeek-{separator}" / "conn.log"
    flows = open_flows(log)
    assert flows.described == f"Zeek conn log, {separator}-separated"
    assert flows.schema.name == "zeek"
    mark = {"comma": ",", "pipe": "|"}[separator]
    lines = [line.split(mark) for line in log.read_text().splitlines() if not line.startswith("#")]
    assert rows_of(flows)["src_ip"].to_pylist() == [line[2] for line in lines]
    assert len(lines) == 25


def test_a_separator_and_marks_may_be_spelled_otherwise(tmp_path: Path):
    text = (CASES / "zeek-pipe" / "conn.log").read_text().replace("#separator |", "#separator \\x7c")
    text = text.replace("#unset_field|-", "#unset_field|NIL").replace("|-|", "|NIL|")
    (tmp_path / "conn.log").write_text(text)
    changed, usual = (
        rows_of(open_flows(path)) for path in (tmp_path / "conn.log", CASES / "zeek-pipe/conn.log")
    )
    assert changed.to_pylist() == usual.to_pylist()


def test_a_vlan_may_be_a_number():
    flows, invalid_values = open_flows(CASES / "eve-vlan-number.json"), InvalidValues()
    assert sum(block.num_rows for block in flows.blocks(invalid_values)) == 10
    assert invalid_values.total == 0


def test_a_label_in_suricatas_events_is_found():
    flows = open_flows(CASES / "eve-labelled.json")
    labels = [json.loads(line)["label"] for line in (CASES / "eve-labelled.json").read_text().splitlines()]
    assert flows.require_label() == "label"
    assert rows_of(flows)["label"].to_pylist() == labels
    assert len(labels) == 12


def test_a_field_of_several_types_is_one_column():
    flows = open_flows(CASES / "mixed-types.jsonl")
    kinds = {column.name: column.kind.value for column in flows.schema.columns}
    assert (kinds["dst_port"], kinds["bytes"]) == ("port", "count")
    rows = rows_of(flows)
    lines = [json.loads(line) for line in (CASES / "mixed-types.jsonl").read_text().splitlines()]
    assert rows["dst_port"].to_pylist() == [float(line["dst_port"]) for line in lines]
    assert rows["bytes"].to_pylist() == [None if line["bytes"] == "-" else line["bytes"] for line in lines]
    assert rows["tags"].to_pylist() == ["a"] * 30


def test_one_array_is_its_objects():
    objects = json.loads((CASES / "array.json").read_text())
    rows = rows_of(open_flows(CASES / "array.json")).to_pylist()
    assert rows == [
        {**one, "dst_port": float(one["dst_port"]), "bytes": float(one["bytes"])} for one in objects
    ]
    assert len(rows) == 20


def test_newer_nfdump_records_are_paired():
    flows = open_flows(CASES / "nfdump-1.7.5.csv")
    assert flows.schema.name == "nfdump"
    with (CASES / "nfdump-1.7.5.csv").open() as file:
        records = list(csv.DictReader(file))
    rows = sorted(rows_of(flows).to_pylist(), key=lambda row: row["ts"])
    assert len(rows) == 30
    for row, record, answer in zip(rows, records[::2], records[1::2], strict=True):
        assert (row["src_ip"], row["dst_ip"]) == (record["srcAddr"], answer["srcAddr"])
        assert (row["src_ip_bytes"], row["dst_ip_bytes"]) == (float(record["bytes"]), float(answer["bytes"]))
    assert not {"conn_state", "tcp_flags"} & set(flows.schema.names)  # nobody knows them without flags


def test_http_requests_of_several_lines_are_rows():
    flows = open_flows(CASES / "http-requests.txt")
    rows = rows_of(flows)
    assert flows.described == "HTTP requests of several lines"
    assert rows.num_rows == 20
    assert rows["method"].to_pylist()[:3] == ["POST", "GET", "GET"]
    assert rows["body"].to_pylist()[:2] == ["mode=insert&price=0000&ok=yes", None]


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("flows.xlsx", "found a spreadsheet; save its sheet as CSV"),
        ("flows.tar.gz", "found an archive of files .tar.; unpack it"),
        ("two-tables.zip", "found 2; unpack it first"),
    ],
)
def test_what_holds_no_single_table_is_named(file: str, sentence: str):
    with pytest.raises(NoFlowsError, match=sentence):
        open_flows(CASES / file)


def test_structures_of_parquet_are_columns_and_can_be_dropped():
    flows = open_flows(CASES / "nested.parquet")
    assert flows.schema.names == (
        "flow.bytes.in",
        "flow.bytes.out",
        "flow.packets",
        "sizes",
        "proto",
        "label",
    )
    assert rows_of(flows)["flow.bytes.in"].to_pylist()[:2] == [596.0, 1217.0]
    rest = open_flows(CASES / "nested.parquet", DataConfig(drop=("flow",)))
    assert [column.name for column in rest.schema.features] == ["sizes", "proto"]


def test_a_table_of_too_many_features_has_a_remedy_that_works(tmp_path: Path):
    names = [f"f{index}" for index in range(520)]
    lines = [",".join([*names, "label"])]
    lines += [
        ",".join([*(str(row * 7 % 11 + index) for index in range(520)), "ab"[row % 2]]) for row in range(40)
    ]
    (tmp_path / "f.csv").write_text("\n".join(lines))
    flows = open_flows(tmp_path / "f.csv")
    with pytest.raises(ConfigError, match=r"leave out at least 9 columns with --drop NAME [^;]*\)$"):
        FlowTokenizer.fit(flows.schema, flows.blocks)
    fewer = flows.schema.without(names[:9])
    assert len(FlowTokenizer.fit(fewer, flows.blocks).slots) == 511
