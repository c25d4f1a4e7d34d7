"""A whole comparison over splits at toy size, its jobs one after the other in this process."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from wirebert import competing
from wirebert.cli import main
from wirebert.config import RunConfig, resolve_run
from wirebert.contest import Job, is_done, work
from wirebert.errors import ConfigError
from wirebert.report.comparison import (Comparison)
from wirebert.serialization import (from_plain)
from wirebert.resplitting import compete_on_splits

QUIET = Console(quiet=True)


def in_this_process(jobs: Sequence[Job], out: Path, num_jobs: int, console: Console) -> None:
    for job in jobs:
        if not is_done(out, job):
            work(out, job)


@pytest.fixture
def run(traffic: Path, tiny: list[str]) -> RunConfig:
    given = {"train": str(traffic / "train.csv"), "data": {"test_fraction": 0.3, "split_seed": 4}}
    run = resolve_run(None, tiny[1::2], given)
    few = replace(
        run.protocol, num_splits=2, num_seeds=1, num_trials=1, num_folds=2, methods=("logistic", "forest")
    )
    return replace(run, protocol=few)


@pytest.mark.slow
def test_each_split_is_a_comparison_and_the_whole_their_mean(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(competing, "_do", in_this_process)
    found = compete_on_splits(run, tmp_path / "out", "", 1, QUIET)
    parts = [
        from_plain(Comparison, json.loads((tmp_path / "out" / f"split-{seed}" / "compare.json").read_text()))
        for seed in (4, 5)
    ]
    (split,) = found.splits
    for method, figures in split.standings.items():
        for figure, standing in figures.items():
            values = [part.splits[0].standings[method][figure].value for part in parts]
            assert standing.value == pytest.approx(np.mean(values))
    assert split.standings.keys() == parts[0].splits[0].standings.keys()
    assert {one.second for one in split.differences} == {
        "logistic regression, every step",
        "random forest, every step",
    }
    hashes = {(tmp_path / "out" / f"split-{seed}" / "compare.toml").read_text() for seed in (4, 5)}
    assert len(hashes) == 2
    assert "2 splits of train.csv" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "| test, 2 splits |" in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")


def test_a_test_file_is_the_same_whatever_the_split(run: RunConfig, traffic: Path, tmp_path: Path) -> None:
    wrong = replace(run, test=(str(traffic / "test.csv"),))
    with pytest.raises(ConfigError, match=r"protocol\.num_splits must be 1 where tests are files"):
        compete_on_splits(wrong, tmp_path / "out", "", 1, QUIET)
    assert not (tmp_path / "out").exists()


def test_finished_runs_do_not_stand_for_several_splits(
    traffic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "data.test_fraction=0.3", "--set", "protocol.num_splits=2", "--run", str(tmp_path)]
    assert main(["compare", str(traffic / "train.csv"), "--out", str(tmp_path / "out"), *words]) == 2
    assert "--run must be left out" in capsys.readouterr().err
