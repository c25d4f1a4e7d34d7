"""Recipes are frozen by hash, so that quoted results belong to the recipes that are here."""

import hashlib
import json
from pathlib import Path

import pytest

from wirebert.cli import training_commands
from wirebert.cli.main import main
from wirebert.config import RunConfig, find_recipe, read_toml, resolve_run
from wirebert.data.registry import known_datasets
from wirebert.data.schema.library import known_schemas
from wirebert.errors import ConfigError

RECIPES = Path(__file__).resolve().parent.parent / "src" / "wirebert" / "recipes"
NAMES = sorted(path.name for path in RECIPES.glob("*.toml"))


def test_every_recipe_is_frozen_by_its_hash() -> None:
    hashes = {name: hashlib.sha256((RECIPES / name).read_bytes()).hexdigest() for name in NAMES}
    assert hashes == json.loads((RECIPES / "frozen.json").read_text(encoding="utf-8")), (
        "a recipe changed: if intended, run `python benchmarks/quality.py --freeze` and measure it again"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_names_its_primary_metric(name: str) -> None:
    resolve_run(RECIPES / name)
    assert "primary_metric" in str(read_toml(RECIPES / name)["evaluation"])


def test_the_second_class_map_of_nsl_kdd_moves_labels_that_training_lacks() -> None:
    label_map = known_schemas()["nsl_kdd"].label_map
    assert (label_map["httptunnel"], label_map["worm"]) == ("u2r", "r2l")
    assert resolve_run(RECIPES / "nsl_kdd.toml").comparison.alternative_label_map == {
        "httptunnel": "r2l",
        "worm": "dos",
    }


def test_a_recipe_is_found_by_name_and_by_path_and_none_leaves_it_out():
    assert find_recipe("nsl_kdd") == RECIPES / "nsl_kdd.toml"
    assert find_recipe(str(RECIPES / "ton_iot.toml")) == RECIPES / "ton_iot.toml"
    assert find_recipe("none") is None
    with pytest.raises(ConfigError, match=r"no recipe or TOML file 'nsl_kd', did you mean 'nsl_kdd'"):
        find_recipe("nsl_kd")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_made_for_a_published_file(name: str):
    published = {
        file.name for data_set in known_datasets().values() for file in data_set.files if file.sha256
    }
    assert read_toml(RECIPES / name)["for_file"] in published


def test_a_published_file_is_trained_by_its_recipe_which_is_told(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    begun: list[RunConfig] = []

    def fit(run: RunConfig, *_: object, **__: object) -> None:
        begun.append(run)

    monkeypatch.setattr(training_commands, "fit", fit)
    train = ["train", str(data_dir / "nsl-kdd" / "KDDTrain+.txt.gz"), "--out"]
    assert main([*train, str(tmp_path / "own")]) == 0
    assert "recipe nsl_kdd" in capsys.readouterr().err
    assert (tmp_path / "own" / "recipe.toml").read_bytes() == (RECIPES / "nsl_kdd.toml").read_bytes()
    assert main([*train, str(tmp_path / "named"), "--recipe", "nsl_kdd"]) == 0
    for number, other in enumerate((["--recipe", "none"], ["--positive", "dos"])):
        assert main([*train, str(tmp_path / str(number)), *other]) == 0
    assert capsys.readouterr().err == ""
    assert begun[0] == begun[1]
    assert begun[0].training.class_weights == "sqrt"
    assert begun[2] == resolve_run(given={"train": begun[2].train})
    assert begun[3].distillation == begun[2].distillation
