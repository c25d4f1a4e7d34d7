import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.matrix import FeatureEncoder, Ranks, slot_ids, text_statistics
from wirebert.encoding.tokenizer import FlowTokenizer

SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="bytes", kind=ColumnKind.NUMBER, is_feature=True),
    ),
)
TABLE = pa.table({"proto": ["tcp"] * 6 + ["udp"] * 2, "bytes": [0, 0, 0, 0, 10, 20, 30, 40]})


def fitted(*, leave_out: bool) -> FlowTokenizer:
    config = EncodingConfig(omit_most_frequent=leave_out, num_bins=4, num_exact_values=1)
    return FlowTokenizer.fit(SCHEMA, lambda: iter([TABLE]), config)


@pytest.mark.parametrize("leave_out", [False, True])
def test_each_slot_has_its_token_also_where_the_row_leaves_it_out(leave_out: bool):
    tokenizer = fitted(leave_out=leave_out)
    found = slot_ids(tokenizer, tokenizer.encode(TABLE))
    whole = fitted(leave_out=False).encode(TABLE)
    assert found.tolist() == whole.ids.reshape(len(TABLE), 3)[:, 1:].tolist()


def test_numbers_rank_as_they_grow_and_those_above_training_rank_highest():
    tokenizer = fitted(leave_out=True)
    ranks = Ranks.of(tokenizer)
    assert ranks.is_ordered.tolist() == [False, True]
    table = pa.table({"proto": ["tcp"] * 4, "bytes": [0, 15, 40, 4000]})
    assert np.all(np.diff(ranks.matrix(tokenizer.encode(table))[:, 1]) > 0)


def test_a_missing_number_has_no_rank_and_an_unseen_category_has_one_of_its_own():
    tokenizer = fitted(leave_out=True)
    table = pa.table({"proto": ["tcp", "udp", "icmp", None], "bytes": pa.array([None, 1, 2, 3], pa.int64())})
    found = Ranks.of(tokenizer).matrix(tokenizer.encode(table))
    assert np.isnan(found[0, 1])
    assert len(set(found[:, 0].tolist())) == 4
    assert found[:, 0].min() >= 0


def test_of_a_text_column_only_the_first_token_counts():
    schema = FlowSchema(
        name="test",
        columns=(*SCHEMA.columns, Column(name="payload", kind=ColumnKind.TEXT, is_feature=True)),
    )
    table = TABLE.append_column("payload", pa.array(["select 1 from a", "a", "", None, "b", "c", "d", "e e"]))
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), EncodingConfig(subword_vocab_size=256))
    found = slot_ids(tokenizer, tokenizer.encode(table))
    assert found.shape == (8, 3)
    assert found[0, 2] == found[1, 2] != found[2, 2]


def test_codes_fall_with_frequency_and_the_unseen_has_its_own() -> None:
    coding = FeatureEncoder.fit(pa.table({"service": ["http", "dns", "http", None, "http", "dns", "ssh"]}))
    codes = coding.matrix(pa.table({"service": ["http", "dns", "ssh", "gopher", None]}))
    assert codes[:4, 0].tolist() == [0, 1, 2, 3]
    assert math.isnan(codes[4, 0])


def test_a_column_without_values_is_left_out() -> None:
    coding = FeatureEncoder.fit(pa.table({"a": [1.0, 2.0], "b": pa.nulls(2, pa.float64())}))
    assert coding.matrix(pa.table({"a": [3.0], "b": [4.0]})).tolist() == [[3.0]]


def test_only_few_categories_are_split_by_set() -> None:
    many = [f"v{i}" for i in range(255)]
    coding = FeatureEncoder.fit(pa.table({"few": ["a"] * 255, "many": many, "number": [1.0] * 255}))
    assert coding.is_categorical.tolist() == [True, False, False]


def entropy(text: str) -> float:
    counts = Counter(text.encode())
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


@given(st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8"))), max_size=8))
def test_text_statistics_equal_those_of_each_text_by_itself(texts: list[str | None]) -> None:
    statistics = text_statistics(pa.chunked_array([pa.array(texts, pa.string())]))
    for row, text in enumerate(texts):
        if text is None:
            assert all(math.isnan(values[row]) for values in statistics.values())
            continue
        assert statistics["length"][row] == len(text)
        assert statistics["percent signs"][row] == text.count("%")
        assert statistics["quotes"][row] == sum(text.count(quote) for quote in "'\"`")
        assert statistics["entropy"][row] == pytest.approx(entropy(text))
        digits = sum(c in "0123456789" for c in text)
        assert statistics["digit share"][row] == pytest.approx(digits / max(1, len(text)))


def test_punctuation_is_counted() -> None:
    assert np.isclose(text_statistics(pa.chunked_array([["a.b;c"]]))["punctuation share"], 0.4).all()
