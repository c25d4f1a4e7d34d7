# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

import numpy as np
import pyarrow as pa

from wirebert.data.synthetic.text import either, encoded, hexadecimal, join, mixed_case, mixture, number, pick


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_parts_are_joined_row_by_row():
    assert join(pa.array(["a", "b"]), "=", pa.array(["1", "2"])).to_pylist() == ["a=1", "b=2"]


def test_either_takes_the_first_text_in_its_share_of_rows():
    first, second = pa.array(["a"] * 1_000), pa.array(["b"] * 1_000)
    assert 250 < either(generator(), 0.3, first, second).to_pylist().count("a") < 350


def test_pieces_come_from_their_pool_or_range():
    assert set(pick(generator(), ["x", "y"], 50).to_pylist()) == {"x", "y"}
    assert {int(text) for text in number(generator(), 200, 3, 5).to_pylist()} == {3, 4, 5}
    assert all(len(text) == 8 and int(text, 16) >= 0 for text in hexadecimal(generator(), 20).to_pylist())


def test_a_mixture_holds_each_grammar_by_its_weight():
    found = mixture(
        generator(),
        1_000,
        [(3, lambda g, n: pa.array(["a"] * n)), (1, lambda g, n: pa.array(["b"] * n, pa.string()))],
    )
    assert len(found) == 1_000
    assert 700 < found.to_pylist().count("a") < 800


def test_values_are_encoded_once_twice_or_hardly():
    values = pa.array(["a 'b'"] * 200)
    assert set(encoded(generator(), values, raw=0, twice=0).to_pylist()) == {"a+%27b%27", "a%20%27b%27"}
    assert set(encoded(generator(), values, raw=1, twice=0).to_pylist()) == {"a%20'b'"}
    assert "a%2520%2527b%2527" in encoded(generator(), values, raw=0, twice=1).to_pylist()


def test_mixed_case_changes_nothing_but_the_case_of_chosen_rows():
    texts = pa.array(["skipped", "union select 1", "or 'é'", ""])
    found = mixed_case(generator(), texts.slice(1), np.array([True, False, True])).to_pylist()
    assert found[0].lower() == "union select 1" != found[0]
    assert found[1:] == ["or 'é'", ""]
