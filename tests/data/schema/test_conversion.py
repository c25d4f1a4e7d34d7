import json
import math
import re
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.delimited import detection
from wirebert.data.schema.conversion import NUMBER_PATTERN, InvalidValues, as_text, convert
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.errors import DataError


def schema_of(**kinds: ColumnKind) -> FlowSchema:
    columns = [Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in kinds.items()]
    return FlowSchema(name="flows", columns=tuple(columns))


def converted(
    values: list[str | None], kind: ColumnKind, invalid: InvalidValues | None = None
) -> list[object]:
    block = pa.table({"x": pa.array(values, pa.string()).dictionary_encode()})
    table = convert(block, schema_of(x=kind), invalid=invalid or InvalidValues(), first_row=1)
    return [*table["x"].to_pylist()]


def test_numbers_are_float64_and_markers_are_missing():
    assert converted([" 1 ", "-", "NaN", "2.5e1", "", None, "+3", ".5"], ColumnKind.NUMBER) == [
        1.0, None, None, 25.0, None, None, 3.0, 0.5,
    ]  # fmt: skip


def test_infinities_are_values_whatever_their_spelling():
    found = converted(["Infinity", "inf", "-inf", "-Infinity"], ColumnKind.RATE)
    assert found == [math.inf, math.inf, -math.inf, -math.inf]


def test_spellings_of_one_number_become_one_dictionary_value():
    block = pa.table({"x": pa.array(["1", "1.0", " 1", "0", "-0"]).dictionary_encode()})
    column = convert(block, schema_of(x=ColumnKind.NUMBER), invalid=InvalidValues(), first_row=1)["x"].chunk(
        0
    )
    assert isinstance(column, pa.DictionaryArray)
    assert column.type == pa.dictionary(pa.int32(), pa.float64())
    assert column.dictionary.to_pylist() == [1.0, 0.0]


def test_what_is_no_number_is_missing_and_counted_with_row_and_value():
    invalid = InvalidValues()
    assert converted(["1", "5?", "1_0", "5?", "0x"], ColumnKind.COUNT, invalid) == [
        1.0,
        None,
        None,
        None,
        None,
    ]
    assert invalid.counts == {"x": 4}
    assert [(example.row, example.value) for example in invalid.examples["x"]] == [
        (2, "5?"),
        (3, "1_0"),
        (4, "5?"),
    ]
    with pytest.raises(DataError, match=r"flows\.csv, column 'x', row 2: expected a number, found '5\?'"):
        invalid.check(0.01, "flows.csv")
    invalid.check(0.8, "flows.csv")


def test_misfit_rows_are_counted_from_the_first_row_of_the_block():
    invalid = InvalidValues()
    block = pa.table({"x": ["1", "bad"]})
    convert(block, schema_of(x=ColumnKind.COUNT), invalid=invalid, first_row=101)
    assert invalid.examples["x"][0].row == 102


def test_hexadecimal_is_a_port_and_nothing_else():
    assert converted(["0x0303", "80"], ColumnKind.PORT) == [771.0, 80.0]


def test_booleans_are_normalised_and_other_texts_kept():
    found = converted(["True", "no", "YES", "false", "1", "T", "2", "-"], ColumnKind.BOOLEAN)
    assert found == ["1", "0", "1", "0", "1", "1", "2", None]


def test_text_is_stripped_and_labels_keep_their_text():
    assert converted([" tcp", "tcp ", "a b"], ColumnKind.CATEGORY) == ["tcp", "tcp", "a b"]
    assert converted(["0", "01", "1.0"], ColumnKind.LABEL) == ["0", "01", "1.0"]


def test_whole_floats_of_a_typed_source_are_labels_without_fraction():
    block = pa.table(
        {"label": [1.0, 0.0, None, math.nan, 0.5], "port": pa.array([80, None, 1, 2, 3], pa.uint16())}
    )
    schema = schema_of(label=ColumnKind.LABEL, port=ColumnKind.PORT)
    table = convert(block, schema, invalid=InvalidValues(), first_row=1)
    assert table["label"].to_pylist() == ["1", "0", None, None, "0.5"]
    assert table["port"].to_pylist() == [80.0, None, 1.0, 2.0, 3.0]
    assert table["port"].type == pa.float64()


def test_columns_come_in_schema_order_without_those_the_block_lacks():
    schema = schema_of(a=ColumnKind.TEXT, b=ColumnKind.COUNT, c=ColumnKind.TEXT)
    table = convert(
        pa.table({"c": ["x"], "z": ["y"], "a": ["w"]}), schema, invalid=InvalidValues(), first_row=1
    )
    assert table.column_names == ["a", "c"]


def test_an_empty_block_gives_empty_typed_columns():
    block = pa.table(
        {"x": pa.array([], pa.dictionary(pa.int32(), pa.string())), "n": pa.array([], pa.string())}
    )
    schema = schema_of(x=ColumnKind.TEXT, n=ColumnKind.COUNT)
    table = convert(block, schema, invalid=InvalidValues(), first_row=1)
    assert table.num_rows == 0
    assert table.schema.types == [
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int32(), pa.float64()),
    ]


@given(numbers=st.lists(st.none() | st.floats(allow_nan=False), min_size=1))
def test_any_number_written_as_text_is_read_back(numbers: list[float | None]):
    texts = [None if number is None else repr(number) for number in numbers]
    expected = [None if number is None else number + 0.0 for number in numbers]
    assert converted(texts, ColumnKind.NUMBER) == expected


@given(values=st.lists(st.none() | st.text("ab1. -"), min_size=1), cut=st.integers(0, 10))
def test_conversion_does_not_depend_on_chunks_or_dictionaries(values: list[str | None], cut: int):
    cut = min(cut, len(values))
    plain = pa.array(values, pa.string())
    chunked = pa.chunked_array(
        [plain.slice(0, cut).dictionary_encode(), plain.slice(cut).dictionary_encode()]
    )
    for kind in (ColumnKind.NUMBER, ColumnKind.CATEGORY):
        first, second = InvalidValues(), InvalidValues()
        one = convert(pa.table({"x": plain}), schema_of(x=kind), invalid=first, first_row=1)
        two = convert(pa.table({"x": chunked}), schema_of(x=kind), invalid=second, first_row=1)
        assert one["x"].to_pylist() == two["x"].to_pylist()
        assert first == second


def test_as_text_shows_numbers_without_needless_fraction():
    assert as_text(pa.array(np.array([1.0, 2.5, np.nan]))).to_pylist() == ["1", "2.5", None]
    assert as_text(pa.chunked_array([pa.array([" a "]), pa.array(["b"])])).to_pylist() == ["a", "b"]


@pytest.mark.parametrize("pattern", [NUMBER_PATTERN, detection.NUMBER_CELL])
def test_a_long_run_of_digits_is_looked_at_once(pattern: re.Pattern[str]):
    since = time.process_time()
    assert pattern.fullmatch("1" * 100_000 + "x") is None  # took time by the square of the length
    assert time.process_time() - since < 1
    for text in ("1", "1.", "1.5", ".5", "-1e-3", "inf"):
        assert pattern.fullmatch(text)


def test_invalid_values_come_back_from_json():
    invalid = InvalidValues(num_rows=9, time_units={"ts": "s"}, markers={"a": {"-": 2}})
    invalid.add("a", ["x"], [3], 4)
    invalid.note("units_read", "b", 2, "5 kB")
    invalid.lines.reject(4, "expected 3 fields, found 2", "a,b")
    assert InvalidValues.from_dict(json.loads(json.dumps(invalid.to_dict()))) == invalid
