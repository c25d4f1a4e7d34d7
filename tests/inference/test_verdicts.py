from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.verdicts import NO_KNOWN_FEATURES, SCHEMA_VERSION, VerdictRecord, verdict_table

ALWAYS = ("community_id", "warnings", "schema_version")


def one_class(num_rows: int, *, benign: str | None = "ok", probability: float = 1.0) -> Scores:
    hashes = np.zeros(num_rows, np.uint64)
    return Scores(np.full((num_rows, 1), probability), ("ok",), benign, hashes, 0)


def verdicts(schema: FlowSchema, table: pa.Table, scores: Scores | None = None) -> pa.Table:
    rows = np.arange(table.num_rows, dtype=np.int64)
    return verdict_table(table, scores or one_class(table.num_rows), schema, rows)


def schema_of(**kinds: ColumnKind) -> FlowSchema:
    columns = [Column(name=name, kind=kind, is_feature=False) for name, kind in kinds.items()]
    return FlowSchema(name="flows", columns=tuple(columns))


def test_ports_that_are_not_integers_are_missing():
    ports = [80.0, None, float("inf"), -float("inf"), float("nan"), 80.5, -1.0, 1e300, 65_535.0, 0.0]
    schema = schema_of(port=ColumnKind.PORT)
    expected = [80, None, None, None, None, None, -1, None, 65_535, 0]
    for column in (pa.array(ports, pa.float64()), pa.array(ports, pa.float64()).dictionary_encode()):
        found = verdicts(schema, pa.table({"port": column}))["port"]
        assert found.type == pa.int64()
        assert found.to_pylist() == expected
    chunks = pa.chunked_array([pa.array([80.0]), pa.array([], pa.float64()), pa.array([None], pa.float64())])
    assert verdicts(schema, pa.table({"port": chunks}))["port"].to_pylist() == [80, None]


def test_columns_that_do_not_locate_a_flow_are_left_out():
    schema = schema_of(**{str(kind): kind for kind in ColumnKind})
    table = pa.table(
        {column.name: pa.array([1.0] if column.kind.is_numeric else ["x"]) for column in schema.columns}
    )
    found = verdicts(schema, table).column_names
    assert found == [
        "row",
        "port",
        "address",
        "time",
        "identifier",
        "predicted_class",
        "p_ok",
        "attack_score",
        *ALWAYS,
    ]


def test_without_a_benign_class_there_is_no_attack_score():
    found = verdicts(schema_of(), pa.table({"x": [1]}), one_class(1, benign=None))
    assert found.column_names == ["row", "predicted_class", "p_ok", *ALWAYS]


def test_columns_of_the_file_that_are_called_like_ours_get_a_prefix():
    names = ["row", "flow_row", "predicted_class", "p_ok", "attack_score", "label", "true_class", "p_other"]
    schema = schema_of(**dict.fromkeys(names, ColumnKind.IDENTIFIER))
    found = verdicts(schema, pa.table({name: [f"their {name}"] for name in names})).to_pylist()[0]
    ours = {"row": 0, "predicted_class": "ok", "p_ok": 1.0, "attack_score": 0.0}
    assert {name: found[name] for name in ours} == ours
    theirs = {name: f"their {name}" for name in ("flow_row", "p_other")}
    theirs |= {
        f"flow_{name}": f"their {name}" for name in names if name not in ("row", "flow_row", "p_other")
    }
    assert {name: found[name] for name in found if name not in (*ours, *ALWAYS)} == {
        **theirs,
        "flow_flow_row": "their row",
    }


@pytest.fixture(scope="module")
def detector(artifact: Artifact) -> Detector:
    return Detector(artifact)


def test_absent_and_unseen_features_are_counted(detector: Detector, table: pa.Table):
    changed = table.slice(0, 2).drop_columns(["bytes"])
    services = pa.array(["http", "gopher"])
    changed = changed.set_column(changed.column_names.index("service"), "service", services)
    durations = pa.array([1.0, 1e9])
    changed = changed.set_column(changed.column_names.index("duration"), "duration", durations)
    found = verdict_table(changed, detector.score(changed), detector.schema, np.arange(2))
    assert found["num_absent"].to_pylist() == [1, 1]
    assert found["num_unseen"].to_pylist() == [0, 2]
    assert found["warnings"].to_pylist() == [[], []]


def test_a_flow_without_a_known_feature_is_warned_of(artifact: Artifact):
    detector = Detector(artifact, allow_absent=True)
    nothing = pa.table({"uid": ["C1"]})
    found = verdict_table(nothing, detector.score(nothing), detector.schema, np.arange(1))
    assert found["num_absent"].to_pylist() == [len(detector.artifact.tokenizer.slots)]
    assert found["warnings"].to_pylist() == [[NO_KNOWN_FEATURES]]


def test_every_verdict_has_the_version_of_its_columns():
    found = verdicts(schema_of(), pa.table({"x": [1, 2]}))
    assert found["schema_version"].to_pylist() == [SCHEMA_VERSION] * 2
    assert SCHEMA_VERSION == 2


def test_a_community_id_of_the_log_is_that_of_the_record():
    schema = schema_of(community_id=ColumnKind.IDENTIFIER)
    found = verdicts(schema, pa.table({"community_id": ["1:abc="]}))
    assert found["community_id"].to_pylist() == ["1:abc="]
    assert found.column_names.count("community_id") == 1
    assert "flow_community_id" not in found.column_names


def test_every_column_is_documented():
    text = (Path(__file__).parents[2] / "docs" / "verdicts.md").read_text(encoding="utf-8")
    names = {field.name for field in fields(VerdictRecord)} - {"position", "located", "probabilities"}
    for name in (*names, "file", "line", "p_CLASS", "explanation", NO_KNOWN_FEATURES):
        assert f"`{name}`" in text, name


def test_a_community_id_is_computed_where_the_log_has_none():
    kinds = {"src_ip": ColumnKind.ADDRESS, "dst_ip": ColumnKind.ADDRESS, "protocol": ColumnKind.CATEGORY}
    kinds |= {"src_port": ColumnKind.PORT, "dst_port": ColumnKind.PORT, "community_id": ColumnKind.IDENTIFIER}
    flow = {
        "src_ip": "192.168.1.52",
        "dst_ip": "8.8.8.8",
        "protocol": "udp",
        "src_port": 54585.0,
        "dst_port": 53.0,
    }
    table = pa.Table.from_pylist([{**flow, "community_id": "1:theirs="}, {**flow, "community_id": None}])
    found = verdicts(schema_of(**kinds), table)
    assert found["community_id"].to_pylist() == ["1:theirs=", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="]
    assert "protocol" not in found.column_names
