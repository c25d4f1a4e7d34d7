import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.readers.json_values import table_of_objects

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3), max_size=6))
def test_objects_of_any_values_are_rows(objects: list[dict[str, object]]):
    block = "".join(json.dumps(one) + "\n" for one in objects).encode()
    parse_stats = ParseStats()
    table = table_of_objects(block, None, parse_stats)
    assert parse_stats.num_rows == len(objects) == parse_stats.num_lines
    assert table.num_rows == len(objects) or not table.num_columns
    schema = pa.schema(
        [("a", pa.int64()), ("b", pa.list_(pa.string())), ("c", pa.struct([("a", pa.bool_())]))]
    )
    assert table_of_objects(block, schema, ParseStats()).num_rows == len(objects)


def test_lines_that_are_no_objects_keep_their_numbers():
    parse_stats = ParseStats()
    table = table_of_objects(b'{"a":1}\n\n[1]\n\xff\n{"a":"x"}', None, parse_stats)
    assert table["a"].to_pylist() == ["1", "x"]
    assert [(row.line, row.reason) for row in parse_stats.examples] == [
        (3, "expected a JSON object"),
        (4, "expected a JSON object"),
    ]
    assert (parse_stats.num_lines, parse_stats.num_blank, parse_stats.num_rejected) == (5, 1, 2)


def test_an_odd_value_is_missing_and_costs_no_other():
    parse_stats, schema = ParseStats(), pa.schema([("n", pa.int64()), ("s", pa.string())])
    block = b'{"n":1,"s":"a"}\n{"n":"many","s":"b"}\n{"n":[2],"s":{"x":1}}\n{"n":4,"s":5}'
    assert table_of_objects(block, schema, parse_stats).to_pylist() == [
        {"n": 1, "s": "a"},
        {"n": None, "s": "b"},
        {"n": 2, "s": None},
        {"n": 4, "s": "5"},
    ]
    assert parse_stats.num_odd == {"n": 1, "s": 1}


def test_half_a_surrogate_pair_and_numbers_beyond_64_bits_are_values():
    table = table_of_objects(b'{"a":"\\ud800","n":' + b"9" * 40 + b"}\n", None, ParseStats())
    assert table.to_pylist() == [{"a": "?", "n": 1e40}]
