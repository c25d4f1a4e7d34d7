import os
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.config import RunConfig, parse_override, read_toml, resolve_run, write_run
from wirebert.data.config import DataConfig
from wirebert.encoding.config import EncodingConfig
from wirebert.errors import ConfigError
from wirebert.model.config import ModelConfig
from wirebert.training.config import TrainConfig

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Settings are built inside the test: their checks draw random numbers, which strategies must not.
SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "encoding": EncodingConfig,
    "model": ModelConfig,
    "training": TrainConfig,
}
runs = st.fixed_dictionaries(
    {
        "train": texts,
        "test": st.lists(texts, max_size=3).map(tuple),
        "seed": st.integers(0, 2**31 - 1),
        "data": st.fixed_dictionaries(
            {
                "label": st.none() | texts.filter(lambda text: text != "none"),
                "quote": st.sampled_from([None, "", "'"]),
                "accepted_findings": st.lists(texts, max_size=2).map(tuple),
                "valid_fraction": st.floats(0.01, 0.5),
                "has_header": st.sampled_from([None, True, False]),
            }
        ),
        "encoding": st.fixed_dictionaries(
            {"num_bins": st.integers(1, 255), "omit_most_frequent": st.none() | st.booleans()}
        ),
        "model": st.fixed_dictionaries(
            {"dim": st.none() | st.integers(1), "dropout": st.none() | st.floats(0, 0.99)}
        ),
        "training": st.fixed_dictionaries(
            {
                "learning_rate": st.none() | st.floats(1e-300, 1e300),
                "schedule": st.sampled_from(["linear", "cosine"]),
                "micro_batch_tokens": st.sampled_from([None, "whole"]) | st.integers(1, 2**40),
            }
        ),
    }
)


@given(values=runs)
def test_a_written_run_comes_back(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    sections = {name: owner(**values[name]) for name, owner in SECTIONS.items()}
    run = RunConfig(**(values | sections))
    path = tmp_path_factory.getbasetemp() / "written.toml"
    write_run(run, path)
    assert resolve_run(path) == run


def test_a_recipe_is_below_overrides_and_these_are_below_options(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('seed = 1\n[model]\nsize = "base"\ndim = 96\n[training]\nepochs = 9\n')
    run = resolve_run(recipe, ["seed=2", "model.size=mini", "training.epochs=5"], {"seed": 3})
    assert (run.seed, run.model.size, run.model.dim, run.training.epochs) == (3, "mini", 96, 5)


def test_overrides_may_stand_in_any_order() -> None:
    overrides = ["model.size=mini", "training.epochs=3", "model.dim=64", "seed=5"]
    assert len({resolve_run(overrides=order) for order in permutations(overrides)}) == 1


def test_a_table_is_set_entry_by_entry_and_cleared_by_none(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[decision.logit_offsets]\ndos = 1\n")
    assert resolve_run(recipe, ["decision.logit_offsets.r2l=2"]).decision.logit_offsets == {
        "dos": 1,
        "r2l": 2,
    }
    assert resolve_run(recipe, ["decision.logit_offsets=none"]).decision.logit_offsets == {}
    with pytest.raises(
        ConfigError, match=r"decision\.logit_offsets is a table: set .*NAME=VALUE, got 'r2l=2'"
    ):
        resolve_run(recipe, ["decision.logit_offsets=r2l=2"])
    with pytest.raises(ConfigError, match=r"decision\.logit_offsets\.r2l must be a number, got 'much'"):
        resolve_run(recipe, ["decision.logit_offsets.r2l=much"])


@pytest.mark.parametrize("word", ["none", "auto"])
def test_a_setting_of_a_recipe_is_made_automatic_again(word: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[training]\nepochs = 9\n")
    assert resolve_run(recipe, [f"training.epochs={word}"]).training.epochs is None


def test_of_two_values_for_one_setting_the_last_counts() -> None:
    assert resolve_run(overrides=["seed=5", "seed=6"]).seed == 6


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("training.epochs=3", {"training": {"epochs": 3}}),
        ("training.learning_rate=1e-4", {"training": {"learning_rate": 1e-4}}),
        ("evaluation.baseline=false", {"evaluation": {"baseline": False}}),
        ("model.size=mini", {"model": {"size": "mini"}}),
        ("model.size = mini", {"model": {"size": "mini"}}),
        ("model.init_from=/models/a=b", {"model": {"init_from": "/models/a=b"}}),
        ('data.benign="0"', {"data": {"benign": "0"}}),
        ('encoding.networks=["10.0.0.0/8"]', {"encoding": {"networks": ["10.0.0.0/8"]}}),
        ("encoding.networks=10.0.0.0/8", {"encoding": {"networks": "10.0.0.0/8"}}),
        ("data.quote=", {"data": {"quote": ""}}),
        ("decision.prior.normal=0.99", {"decision": {"prior": {"normal": 0.99}}}),
        ("decision.prior.Web Attack=0.1", {"decision": {"prior": {"Web Attack": 0.1}}}),
        ('decision.prior."a.b=c"=0.1', {"decision": {"prior": {"a.b=c": 0.1}}}),
        ("decision.prior={dos = 0.1}", {"decision": {"prior": {"dos": 0.1}}}),
        ("data.label=a\nseed=3", {"data": {"label": "a\nseed=3"}}),
        ("seed=3\nseed_too=4", {"seed": "3\nseed_too=4"}),
    ],
)
def test_a_value_is_toml_or_else_text(text: str, value: dict[str, object]) -> None:
    assert parse_override(text) == value


@pytest.mark.parametrize("text", ["", "seed", "=3", ".seed=3", "model..size=mini", "model.=mini"])
def test_what_is_no_override_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set expects SECTION\.NAME=VALUE"):
        parse_override(text)


@pytest.mark.parametrize(
    ("content", "found"), [(None, "No such file"), (b"[model", "an error"), (b"\xff\xfe\x00", "an error")]
)
def test_a_recipe_that_can_not_be_read_is_named(content: bytes | None, found: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"recipe .*recipe\.toml: expected .*{found}"):
        read_toml(path)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a readable TOML file, found Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1",
        "seed=2147483648",
        "evaluation.baseline_rows=99",
        "evaluation.num_resamples=0",
        "data.block_mb=0",
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_range(override: str) -> None:
    name, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=rf"^{name} must be .*, got {value}"):
        resolve_run(overrides=[override])


def test_a_written_run_says_above_each_setting_what_it_means(tmp_path: Path) -> None:
    write_run(RunConfig(), tmp_path / "run.toml")
    lines = (tmp_path / "run.toml").read_text().splitlines()
    above = [lines[at - 1] for at, line in enumerate(lines) if line == "batch_size = 256"]
    assert len(above) == 1
    at = lines.index("batch_size = 256")
    assert lines[at - 2].startswith("# Flows per optimizer step")
    assert '# workers = "none"' in lines


def test_a_run_that_is_written_has_no_setting_left_out_but_those_that_are_unset(tmp_path: Path) -> None:
    run = replace(RunConfig(), train="flows.csv")
    write_run(run, tmp_path / "run.toml")
    written = read_toml(tmp_path / "run.toml")
    training = written["training"]
    assert isinstance(training, dict)
    assert set(training) == set(TrainConfig.__dataclass_fields__) - {
        *("epochs", "learning_rate", "micro_batch_tokens", "workers", "threads", "cuda_graphs"),
    }


def test_a_deep_recipe_is_one_sentence_and_a_deep_setting_is_text(tmp_path: Path):
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 5000 + "]" * 5000)
    with pytest.raises(ConfigError, match="expected TOML"):
        read_toml(path)
    assert parse_override("a=" + "[" * 5000) == {"a": "[" * 5000}


def test_a_run_keeps_the_bytes_of_a_file_name(tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_bytes(b'train = "caf\xe9.csv"\n')
    assert os.fsencode(str(read_toml(path)["train"])) == b"caf\xe9.csv"
