"""Detectors without labels on generated traffic, their jobs one after the other in this process."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from wirebert.comparison import compare as competing
from wirebert.comparison import detection
from wirebert.comparison.compare import run_detection
from wirebert.comparison.detection import (
    DETECTORS,
    DetectionMethod,
    DetectionTask,
    as_tables,
    check_detectors,
    summarise,
)
from wirebert.comparison.jobs import ComparisonJob, is_done, work
from wirebert.config import RunConfig, resolve_run
from wirebert.errors import ConfigError
from wirebert.evaluation.test_ledger import read_ledger

QUIET = Console(quiet=True)


def in_this_process(jobs: Sequence[ComparisonJob], out: Path, *_: object) -> None:
    for job in jobs:
        if not is_done(out, job):
            work(out, job)


@pytest.fixture
def run(traffic: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setattr(competing, "_do", in_this_process)
    given = {"train": str(traffic / "train.csv"), "test": [str(traffic / "test.csv")]}
    run = resolve_run(None, [], given)
    chosen = replace(run.comparison, protocol="benign_only", num_seeds=2, detectors=("nearest",))
    return replace(run, comparison=chosen)


@pytest.mark.slow
def test_benign_rows_alone_are_learned_and_the_test_is_counted_and_opened_last(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[set[str], int]] = []
    ledger = tmp_path / "test_reads.jsonl"

    def fit(task: DetectionTask) -> detection.ScoreFlows:
        label = task.train.flows.require_label()
        assert label not in {one.name for one in task.train.flows.schema.features}
        names = {str(name) for table in task.train.tables() for name in table[label].to_pylist()}
        seen.append((names, len(read_ledger(ledger))))
        return DETECTORS["nearest"].fit(task)

    monkeypatch.setitem(DETECTORS, "ours", DetectionMethod("ours", fit))
    run = replace(run, comparison=replace(run.comparison, detectors=("ours",)))
    results = run_detection(run, tmp_path / "out", "", 1, QUIET)
    assert seen == [({"benign"}, 0), ({"benign"}, 1)]  # each seed reads the test after it was fitted
    assert [(one.method, one.split) for one in results] == [("ours", "test")]
    assert len(read_ledger(ledger)) == 2
    assert 0 < results[0].figures["FPR for 1.0%"][0] < 0.2
    assert {"sqli", "novel"} & set(results[0].classes)
    assert json.loads((tmp_path / "out" / "compare.json").read_text())[0]["method"] == "ours"
    assert "| ours |" in (tmp_path / "out" / "compare.md").read_text()


@pytest.mark.slow
def test_some_attacks_may_be_among_what_is_learned(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def fit(task: DetectionTask) -> detection.ScoreFlows:
        names = pa.concat_tables(task.train.tables())[task.train.flows.require_label()].to_numpy()
        shares.append(float((names != "benign").mean()))
        valid = pa.concat_tables(task.benign.tables())[task.train.flows.require_label()].to_pylist()
        assert set(valid) == {"benign"}  # thresholds are always from benign rows
        return lambda table: np.zeros(table.num_rows)

    monkeypatch.setitem(DETECTORS, "ours", DetectionMethod("ours", fit))
    dirty = replace(run.comparison, detectors=("ours",), contamination=0.05, num_seeds=1, max_train_rows=500)
    run_detection(replace(run, comparison=dirty), tmp_path / "out", "", 1, QUIET)
    assert shares == [pytest.approx(0.05, abs=0.003)]


@pytest.mark.slow
def test_attacks_of_the_training_file_are_judged_by_name_and_no_test_is_opened(
    run: RunConfig, tmp_path: Path
) -> None:
    chosen = replace(run.comparison, protocol="leave_attack_out", num_seeds=1)
    (nearest,) = run_detection(replace(run, comparison=chosen), tmp_path / "out", "", 1, QUIET)
    assert {"xss", "vertical_scan"} <= set(nearest.classes)
    assert "benign" not in nearest.classes
    assert all(0 <= mean <= 1 for mean, _ in nearest.classes.values())
    assert not (tmp_path / "test_reads.jsonl").exists()


def test_figures_are_means_over_seeds_and_the_worst_class_is_that_of_the_means() -> None:
    def seed(first: float, second: float) -> dict[str, object]:
        classes = {
            name: {"num_flows": 5, "auroc": value, "tpr": {"0.01": value, "0.001": value / 2}}
            for name, value in {"dos": first, "probe": second}.items()
        }
        return {"left out": {"classes": classes}}

    (result,) = summarise("ours", [seed(0.2, 0.5), seed(0.6, 0.5)])
    assert result.classes["dos"] == (pytest.approx(0.4), pytest.approx(np.std([0.2, 0.6], ddof=1)))
    assert result.figures["TPR at 1.0% FPR, mean"][0] == pytest.approx(0.45)
    assert result.figures["TPR at 1.0% FPR, worst"][0] == pytest.approx(0.4)
    assert result.figures["TPR at 0.1% FPR, mean"][0] == pytest.approx(0.225)
    assert "| ours | 0.400 ± 0.283 | 0.500 ± 0.000 |" in as_tables([result])


def test_an_unknown_detector_is_refused(run: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"comparison\.detectors must be of learn, .*got 'magic'"):
        check_detectors(replace(run, comparison=replace(run.comparison, detectors=("magic",))))
