import ast
import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import permutations
from typing import Any, Literal, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.config import ComparisonConfig, EvaluationConfig, LearnConfig, RunConfig
from wirebert.data.config import DataConfig
from wirebert.decision.config import DecisionConfig
from wirebert.encoding.config import EncodingConfig
from wirebert.errors import ConfigError
from wirebert.model.config import ModelConfig
from wirebert.serialization import from_builtins, merge, settings_from_dict, settings_to_dict, to_builtins
from wirebert.training.config import TrainConfig
from wirebert.training.distillation_config import DistillationConfig
from wirebert.training.masking_config import MaskingConfig
from wirebert.training.surprisal_config import SurprisalConfig

SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "encoding": EncodingConfig,
    "model": ModelConfig,
    "training": TrainConfig,
    "distillation": DistillationConfig,
    "decision": DecisionConfig,
    "evaluation": EvaluationConfig,
    "comparison": ComparisonConfig,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    share: float = 0.5
    size: Literal["mini", "base"] = "base"
    names: tuple[str, ...] = ()
    limit: int | None = None
    note: str | None = None
    budget: int | Literal["whole"] | None = None
    weights: Mapping[str, float] = field(default_factory=dict[str, float], hash=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    seed: int = 1
    fast: bool = False
    inner: Inner = field(default_factory=Inner)


inners = st.builds(
    Inner,
    share=st.floats(allow_nan=False),
    size=st.sampled_from(["mini", "base"]),
    names=st.lists(st.text(), max_size=3).map(tuple),
    limit=st.none() | st.integers(),
    note=st.none() | st.text().filter(lambda text: text != "none"),
    budget=st.sampled_from([None, "whole"]) | st.integers(),
    weights=st.dictionaries(st.text(), st.floats(allow_nan=False)),
)
outers = st.builds(Outer, seed=st.integers(), fast=st.booleans(), inner=inners)


@given(outers)
def test_settings_come_back_from_their_plain_values(settings: Outer) -> None:
    assert settings_from_dict(Outer, settings_to_dict(settings)) == settings


names = st.sampled_from(["a", "b", "c"])
plain = st.recursive(st.integers(), lambda below: st.dictionaries(names, below, max_size=3), max_leaves=8)
sections = st.dictionaries(names, plain, max_size=3)


@given(sections, sections, sections)
def test_merging_is_associative_and_keeps_its_arguments(
    one: dict[str, object], two: dict[str, object], three: dict[str, object]
) -> None:
    before = repr((one, two, three))
    assert merge(merge(one, {}), {}) == one == merge({}, one) == merge(one, one)
    assert repr((one, two, three)) == before
    if not _clash(one, two, three):
        assert merge(merge(one, two), three) == merge(one, merge(two, three))


def _clash(*values: object) -> bool:
    """Whether the same name is a section in one and a value in another: then the last word counts, whatever
    it is."""
    maps = [cast(dict[str, object], value) for value in values if isinstance(value, dict)]
    if 0 < len(maps) < len(values):
        return True
    shared = {name for part in maps for name in part}
    return any(_clash(*(part[name] for part in maps if name in part)) for name in shared)


def test_settings_of_different_names_can_be_given_in_any_order() -> None:
    parts: list[dict[str, object]] = [{"seed": 7}, {"inner": {"share": 1}}, {"inner": {"size": "mini"}}]
    resolved: set[Outer] = set()
    for order in permutations(parts):
        values: dict[str, object] = {}
        for part in order:
            values = merge(values, part)
        resolved.add(settings_from_dict(Outer, values))
    assert resolved == {Outer(seed=7, inner=Inner(share=1.0, size="mini"))}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sede": 1}, "unknown setting sede; did you mean seed?"),
        ({"inner": {"shaer": 1}}, "unknown setting inner.shaer; did you mean inner.share?"),
        ({"zzz": 1}, "unknown setting zzz; known here: seed, fast, inner"),
        ({"inner": 3}, "inner is a section: set inner.NAME=VALUE, got 3"),
        ({"seed": 1.5}, "seed must be a whole number, got 1.5"),
        ({"seed": True}, "seed must be a whole number, got True"),
        ({"seed": {"x": 1}}, "seed must be a whole number, got {'x': 1}"),
        ({"fast": 1}, "fast must be true or false, got 1"),
        ({"inner": {"share": "half"}}, "inner.share must be a number, got 'half'"),
        ({"inner": {"share": True}}, "inner.share must be a number, got True"),
        ({"inner": {"share": 10**400}}, "inner.share must be a number"),
        ({"inner": {"size": "huge"}}, "inner.size must be one of mini, base, got 'huge'"),
        ({"inner": {"size": ["mini"]}}, "inner.size must be one of mini, base, got ['mini']"),
        ({"inner": {"budget": "half"}}, "inner.budget must be a whole number or whole, got 'half'"),
        ({"inner": {"weights": 1}}, "inner.weights is a table: set inner.weights.NAME=VALUE, got 1"),
        ({"inner": {"weights": {"a": "b"}}}, "inner.weights.a must be a number, got 'b'"),
        ({"inner": {"names": ["a", 1]}}, "inner.names must be a text, got 1"),
        ({"inner": {"note": 0}}, """inner.note must be a text, got 0; write it as inner.note='"0"'"""),
    ],
)
def test_a_setting_that_can_not_be_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_from_dict(Outer, values)
    assert str(caught.value).startswith(message)


def test_whole_numbers_are_fractions_and_one_text_is_a_list_of_one() -> None:
    inner = settings_from_dict(Inner, {"share": 1, "names": "a", "limit": "none"})
    assert inner == Inner(share=1.0, names=("a",), limit=None)
    assert isinstance(inner.share, float)


@pytest.mark.parametrize(
    "owner", [*SECTIONS.values(), MaskingConfig, SurprisalConfig, RunConfig, LearnConfig]
)
def test_every_setting_says_what_it_is(owner: type) -> None:
    """A string stands under each field: its meaning, its unit, its range. A section speaks for itself."""
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(owner)).body[0]).body
    for statement, below in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            name = cast(ast.Name, statement.target).id
            is_said = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            assert is_said or name in (*SECTIONS, "masking", "surprisal"), (
                f"{owner.__name__}.{name} has no string under it"
            )


@pytest.mark.parametrize(
    "owner", [*SECTIONS.values(), MaskingConfig, SurprisalConfig, RunConfig, LearnConfig]
)
def test_settings_are_frozen_and_may_all_be_left_out(owner: type) -> None:
    assert owner.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]  # dataclasses have it
    for part in fields(cast(Any, owner)):
        assert part.kw_only
        assert part.default is not MISSING or part.default_factory is not MISSING


@pytest.mark.parametrize("owner", SECTIONS.values())
def test_what_may_be_none_is_none_by_default(owner: type) -> None:
    """TOML has no null, so a None is left out of run.toml; it comes back only if it is the default."""
    for part in fields(cast(Any, owner)):
        if "None" in str(part.type):
            assert part.default is None, f"{owner.__name__}.{part.name}"


def test_the_sections_are_those_of_a_run() -> None:
    run = RunConfig()
    assert {name: type(getattr(run, name)) for name in SECTIONS} == SECTIONS
    assert run == settings_from_dict(RunConfig, settings_to_dict(run))


@dataclass(frozen=True)
class InnerReport:
    rate: float
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class OuterReport:
    name: str
    inner: tuple[InnerReport, ...]
    ends: tuple[int, float]
    by_name: Mapping[str, InnerReport | None]
    anything: object = None


def test_dataclasses_survive_json() -> None:
    outer = OuterReport(
        "x",
        (InnerReport(1.0), InnerReport(0.5, "b")),
        (1, 2.0),
        {"one": InnerReport(3.0), "none": None},
        {"a": [1]},
    )
    assert from_builtins(OuterReport, json.loads(json.dumps(to_builtins(outer)))) == outer


def test_whole_numbers_become_floats_where_floats_belong() -> None:
    assert isinstance(from_builtins(InnerReport, {"rate": 1}).rate, float)


@pytest.mark.parametrize("data", [{"rate": "fast"}, {}, {"rate": 1.0, "kind": "c"}, [1.0], None])
def test_a_value_of_the_wrong_type_is_refused(data: object) -> None:
    with pytest.raises(TypeError):
        from_builtins(InnerReport, data)


def test_unknown_fields_are_passed_over() -> None:
    assert from_builtins(InnerReport, {"rate": 1.0, "newer": 2}) == InnerReport(1.0)
