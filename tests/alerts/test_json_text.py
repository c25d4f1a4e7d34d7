"""JSON by columns equals JSON by rows."""

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirebert.alerts.json_text import json_object, json_text

texts = st.text(st.characters(exclude_categories=["Cs"])) | st.none()
floats = st.floats(width=64) | st.none()
integers = st.integers(-(2**63), 2**63 - 1) | st.none()
lists = st.lists(st.text(max_size=3), max_size=3) | st.none()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(texts, floats, integers, lists), min_size=1))
def test_objects_hold_the_values_that_are_there(rows: list[tuple[Any, ...]]):
    types = (pa.string(), pa.float64(), pa.int64(), pa.list_(pa.string()))
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), types, strict=True)]
    names = ("text", 'a "float"', "integer", "list")
    fields: dict[str, pa.Array | str | None] = dict(zip(names, map(json_text, columns), strict=True))
    for found, row in zip(json_object(fields, len(rows)).to_pylist(), rows, strict=True):
        kept = {
            name: value
            for name, value in zip(names, row, strict=True)
            if value is not None
            and value != []
            and value not in (float("inf"), -float("inf"))
            and value == value
        }
        assert (None if found is None else json.loads(found)) == (kept or None)


def test_a_column_of_few_values_is_the_same_as_a_plain_one():
    plain = pa.array(["a", 'q"', None, "a"])
    assert json_text(plain.dictionary_encode()).equals(json_text(plain))


@pytest.mark.parametrize("number", [1.0, -3.0, 1e20, 1e-7, 0.1])
def test_a_float_never_looks_like_an_integer(number: float):
    (text,) = json_text(pa.array([number])).to_pylist()
    assert text is not None
    assert isinstance(json.loads(text), float)
    assert json.loads(text) == number
