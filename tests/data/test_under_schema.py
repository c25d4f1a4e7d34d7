from pathlib import Path

import pytest

from wirebert.data.config import DataConfig
from wirebert.data.files import open_file
from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.under_schema import under_schema, with_optional
from wirebert.errors import SchemaError

SCHEMA = FlowSchema(
    name="flows",
    columns=tuple(Column(name=name, kind=ColumnKind.COUNT, is_feature=True) for name in ("bytes", "packets")),
)


def opened(folder: Path, name: str, text: str):
    (folder / name).write_text(text)
    return open_file(folder / name, name, DataConfig(), SCHEMA)


def test_columns_get_the_names_of_the_schema(tmp_path: Path):
    part = under_schema(opened(tmp_path, "f.csv", "Bytes,other\n1,2\n3,4\n"), SCHEMA)
    assert part.names == ("bytes", "other")
    assert part.match.renamed == {"bytes": "Bytes"}


def test_a_file_without_any_feature_is_refused(tmp_path: Path):
    part = opened(tmp_path, "f.csv", "colour,taste\n1,2\n3,4\n")
    with pytest.raises(SchemaError, match="expected columns of schema 'flows'"):
        under_schema(part, SCHEMA)


def test_what_rows_of_json_leave_out_is_missing_and_known_as_unnamed(tmp_path: Path):
    part = with_optional(opened(tmp_path, "f.jsonl", '{"bytes": 1}\n{"bytes": 2}\n'), SCHEMA)
    assert part.names == ("bytes", "packets")
    assert part.unnamed == ("packets",)


def test_a_column_that_a_table_lacks_stays_absent(tmp_path: Path):
    part = with_optional(opened(tmp_path, "f.csv", "bytes,other\n1,2\n3,4\n"), SCHEMA)
    assert part.names == ("bytes", "other")
    assert part.unnamed == ()


def test_a_community_id_is_read_under_a_schema_without_one(tmp_path: Path):
    trained = tmp_path / "trained.csv"
    trained.write_text("src_ip,dur,label\n10.0.0.1,1.5,a\n10.0.0.2,2.5,b\n")
    scored = tmp_path / "scored.csv"
    scored.write_text("src_ip,community_id,dur\n10.0.0.1,1:theirs=,1.5\n")
    schema = open_flows(trained).schema
    flows = open_flows(scored, schema=schema)
    (table,) = flows.blocks()
    assert table["community_id"].to_pylist() == ["1:theirs="]
    assert [column.name for column in flows.schema.features] == [column.name for column in schema.features]
