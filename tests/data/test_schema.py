import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.schema import (
    Column,
    ColumnKind,
    FlowSchema,
    known_schemas,
    read_schema,
    recognise,
    write_schema,
)
from wirebert.errors import SchemaError

columns = st.tuples(
    st.text(min_size=1),
    st.sampled_from([kind for kind in ColumnKind if kind is not ColumnKind.LABEL]),
    st.booleans(),
    st.lists(st.text()),
    st.text(),
)
schemas = st.fixed_dictionaries(
    {
        "name": st.text(),
        "columns": st.lists(columns, min_size=1, max_size=4, unique_by=lambda column: column[0]),
        "label_map": st.dictionaries(st.text(), st.text(), max_size=3),
        "benign": st.none() | st.text(),
    }
)


def build(drawn: dict[str, Any]) -> FlowSchema:
    built = [
        Column(
            name=name,
            kind=kind,
            is_feature=wanted and kind.can_be_feature,
            null_values=tuple(nulls),
            note=note,
        )
        for name, kind, wanted, nulls, note in drawn["columns"]
    ]
    return FlowSchema(
        name=drawn["name"], columns=tuple(built), label_map=drawn["label_map"], benign=drawn["benign"]
    )


@given(drawn=schemas)
def test_any_schema_survives_plain_data(drawn: dict[str, Any]):
    schema = build(drawn)
    assert FlowSchema.from_dict(schema.to_dict()) == schema


@given(drawn=schemas)
def test_any_schema_survives_a_file(drawn: dict[str, Any], tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("schema") / "schema.toml"
    schema = build(drawn)
    write_schema(schema, path)
    assert read_schema(path) == schema


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ({"name": "x", "columns": []}, "expected a list"),
        ({"name": "x", "colums": []}, "did you mean 'columns'"),
        ({"name": "x", "columns": [{"name": "a", "kind": "numbr"}]}, "did you mean 'number'"),
        (
            {"name": "x", "columns": [{"name": "a", "kind": "time", "is_feature": True}]},
            "can not be a feature",
        ),
        ({"name": "x", "columns": [{"name": "a", "kind": "time"}] * 2}, "found 'a' twice"),
        (
            {"name": "x", "columns": [{"name": "a", "kind": "label"}, {"name": "b", "kind": "label"}]},
            "one label",
        ),
        ({"columns": [{"name": "a", "kind": "time"}]}, "name must be a text"),
    ],
)
def test_a_wrong_schema_is_refused_in_one_sentence(plain: dict[str, object], complaint: str):
    with pytest.raises(SchemaError, match=complaint) as caught:
        FlowSchema.from_dict(plain, "my.toml")
    assert str(caught.value).startswith("my.toml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path: Path):
    (tmp_path / "s.toml").write_text("name = ")
    with pytest.raises(SchemaError, match=r"s\.toml: expected a schema in TOML"):
        read_schema(tmp_path / "s.toml")
    with pytest.raises(SchemaError, match="can not be read"):
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
    found = recognise(None, [row])
    assert found is not None
    assert found.name == "nsl_kdd"


def test_rows_that_only_have_as_many_fields_are_not_nsl_kdd():
    assert recognise(None, [["0", "tcp", "http", "SF", *["0"] * 37, "exploit", "21"]]) is None
    assert recognise(None, [["0"] * 43]) is None


def test_a_header_with_the_names_of_a_known_schema_is_that_schema():
    schema = known_schemas()["nsl_kdd"]
    without_difficulty = [name for name in schema.names if name != "difficulty"]
    assert recognise(without_difficulty, []) == schema
    assert recognise([*schema.names, "extra"], []) is None


def test_another_label_makes_the_old_one_derived():
    schema = known_schemas()["nsl_kdd"].with_label("flag")
    assert schema.label == "flag"
    assert schema.column("label").kind is ColumnKind.LABEL_DERIVED
    assert schema.label_map == {}
    assert not dataclasses.asdict(schema.column("flag"))["is_feature"]
