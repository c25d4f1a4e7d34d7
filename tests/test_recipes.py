"""Recipes are frozen by hash, so that quoted results belong to the recipes that are here."""

import hashlib
import json
from pathlib import Path

import pytest

from wirebert.config import read_toml, resolve_run
from wirebert.data.schema.library import known_schemas

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
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
