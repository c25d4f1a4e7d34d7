import json
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.context.context import with_context
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import flow_schema
from wirebert.data.windows import ContextWindows
from wirebert.errors import SchemaError
from wirebert.inference.artifact import Artifact
from wirebert.inference.coverage import TrafficFit, UnseenValues, coverage_of, feature_coverage
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import predict_blocks

ZEEK = "ts uid id.orig_h id.resp_h proto service conn_state duration orig_bytes resp_bytes".split()


def zeek_schema() -> FlowSchema:
    own = "ts src_ip dst_ip protocol service conn_state duration_s missed_bytes src_payload_bytes".split()
    joined = "dns_query dns_qtype http_method ssl_version ssl_server_name".split()
    return with_context(flow_schema("zeek", [*own, *joined]), ContextWindows())


def test_features_are_present_absent_or_ignored_by_name(schema: FlowSchema):
    found = feature_coverage(schema, ("uid", "bytes", "service", "duration", "speed"), "flows.csv")
    assert found.present == ("duration", "bytes", "service")
    assert found.absent == ("src_ip", "dst_port", "flags")
    assert found.ignored == ("speed",)
    found.require()
    (warning,) = found.findings
    assert (warning.code, warning.severity, warning.count) == ("absent_features", "warning", 3)
    assert "3 of 6 features are absent: 'src_ip', 'dst_port', 'flags'" in warning.message


def test_fewer_than_half_of_the_features_are_refused_unless_that_is_allowed(schema: FlowSchema):
    found = feature_coverage(schema, ("bytes", "service", "speed"), "flows.csv")
    with pytest.raises(SchemaError, match=r"flows.csv: .* 4 of 6 features are absent: .*'speed' instead"):
        found.require()
    found.require(allow_absent=True)


def test_a_side_log_and_the_context_count_as_one_feature_each():
    found = feature_coverage(zeek_schema(), ("protocol", "service", "duration_s"), "conn.log")
    assert [unit for unit in found.absent if "log" in unit or "context" in unit] == [
        "the dns log",
        "the ssl log",
        "the http log",
        "the context (from ts, src_ip, dst_ip)",
    ]
    given = feature_coverage(zeek_schema(), ("ts", "src_ip", "dst_ip", "dns_qtype"), "conn.log")
    assert {"the dns log", "the context (from ts, src_ip, dst_ip)"} <= set(given.present)


def test_an_optional_field_of_a_sensor_is_missing_and_not_absent(tmp_path: Path):
    rows = [["1.0", "C1", "10.0.0.1", "10.0.0.2", "tcp", "-", "SF", "1.5", "10", "20"]]
    lines = ["#separator \\x09", "#path\tconn", "#fields\t" + "\t".join(ZEEK), *map("\t".join, rows)]
    (tmp_path / "conn.log").write_text("\n".join([*lines, ""]))
    flows = open_flows(tmp_path / "conn.log", schema=zeek_schema())
    (table,) = flows.blocks()
    assert table["missed_bytes"].to_pylist() == [None]
    assert "dns_query" not in table.column_names
    assert coverage_of(flows, zeek_schema()).absent == ("the dns log", "the ssl log", "the http log")


@pytest.mark.parametrize(
    "text", ['{{"bytes": 1, "{0}": 2}}\n{{"bytes": 1}}\n', "bytes=1, flags=S, {0}=2\nbytes=1, flags=S\n"]
)
def test_a_key_that_rows_may_omit_is_missing_whatever_the_other_rows_hold(
    text: str, schema: FlowSchema, tmp_path: Path
):
    (tmp_path / "with").write_text(text.format("duration"))
    (tmp_path / "without").write_text(text.format("other"))
    flows = [
        open_flows(tmp_path / name, DataConfig(allow_absent=True), schema=schema)
        for name in ("with", "without")
    ]
    columns = [pa.concat_tables(one.blocks()).slice(1).to_pylist() for one in flows]
    assert columns[0] == columns[1]
    assert "duration" in coverage_of(flows[0], schema).present
    assert "duration" in coverage_of(flows[1], schema).absent
    assert "duration" in flows[1].absent


def with_service(table: pa.Table, values: list[str]) -> pa.Table:
    return table.set_column(table.column_names.index("service"), "service", pa.array(values))


@pytest.mark.parametrize(("num_new", "is_told"), [(30, False), (31, True), (60, True)])
def test_a_column_is_told_when_most_of_its_values_are_new(
    artifact: Artifact, table: pa.Table, num_new: int, is_told: bool
):
    unseen = UnseenValues(artifact.tokenizer)
    changed = with_service(table, ["gopher"] * num_new + ["http"] * (60 - num_new))
    for part in (changed.slice(0, 40), changed.slice(40)):
        unseen.add(artifact.tokenizer.encode(part))
    assert unseen.counts.get("service") == num_new
    told = [one for one in unseen.findings if one.column == "service"]
    assert [one.count for one in told] == ([num_new] if is_told else [])
    assert all(f"{num_new} of 60 rows" in one.message for one in told)


def test_rows_of_a_block_within_others_are_counted_alone(artifact: Artifact, table: pa.Table):
    from wirebert.encoding.token_rows import JaggedRows

    block = artifact.tokenizer.encode(with_service(table, ["gopher"] * 10 + ["http"] * 50))
    unseen = UnseenValues(artifact.tokenizer)
    unseen.add(JaggedRows(block.ids, block.offsets[5:21]))
    assert (unseen.num_rows, unseen.counts["service"]) == (15, 5)


def test_scoring_completes_the_answer(artifact: Artifact, table: pa.Table, tmp_path: Path):
    rows = ["uid,duration,bytes,service", *(f"C{n},1.0,7,gopher" for n in range(300))]
    rows[3] = "C3,1.0,many,gopher"
    rows.insert(200, "too,many,fields,in,it")
    (tmp_path / "flows.csv").write_text("\n".join([*rows, ""]))
    flows = open_flows(tmp_path / "flows.csv", schema=artifact.schema)
    fit = TrafficFit.of(artifact.tokenizer, flows)
    assert [one.code for one in fit.findings] == ["absent_features"]
    assert sum(block.num_rows for block in predict_blocks(Detector(artifact), flows, fit)) == 300
    assert [(one.code, one.column, one.count) for one in fit.findings] == [
        ("absent_features", None, 3),
        ("rejected_rows", None, 1),
        ("invalid_values", "bytes", 1),
        ("unseen_values", "service", 300),
    ]


def test_rows_of_another_data_set_are_refused():
    from wirebert.data.schema.library import known_schemas

    nsl_kdd = known_schemas()["nsl_kdd"]
    unsw = "dur proto service state spkts dpkts sbytes dbytes rate sttl dttl".split()
    with pytest.raises(SchemaError, match=r"40 of 41 features are absent"):
        feature_coverage(nsl_kdd, unsw, "UNSW-NB15.csv").require()


def test_counts_of_shards_add_up_to_those_of_the_whole(artifact: Artifact, table: pa.Table):
    tokenizer = artifact.tokenizer
    new = table.set_column(table.column_names.index("service"), "service", pa.array(["new"] * table.num_rows))
    whole, merged = UnseenValues(tokenizer), UnseenValues(tokenizer)
    whole.add(tokenizer.encode(new))
    for start in (0, 40):
        part = UnseenValues(tokenizer)
        part.add(tokenizer.encode(new.slice(start, 40)))
        merged.merge(json.loads(json.dumps(part.to_dict())))
    assert merged.counts == whole.counts
    assert merged.num_rows == table.num_rows
