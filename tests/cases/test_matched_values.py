"""One value under several spellings: cases/category-spelling."""

from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.encoding.categorical import CategoryEncoder, ValueCounts
from wirebert.encoding.columns import count_values

CASES = Path(__file__).parent


def values(name: str) -> pa.ChunkedArray:
    schema = open_flows(CASES / "label-not-last" / "last.csv").schema
    return pa.concat_tables(open_flows(CASES / name, schema=schema).blocks())["proto"].unify_dictionaries()


@pytest.fixture(scope="module")
def encoder() -> CategoryEncoder:
    counts = ValueCounts()
    count_values(values("label-not-last/last.csv"), counts)
    return CategoryEncoder.fit("proto", counts, 100)


@pytest.mark.parametrize("name", ["upper.csv", "numbers.csv"])
def test_protocols_in_capitals_and_as_numbers_are_those_of_training(name: str, encoder: CategoryEncoder):
    column = values(f"category-spelling/{name}").combine_chunks()
    texts = column.cast(pa.string())
    protocols = {"TCP": "tcp", "UDP": "udp", "6": "tcp", "17": "udp"}
    expected = pa.array([protocols[str(text)] for text in texts.to_pylist()])
    assert encoder.encode(texts).tolist() == encoder.encode(expected).tolist()
    assert set(encoder.matched(map(str, texts.to_pylist())).values()) == {"tcp", "udp"}


def test_a_new_protocol_stays_new(encoder: CategoryEncoder):
    column = values("category-spelling/new-value.csv").combine_chunks().cast(pa.string())
    assert set(encoder.encode(column).ravel().tolist()) == {1}  # <unseen>
    assert encoder.matched(map(str, column.to_pylist())) == {}
