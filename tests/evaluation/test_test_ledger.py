import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wirebert.errors import RunError
from wirebert.evaluation.test_ledger import (
    ledger_beside,
    num_reads,
    read_ledger,
    record_test_read,
    settings_hash,
)
from wirebert.report.report import FileUsage


def note(folder: Path, sha256: str = "aa", seed: int = 1, **more: object) -> FileUsage:
    return record_test_read(
        folder / "run",
        data="test.csv",
        sha256=sha256,
        command="wirebert train",
        settings={"seed": seed, "model": {"size": "mini"}, **more},
    )


def test_reads_are_appended_and_counted_by_content(tmp_path: Path) -> None:
    ledger = ledger_beside(tmp_path / "run")
    assert ledger == tmp_path / "test_reads.jsonl"
    assert read_ledger(ledger) == []
    note(tmp_path)
    before = ledger.read_bytes()
    note(tmp_path, seed=2)
    note(tmp_path, sha256="bb")
    assert note(tmp_path, training={"epochs": 3}) == FileUsage("aa", 3, 2)  # a seed is no other setting
    assert ledger.read_bytes().startswith(before)
    assert num_reads(read_ledger(ledger), "cc") == (0, 0)


def test_lines_of_several_writers_stay_whole(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, [tmp_path] * 40))
    assert len(read_ledger(tmp_path / "test_reads.jsonl")) == 40


def test_the_recipe_is_hashed_as_its_file_stands(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[model]\nsize = 'mini'\n")
    record_test_read(tmp_path / "run", data="-", sha256="a", command="c", settings={}, recipe=recipe)
    (read,) = read_ledger(tmp_path / "test_reads.jsonl")
    assert read.recipe_sha256 == hashlib.sha256(recipe.read_bytes()).hexdigest()
    assert (read.run, read.settings_sha256) == ("run", "")


def test_a_line_that_is_no_read_is_refused_by_its_number(tmp_path: Path) -> None:
    note(tmp_path)
    with (tmp_path / "test_reads.jsonl").open("a") as file:
        file.write(json.dumps({"time": "now"}) + "\n")
    with pytest.raises(RunError, match="line 2"):
        read_ledger(tmp_path / "test_reads.jsonl")


def test_where_the_cache_lies_and_which_dice_are_thrown_is_no_choice() -> None:
    settings = {"data": {"split": "random", "split_seed": 1}, "train": "a", "test": ["b"], "seed": 1}
    moved = {"data": {"split": "random", "cache": "/tmp"}, "train": "c", "test": [], "seed": 2}
    assert settings_hash(settings) == settings_hash(moved)
    assert settings_hash(settings) != settings_hash({"data": {"split": "time"}})
