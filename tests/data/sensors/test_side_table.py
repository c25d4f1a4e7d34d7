import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.sensors.side_table import SideTableBuilder, text_keys

SCHEMA = pa.schema([("name", pa.string())])


def test_the_first_record_of_a_key_is_found_and_all_are_counted():
    builder = SideTableBuilder(SCHEMA)
    builder.add(np.array([5, 3], np.uint64), pa.table({"name": ["five", "three"]}))
    builder.add(np.array([5], np.uint64), pa.table({"name": ["five again"]}))
    table, counts, is_found = builder.finish().look_up(np.array([3, 4, 5], np.uint64))
    assert table["name"].to_pylist() == ["three", None, "five"]
    assert counts.tolist() == [1, 0, 2]
    assert is_found.tolist() == [True, False, True]


def test_nothing_is_found_where_there_are_no_records():
    table, counts, is_found = SideTableBuilder(SCHEMA).finish().look_up(np.array([1], np.uint64))
    assert table["name"].to_pylist() == [None]
    assert (counts.tolist(), is_found.tolist()) == ([0], [False])


@given(st.lists(st.text(st.characters(codec="ascii"), max_size=20), min_size=1, max_size=40))
def test_texts_have_one_key_each(texts: list[str]):
    texts = [text.rstrip("\0") for text in texts]
    keys = text_keys(pa.array(texts, pa.string()))
    assert len(set(keys.tolist())) == len(set(texts))
    assert dict(zip(texts, keys.tolist(), strict=True)) == dict(
        zip(texts[1:] + texts[:1], text_keys(pa.array(texts[1:] + texts[:1])).tolist(), strict=True)
    )
