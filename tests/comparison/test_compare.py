"""A whole comparison at toy size, its jobs one after the other in this process."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from rich.console import Console
from sklearn.metrics import f1_score

from wirebert.cluster.ray_executor import RayCluster
from wirebert.comparison import compare as competing
from wirebert.comparison.compare import run_comparison
from wirebert.comparison.jobs import ComparisonJob, is_done, work
from wirebert.config import RunConfig, resolve_run, write_run
from wirebert.errors import ConfigError, RunError
from wirebert.evaluation.test_ledger import read_ledger
from wirebert.report.comparison import Comparison

QUIET = Console(quiet=True)
NOTHING_IS_ZERO: dict[str, Any] = {"zero_division": 0.0}


def in_this_process(
    jobs: Sequence[ComparisonJob], out: Path, num_jobs: int, console: Console, stop_s: float | None = None
) -> None:
    for job in jobs:
        if not is_done(out, job):
            work(out, job)


@pytest.fixture(scope="module")
def run(traffic: Path, tiny: list[str]) -> RunConfig:
    given = {"train": str(traffic / "train.csv"), "test": [str(traffic / "test.csv")]}
    run = resolve_run(None, tiny[1::2], given)
    few = replace(run.comparison, num_seeds=2, num_trials=2, num_folds=2, methods=("logistic",))
    return replace(run, comparison=replace(few, alternative_label_map={"novel": "xss"}))


@pytest.fixture(scope="module")
def compared(run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    out = tmp_path_factory.mktemp("compare") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(competing, "_do", in_this_process)
        return out, run_comparison(run, out, "# a recipe\n", [], 1, QUIET)


@pytest.mark.slow
def test_every_method_stands_in_every_state_on_the_same_rows(compared: tuple[Path, Comparison]) -> None:
    out, comparison = compared
    (split, mapped) = comparison.splits
    assert (split.name, mapped.name) == ("test", "test (novel as xss)")
    titles, states = (
        ("wirebert", "logistic regression"),
        ("default", "tuned + calibrated", "seed ensemble"),
    )
    assert list(split.estimates) == [f"{title}, {state}" for title in titles for state in states]
    for method, state in (("wirebert-run", "wirebert"), ("logistic-plain", "logistic regression")):
        expected: list[float] = []
        for seed in (1, 2):
            table = parquet.read_table(out / "jobs" / f"{method}-{seed}" / "predictions" / "test.parquet")
            true, said = (
                [str(text) for text in table.column(name).to_pylist()]
                for name in ("true_class", "predicted_class")
            )
            labels = sorted({*true, *said})
            expected.append(f1_score(true, said, labels=labels, average="macro", **NOTHING_IS_ZERO))
        assert split.estimates[f"{state}, default"]["macro_f1"].value == pytest.approx(np.mean(expected))
    assert {(d.first, d.second) for d in split.differences} == {
        (f"wirebert, {state}", f"logistic regression, {state}") for state in states[1:]
    }


@pytest.mark.slow
def test_it_leaves_a_page_a_table_and_figures_for_programs(compared: tuple[Path, Comparison]) -> None:
    out, _ = compared
    assert "<svg" in (out / "compare.html").read_text(encoding="utf-8")
    assert "| wirebert, tuned + calibrated |" in (out / "compare.md").read_text(encoding="utf-8")
    assert json.loads((out / "compare.json").read_text(encoding="utf-8"))["primary"] == "macro_f1"
    assert (out / "recipe.toml").read_text(encoding="utf-8") == "# a recipe\n"


@pytest.mark.slow
def test_every_read_of_the_test_is_in_the_ledger_beside_it(compared: tuple[Path, Comparison]) -> None:
    out, comparison = compared
    reads = read_ledger(out.parent / "test_reads.jsonl")
    assert len(reads) == 2 + 2 * 2  # ours, and the other method as it is and as chosen, with two seeds each
    assert comparison.files["test"].num_reads == 6
    assert len({read.recipe_sha256 for read in reads} - {""}) == 1
    assert len({read.settings_sha256 for read in reads}) == comparison.files["test"].num_settings


@pytest.mark.slow
def test_what_is_done_is_not_done_again(
    compared: tuple[Path, Comparison], run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, comparison = compared

    def refuse(jobs: Sequence[ComparisonJob], out: Path, num_jobs: int, console: Console) -> None:
        assert all(is_done(out, job) for job in jobs)

    monkeypatch.setattr(competing, "_do", refuse)
    assert run_comparison(run, out, "# a recipe\n", [], 1, QUIET) == comparison
    with pytest.raises(RunError, match="other settings"):
        run_comparison(replace(run, seed=7), out, "", [], 1, QUIET)


@pytest.mark.slow
def test_finished_runs_may_stand_for_ours(
    compared: tuple[Path, Comparison], run: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(competing, "_do", in_this_process)
    jobs, again = compared[0] / "jobs", tmp_path / "again"
    shutil.copytree(jobs, again / "jobs", ignore=shutil.ignore_patterns("wirebert-*", "test_reads.jsonl"))
    runs = [jobs / f"wirebert-run-{seed}" for seed in (1, 2)]
    found = run_comparison(run, again, "", runs, 1, QUIET)
    for figure, standing in found.splits[0].estimates["wirebert, default"].items():
        assert standing.value == pytest.approx(
            compared[1].splits[0].estimates["wirebert, default"][figure].value
        )


def test_a_figure_of_attack_or_not_needs_a_benign_class(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts(run: RunConfig, out: Path) -> competing.Facts:
        return competing.Facts(classes=("a", "b"), benign=None, benign_id=None, text_columns=())

    monkeypatch.setattr(competing, "_facts", facts)
    wrong = replace(run, evaluation=replace(run.evaluation, primary_metric="binary_accuracy"))
    with pytest.raises(ConfigError, match="where no class means benign, got binary_accuracy"):
        run_comparison(wrong, tmp_path / "out", "", [], 1, QUIET)


@pytest.mark.slow
def test_an_unknown_method_is_refused(run: RunConfig, tmp_path: Path) -> None:
    wrong = replace(run, comparison=replace(run.comparison, methods=("forrest",)))
    with pytest.raises(ConfigError, match="got 'forrest'"):
        run_comparison(wrong, tmp_path / "out", "", [], 1, QUIET)


def test_time_that_is_over_cuts_every_method_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    methods = ("forest", "logistic")
    jobs = [ComparisonJob(kind="trial", method=name, number=trial) for trial in range(3) for name in methods]

    def finish(job: ComparisonJob) -> None:
        folder = tmp_path / "jobs" / job.name
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")

    def cut(some: Sequence[ComparisonJob], *_: object) -> None:
        for job in some[:3]:  # one method has two trials, the other has one
            finish(job)

    monkeypatch.setattr(competing, "_do", cut)
    assert competing.tune(jobs, tmp_path, 1, 5.0, QUIET) == 1
    for job in jobs[3:]:
        finish(job)
    assert competing.tune(jobs, tmp_path, 1, 5.0, QUIET) == 1  # as choices were made with one


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1200)
def test_jobs_on_a_ray_cluster_give_the_same_comparison(
    run: RunConfig, compared: tuple[Path, Comparison], tmp_path: Path
) -> None:
    cluster = RayCluster("local", 2, is_fresh=True)
    try:
        found = run_comparison(run, tmp_path / "out", "# a recipe\n", [], cluster, QUIET)
    finally:
        cluster.close()
    assert [one.estimates for one in found.splits] == [one.estimates for one in compared[1].splits]


@pytest.mark.slow
def test_after_its_time_only_first_trials_start(
    run: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = replace(run, comparison=replace(run.comparison, num_trials=3))
    write_run(two, tmp_path / "compare.toml")
    jobs = [ComparisonJob(kind="trial", method="logistic", number=trial) for trial in range(3)]
    assert competing.tune(jobs, tmp_path, 1, 1e-9, Console(width=110)) == 1
    assert [is_done(tmp_path, job) for job in jobs] == [True, False, False]
    assert "1/3 logistic-trial-0; about 0:0" in capsys.readouterr().out
