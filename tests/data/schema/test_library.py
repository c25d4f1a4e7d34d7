from pathlib import Path

import pytest

from wirebert.data.schema.library import known_schemas, match_schema, read_schema, write_schema
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.errors import SchemaError


def test_a_schema_survives_a_file(tmp_path: Path):
    odd = Column(
        name='na"me = []', kind=ColumnKind.TEXT, is_feature=True, null_values=("", "\\"), note="a\nb"
    )
    schema = FlowSchema(name="#", columns=(odd,), label_map={"a.b": "[c]", "": "d"}, benign="[c]")
    write_schema(schema, tmp_path / "schema.toml")
    assert read_schema(tmp_path / "schema.toml") == schema


@pytest.mark.parametrize("name", known_schemas())
def test_a_known_schema_survives_a_file(name: str, tmp_path: Path):
    write_schema(known_schemas()[name], tmp_path / "schema.toml")
    assert read_schema(tmp_path / "schema.toml") == known_schemas()[name]


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path):
    (tmp_path / "s.toml").write_text("name = ")
    with pytest.raises(SchemaError, match=r"s\.toml: expected a schema in TOML"):
        read_schema(tmp_path / "s.toml")
    with pytest.raises(SchemaError, match="cannot be read"):
        read_schema(tmp_path / "none.toml")


def test_nsl_kdd_has_41_features_and_maps_40_labels_to_five_classes():
    schema = known_schemas()["nsl_kdd"]
    assert len(schema.features) == 41
    assert len(schema.label_map) == 40
    assert set(schema.label_map.values()) == {"normal", "dos", "probe", "r2l", "u2r"}
    assert (schema.label_map["httptunnel"], schema.label_map["worm"]) == ("u2r", "r2l")
    assert schema.column("difficulty").kind is ColumnKind.LABEL_DERIVED
    assert schema.benign == "normal"


@pytest.mark.parametrize("num_columns", [41, 42, 43])
def test_nsl_kdd_is_recognised_with_and_without_label_and_difficulty(num_columns: int):
    row = ["0", "tcp", "http", "SF", *["0"] * 37, "neptune", "21"][:num_columns]
    found = match_schema(None, [row])
    assert found is not None
    assert found.name == "nsl_kdd"


def test_rows_that_only_have_as_many_fields_are_not_nsl_kdd():
    assert match_schema(None, [["0", "tcp", "http", "SF", *["0"] * 37, "exploit", "21"]]) is None
    assert match_schema(None, [["0"] * 43]) is None


def test_a_header_with_the_names_of_a_known_schema_is_that_schema():
    schema = known_schemas()["nsl_kdd"]
    without_difficulty = [name for name in schema.names if name != "difficulty"]
    assert match_schema(without_difficulty, []) == schema
    assert match_schema([*schema.names, "extra"], []) is None
