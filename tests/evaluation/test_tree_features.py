import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.evaluation.tree_features import Coding, text_statistics


def test_codes_fall_with_frequency_and_the_unseen_has_its_own() -> None:
    coding = Coding.fit(pa.table({"service": ["http", "dns", "http", None, "http", "dns", "ssh"]}))
    codes = coding.matrix(pa.table({"service": ["http", "dns", "ssh", "gopher", None]}))
    assert codes[:4, 0].tolist() == [0, 1, 2, 3]
    assert math.isnan(codes[4, 0])


def test_a_column_without_values_is_left_out() -> None:
    coding = Coding.fit(pa.table({"a": [1.0, 2.0], "b": pa.nulls(2, pa.float64())}))
    assert coding.matrix(pa.table({"a": [3.0], "b": [4.0]})).tolist() == [[3.0]]


def test_only_few_categories_are_split_by_set() -> None:
    many = [f"v{i}" for i in range(255)]
    coding = Coding.fit(pa.table({"few": ["a"] * 255, "many": many, "number": [1.0] * 255}))
    assert coding.unordered.tolist() == [True, False, False]


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
