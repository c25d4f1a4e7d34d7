import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wirebert.data.schema.combination import Combination
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.combinations import absent_parts, all_features, combine
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import SchemaError

RATIO = Combination(name="bytes_per_packet", operation="ratio", columns=("bytes", "packets"))
SHARE = Combination(name="share_of_bytes", operation="share", columns=("bytes", "packets"))
PAIR = Combination(name="service_with_state", operation="pair", columns=("service", "state"))
SCHEMA = FlowSchema(
    name="flows",
    columns=(
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="packets", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="service", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="state", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),
    ),
    combinations=(RATIO, PAIR),
)
TABLE = pa.table(
    {
        "bytes": pa.array([100.0, 50.0, 0.0, 7.0]),
        "packets": pa.array([2.0, 1.0, 0.0, None]).dictionary_encode(),
        "service": pa.array(["http", "dns", None, "dns"]).dictionary_encode(),
        "state": pa.array(["SF", "SF", None, None]),
        "uri": ["/a", "/b", None, "/d"],
    }
)

numbers = st.one_of(st.none(), st.floats(0, 1e12))


@example([(1e12, 5e-324)])
@given(st.lists(st.tuples(numbers, numbers), max_size=20))
def test_ratios_and_shares_agree_with_python(rows: list[tuple[float | None, float | None]]):
    table = pa.table(
        {
            "bytes": pa.array([a for a, _ in rows], pa.float64()),
            "packets": pa.array([b for _, b in rows], pa.float64()),
        }
    )
    made = combine(table, [RATIO, SHARE])
    for (a, b), ratio, share in zip(
        rows, made["bytes_per_packet"].to_pylist(), made["share_of_bytes"].to_pylist(), strict=True
    ):
        with np.errstate(over="ignore"):  # a large number over a subnormal one is infinite
            assert ratio == (None if a is None or b is None or b == 0 else np.float64(a) / b)
        assert share == (None if a is None or b is None or a + b == 0 else a / (a + b))


def test_pairs_hold_both_values_and_a_missing_one_is_empty():
    made = combine(TABLE, [PAIR])
    assert made["service_with_state"].to_pylist() == ["http|SF", "dns|SF", None, "dns|"]
    chunked = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])
    assert (
        combine(chunked, [PAIR])["service_with_state"].to_pylist() == made["service_with_state"].to_pylist()
    )


def test_a_combination_that_lacks_a_part_is_absent():
    assert "service_with_state" not in combine(TABLE.drop_columns(["state"]), [PAIR]).column_names
    missing = np.array([True, False])
    assert absent_parts({"state": missing}, [PAIR, RATIO]).keys() == {"state", "service_with_state"}


def test_combinations_are_features_before_the_texts():
    assert [column.name for column in all_features(SCHEMA)] == [
        "bytes",
        "packets",
        "service",
        "state",
        "bytes_per_packet",
        "service_with_state",
        "uri",
    ]


def test_the_tokenizer_encodes_and_saves_them():
    tokenizer = FlowTokenizer.fit(SCHEMA, [TABLE])
    assert "service_with_state" in tokenizer.slot_names
    block = tokenizer.encode(TABLE)
    first = tokenizer.decode(block.ids[block.offsets[0] : block.offsets[1]])
    assert first["service_with_state"] == "http|SF"
    again = FlowTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict())))
    assert np.array_equal(again.encode(TABLE).ids, block.ids)


def test_key_value_text_has_them_too_and_what_it_lacks_is_absent():
    tokenizer = FlowTokenizer.fit(SCHEMA, [TABLE])
    whole = tokenizer.encode_key_values(["bytes=100, packets=2, service=http, state=SF, uri=/a"])
    assert whole.ids.tolist() == tokenizer.encode(TABLE.slice(0, 1)).ids.tolist()
    lacking = tokenizer.encode_key_values(["bytes=100, packets=2, service=http, uri=/a", "state=SF"])
    said = tokenizer.decode(lacking.ids[lacking.offsets[0] : lacking.offsets[1]])
    assert said["service_with_state"] == "<absent>"
    assert said["bytes_per_packet"] != "<absent>"


def test_a_schema_without_combinations_encodes_as_ever():
    plain = FlowSchema(name="flows", columns=SCHEMA.columns)
    assert all_features(plain) == plain.features
    assert combine(TABLE, ()) is TABLE


def test_a_schema_refuses_combinations_of_unknown_columns_and_texts():
    plain = SCHEMA.to_dict()
    for columns, message in (
        (["bytes", "pakets"], "did you mean 'packets'"),
        (["bytes", "uri"], "needs numbers"),
    ):
        with pytest.raises(SchemaError, match=message):
            FlowSchema.from_dict(
                plain | {"combinations": [{"name": "x", "operation": "ratio", "columns": columns}]}
            )
