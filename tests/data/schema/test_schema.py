import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.data.schema.combination import Combination
from wirebert.data.schema.library import known_schemas
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
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


@settings(max_examples=20)
@given(drawn=schemas)
def test_any_schema_survives_plain_data(drawn: dict[str, Any]):
    schema = build(drawn)
    assert FlowSchema.from_dict(schema.to_dict()) == schema


@pytest.mark.parametrize(
    ("plain", "complaint"),
    [
        ({"name": "x", "columns": []}, "expected a list"),
        ({"name": "x", "colums": []}, "did you mean 'columns'"),
        ({"name": "x", "columns": [{"name": "a", "kind": "numbr"}]}, "did you mean 'number'"),
        (
            {"name": "x", "columns": [{"name": "a", "kind": "time", "is_feature": True}]},
            "cannot be a feature",
        ),
        ({"name": "x", "columns": [{"name": "a", "kind": "time"}] * 2}, "found 'a' twice"),
        (
            {"name": "x", "columns": [{"name": "a", "kind": "label"}, {"name": "b", "kind": "label"}]},
            "one label",
        ),
        ({"columns": [{"name": "a", "kind": "time"}]}, "name must be text"),
    ],
)
def test_a_wrong_schema_is_refused_in_one_sentence(plain: dict[str, object], complaint: str):
    with pytest.raises(SchemaError, match=complaint) as caught:
        FlowSchema.from_dict(plain, "my.toml")
    assert str(caught.value).startswith("my.toml")
    assert "\n" not in str(caught.value)


def test_another_label_makes_the_old_one_derived():
    schema = known_schemas()["nsl_kdd"].with_label("flag")
    assert schema.label == "flag"
    assert schema.column("label").kind is ColumnKind.LABEL_DERIVED
    assert schema.label_map == {}
    assert not dataclasses.asdict(schema.column("flag"))["is_feature"]


def flows_of(*names: str) -> FlowSchema:
    kinds = {"dport": ColumnKind.PORT, "bytes": ColumnKind.COUNT, "packets": ColumnKind.COUNT}
    columns = tuple(Column(name=name, kind=kinds[name], is_feature=True) for name in names)
    ratio = Combination(name="bytes_per_packet", operation="ratio", columns=("bytes", "packets"))
    return FlowSchema(name="flows", columns=columns, combinations=(ratio,))


@pytest.mark.parametrize(
    ("dropped", "kept"),
    [
        (["dport"], ["bytes", "packets"]),
        (["port"], ["bytes", "packets"]),
        (["count"], ["dport"]),
        (["packets", "dport"], ["bytes"]),
        ([], ["dport", "bytes", "packets"]),
    ],
)
def test_columns_are_dropped_by_name_or_kind(dropped: list[str], kept: list[str]):
    left = flows_of("dport", "bytes", "packets").without(dropped)
    assert [column.name for column in left.features] == kept
    assert left.names == ("dport", "bytes", "packets")


def test_dropping_every_feature_is_one_sentence():
    with pytest.raises(
        SchemaError, match="expected at least one feature to be left, found none; drop fewer columns"
    ):
        flows_of("dport", "bytes").without(["port", "count"])


def test_a_combination_of_a_dropped_column_goes_with_it():
    flows = flows_of("dport", "bytes", "packets")
    assert flows.without(["packets"]).combinations == ()
    assert flows.without(["dport"]).combinations == flows.combinations


def test_a_file_may_call_the_label_something_else_but_not_like_a_feature():
    columns = (
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="attack", kind=ColumnKind.LABEL, is_feature=False),
    )
    schema = FlowSchema(name="flows", columns=columns, label_map={"neptune": "dos"})
    renamed = schema.labelled_by("verdict")
    assert (renamed.label, renamed.label_map) == ("verdict", {"neptune": "dos"})
    assert [column.name for column in renamed.features] == ["bytes"]
    assert schema.labelled_by("attack") == schema
    with pytest.raises(SchemaError, match=r"--label: .* got 'bytes'; name the label column"):
        schema.labelled_by("bytes")
