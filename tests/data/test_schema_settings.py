from pathlib import Path

import pytest

from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.data.schema_settings import label_name, schema_of
from wirebert.errors import SchemaError


def test_a_label_is_a_name_or_else_a_position():
    assert label_name("2", ("a", "b")) == "b"
    assert label_name("2", ("2", "b")) == "2"
    assert label_name("9", ("a", "b")) == "9"


def test_schemas_are_built_in_those_of_sensors_or_files():
    assert schema_of(DataConfig()) is None
    for name in ("nsl_kdd", "zeek"):
        schema = schema_of(DataConfig(schema=name))
        assert schema is not None
        assert schema.name == name
    with pytest.raises(SchemaError, match="--schema"):
        schema_of(DataConfig(schema="nowhere.toml"))


def test_a_dropped_structure_is_all_of_its_columns(tmp_path: Path):
    rows = "".join(f'{{"a":{{"b":{n},"c":{n % 7}}},"ab":{n % 5},"label":"{n % 2}"}}\n' for n in range(40))
    (tmp_path / "f.jsonl").write_text(rows)
    flows = open_flows(tmp_path / "f.jsonl", DataConfig(drop=("a",)))
    assert [column.name for column in flows.schema.features] == ["ab"]
