"""Jobs in this process, on little data: what a method is given, and that tests have no say in it."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pyarrow import parquet

from wirebert.comparison.jobs import (
    RECIPE,
    ComparisonJob,
    HeldOutPredictions,
    default_jobs,
    is_done,
    limit_threads,
    plan,
    work,
)
from wirebert.config import RunConfig, resolve_run, write_run


def small(traffic: Path, test: Path) -> RunConfig:
    run = resolve_run(given={"train": str(traffic / "train.csv"), "test": [str(test)]})
    return replace(run, comparison=replace(run.comparison, num_folds=2, num_trials=2, num_seeds=1))


def test_choices_come_before_tests_and_every_method_has_every_seed() -> None:
    run = replace(RunConfig(), seed=4, comparison=replace(RunConfig().comparison, num_seeds=2, num_trials=3))
    jobs = plan(run, ("forest", "logistic"), with_ours=True)
    opening = [job.opens_tests for job in jobs]
    assert opening == sorted(opening)
    assert len({job.name for job in jobs}) == len(jobs) == 3 + 2 * 3 + 2 + 2 * 2 * 2
    assert {job.number for job in jobs if job.kind in ("run", "plain", "chosen")} == {4, 5}
    assert not any(job.method == RECIPE for job in plan(run, ("forest",), with_ours=False))


def test_held_out_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    part = HeldOutPredictions(np.array([[0.25, 0.75]]), np.array([1]), np.array([0]))
    HeldOutPredictions.joined([part, part]).write(tmp_path)
    found = HeldOutPredictions.read(tmp_path)
    assert found.probabilities.tolist() == [[0.25, 0.75]] * 2
    assert (found.class_ids.tolist(), found.folds.tolist()) == ([1, 1], [0, 0])


def test_processes_share_the_cores() -> None:
    assert limit_threads(10_000)["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(("free_gb", "expected"), [(1, 1), (7, 2), (1000, 8)])
def test_as_many_processes_as_processors_and_memory_hold(
    free_gb: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wirebert.comparison.jobs.num_processors", lambda: 8)
    memory = SimpleNamespace(available=free_gb << 30)
    monkeypatch.setattr("wirebert.comparison.jobs.psutil.virtual_memory", lambda: memory)
    assert default_jobs() == expected


@pytest.mark.slow
def test_what_a_method_learns_and_says_of_validation_rows_is_bit_equal_whatever_the_test_file_holds(
    traffic: Path, tmp_path: Path
) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    test = tmp_path / "test.csv"
    for out, content in zip(outs, ("as it is", "scrambled"), strict=True):
        shutil.copy(traffic / "test.csv", test)
        if content == "scrambled":
            head, *lines = test.read_text(encoding="utf-8").splitlines()
            rows = [line.split(",") for line in lines]
            turned = [",".join([*row[:10], "7", *row[11:-1], "benign"]) for row in reversed(rows)]
            test.write_text("\n".join([head, *turned]) + "\n", encoding="utf-8")
        (out / "choices").mkdir(parents=True)
        write_run(small(traffic, test), out / "compare.toml")
        trial = ComparisonJob(kind="trial", method="logistic", number=1)
        work(out, trial)
        assert is_done(out, trial)
        work(out, ComparisonJob(kind="plain", method="logistic", number=1))
    for name in ("logistic-trial-1/held_out.parquet", "logistic-plain-1/predictions/valid.parquet"):
        first, second = (parquet.read_table(out / "jobs" / name) for out in outs)
        assert first.equals(second)
    tests = [parquet.read_table(out / "jobs/logistic-plain-1/predictions/test.parquet") for out in outs]
    assert not tests[0].equals(tests[1])
    assert (outs[0] / "jobs" / "test_reads.jsonl").read_text().count("\n") == 1  # the trial opened none
