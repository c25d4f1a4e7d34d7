import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pytest

from wirebert.evaluation.plain import from_plain, to_plain


@dataclass(frozen=True)
class Inner:
    rate: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    ends: tuple[int, float]
    by_name: Mapping[str, Inner | None]
    anything: object = None


def test_dataclasses_survive_json() -> None:
    outer = Outer("x", (Inner(1.0), Inner(0.5, "b")), (1, 2.0), {"one": Inner(3.0), "none": None}, {"a": [1]})
    assert from_plain(Outer, json.loads(json.dumps(to_plain(outer)))) == outer


def test_whole_numbers_become_floats_where_floats_belong() -> None:
    assert isinstance(from_plain(Inner, {"rate": 1}).rate, float)


@pytest.mark.parametrize("data", [{"rate": "fast"}, {}, {"rate": 1.0, "kind": "c"}, [1.0], None])
def test_a_value_of_the_wrong_type_is_refused(data: object) -> None:
    with pytest.raises(TypeError):
        from_plain(Inner, data)


def test_unknown_fields_are_passed_over() -> None:
    assert from_plain(Inner, {"rate": 1.0, "newer": 2}) == Inner(1.0)
