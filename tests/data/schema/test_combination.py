import pytest

from wirebert.data.schema.combination import Combination
from wirebert.errors import SchemaError


def test_a_combination_survives_being_written():
    combination = Combination(name="x", operation="pair", columns=("a", "b"))
    assert Combination.from_dict(combination.to_dict(), "schema") == combination


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ("x", "has name, operation and columns"),
        ({"name": "x", "operation": "ratio"}, "has name, operation and columns"),
        (
            {"name": "x", "operation": "sum", "columns": ["a", "b"]},
            "must be one of ratio, share, pair, got 'sum'",
        ),
        ({"name": "x", "operation": "ratio", "columns": ["a"]}, "columns must be two names"),
        ({"name": "x", "operation": "ratio", "columns": ["a", 1]}, "columns must be two names"),
    ],
)
def test_what_is_no_combination_is_one_sentence(plain: object, message: str):
    with pytest.raises(SchemaError, match=message):
        Combination.from_dict(plain, "schema")
