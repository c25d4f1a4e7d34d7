"""A whole comparison over splits at toy size, its jobs one after the other in this process."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import ttest_1samp

from wirebert.cli.main import main
from wirebert.comparison import compare as competing
from wirebert.comparison.jobs import ComparisonJob, is_done, work
from wirebert.comparison.splits import compare_on_splits, corrected_interval, over_splits
from wirebert.config import RunConfig, resolve_run
from wirebert.errors import ConfigError
from wirebert.metrics.significance import DifferenceInterval, holm
from wirebert.report.comparison import ClassEstimates, Comparison, Difference, MetricEstimate, SplitComparison
from wirebert.report.comparison_page import estimates_chart
from wirebert.report.comparison_terminal import comparison_remarks, difference_cells, estimate_cells
from wirebert.serialization import from_builtins

QUIET = Console(quiet=True)


def in_this_process(jobs: Sequence[ComparisonJob], out: Path, num_jobs: int, console: Console) -> None:
    for job in jobs:
        if not is_done(out, job):
            work(out, job)


@pytest.fixture
def run(traffic: Path, tiny: list[str]) -> RunConfig:
    given = {"train": str(traffic / "train.csv"), "data": {"test_fraction": 0.3, "split_seed": 4}}
    run = resolve_run(None, tiny[1::2], given)
    few = replace(
        run.comparison, num_splits=2, num_seeds=1, num_trials=1, num_folds=2, methods=("logistic", "forest")
    )
    return replace(run, comparison=few)


@pytest.mark.soak
def test_each_split_is_a_comparison_and_the_whole_their_mean(
    run: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(competing, "_do", in_this_process)
    found = compare_on_splits(run, tmp_path / "out", "", 1, QUIET)
    parts = [
        from_builtins(
            Comparison, json.loads((tmp_path / "out" / f"split-{seed}" / "compare.json").read_text())
        )
        for seed in (4, 5)
    ]
    (split,) = found.splits
    for method, figures in split.estimates.items():
        for figure, standing in figures.items():
            values = [part.splits[0].estimates[method][figure].value for part in parts]
            assert standing.value == pytest.approx(np.mean(values))
    assert split.estimates.keys() == parts[0].splits[0].estimates.keys()
    assert {one.second for one in split.differences} == {
        "logistic regression, tuned + calibrated",
        "random forest, tuned + calibrated",
    }
    hashes = {(tmp_path / "out" / f"split-{seed}" / "compare.toml").read_text() for seed in (4, 5)}
    assert len(hashes) == 2
    assert "2 splits of train.csv" in (tmp_path / "out" / "compare.html").read_text(encoding="utf-8")
    assert "| test, 2 splits |" in (tmp_path / "out" / "compare.md").read_text(encoding="utf-8")


def test_a_test_file_is_the_same_whatever_the_split(run: RunConfig, traffic: Path, tmp_path: Path) -> None:
    wrong = replace(run, test=(str(traffic / "test.csv"),))
    with pytest.raises(ConfigError, match=r"comparison\.num_splits must be 1 with separate test files"):
        compare_on_splits(wrong, tmp_path / "out", "", 1, QUIET)
    assert not (tmp_path / "out").exists()


def test_finished_runs_do_not_stand_for_several_splits(
    traffic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--set", "data.test_fraction=0.3", "--set", "comparison.num_splits=2", "--run", str(tmp_path)]
    assert main(["compare", str(traffic / "train.csv"), "--out", str(tmp_path / "out"), *words]) == 2
    assert "--run cannot be used with comparison.num_splits" in capsys.readouterr().err


OURS, OTHER, THIRD = (0.61, 0.63, 0.62, 0.60), (0.60, 0.60, 0.61, 0.61), (0.5, 0.4, 0.5, 0.4)


def comparison(*values: float) -> SplitComparison:
    """Of three methods with two seeds each."""
    names = ("ours, tuned + calibrated", "other, tuned + calibrated", "third, tuned + calibrated")
    rows = {"rows": (0.0, 1.0), "seeds": (0.1, 0.9)}
    standings = {
        name: {"macro_f1": MetricEstimate(value=value, std=0.1, intervals=rows)}
        for name, value in zip(names, values, strict=True)
    }
    differences = tuple(
        Difference(
            first=names[0],
            second=name,
            metric="macro_f1",
            value=values[0] - value,
            intervals={"seeds": DifferenceInterval((-1.0, 1.0), 0.5, 1.0)},
        )
        for name, value in zip(names[1:], values[1:], strict=True)
    )
    return SplitComparison(
        name="test", num_flows=100, num_clusters=0, estimates=standings, differences=differences
    )


SPLITS = [comparison(*values) for values in zip(OURS, OTHER, THIRD, strict=True)]


def test_a_figure_is_the_mean_over_splits_with_their_spread() -> None:
    found = over_splits(SPLITS, 0.3)
    assert found.name == "test, 4 splits"
    own = found.estimates["ours, tuned + calibrated"]["macro_f1"]
    assert own.value == pytest.approx(np.mean(OURS))
    assert own.std == pytest.approx(np.std(OURS, ddof=1))
    assert own.intervals.keys() == {"splits"}


def test_differences_are_paired_split_by_split_and_corrected_for_their_number() -> None:
    differences = over_splits(SPLITS, 0.3).differences
    assert [one.second for one in differences] == ["other, tuned + calibrated", "third, tuned + calibrated"]
    for one, other in zip(differences, (OTHER, THIRD), strict=True):
        gaps = np.subtract(OURS, other)
        assert one.value == pytest.approx(gaps.mean())
        assert one.intervals["splits"].interval == pytest.approx(corrected_interval(gaps, 0.3).interval)
    ways = [one.intervals["splits"] for one in differences]
    assert [way.p_holm for way in ways] == holm([way.p for way in ways])


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9).filter(lambda values: np.ptp(values) > 1e-6))
def test_with_next_to_no_test_rows_it_is_students_test(values: list[float]) -> None:
    found = corrected_interval(np.array(values), 1e-12)
    expected = ttest_1samp(values, 0)
    _, p = expected
    assert found.p == pytest.approx(p, rel=1e-6)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)


def test_the_share_of_test_rows_widens_the_interval() -> None:
    """Of 5 splits with 30 % test rows: sqrt((1 / 5 + 3 / 7) / (1 / 5)) times Student's."""
    values = np.array([0.01, 0.02, -0.01, 0.03, 0.0])
    plain = ttest_1samp(values, 0).confidence_interval(0.95)
    low, high = corrected_interval(values, 0.3).interval
    assert (high - low) / (plain.high - plain.low) == pytest.approx(np.sqrt(22 / 7))


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.2, 0.0)])
def test_equal_differences_leave_nothing_to_chance(value: float, p: float) -> None:
    found = corrected_interval(np.full(3, value), 0.3)
    assert found.interval == (value, value)
    assert found.p == p


def test_a_figure_that_one_split_lacks_is_left_out() -> None:
    few = [*SPLITS[:3], SplitComparison(name="test", num_flows=90, num_clusters=0)]
    found = over_splits(few, 0.3)
    assert not found.estimates
    assert not found.differences


def test_tables_say_that_splits_were_drawn() -> None:
    found = over_splits(SPLITS, 0.3)
    assert estimate_cells(found, "macro_f1")[1][0][1].startswith("0.615 ± 0.013\n[")
    assert difference_cells(found.differences)[0][-1] == "over splits of the file"
    told = " ".join(comparison_remarks(found, Comparison(title="", primary="macro_f1", splits=(found,))))
    assert "over splits; below, the 95 % CI, over splits of the file" in told
    assert "flows one by one" not in told
    assert "over splits of the file" in str(estimates_chart(found, "macro_f1").spec)


def test_classes_that_all_splits_have_are_averaged_too() -> None:
    splits = [
        replace(
            split,
            classes={
                name: ClassEstimates(
                    num_flows=10 + number,
                    estimates={
                        method: MetricEstimate(value=value, std=None, intervals={})
                        for method, value in {"ours": ours, "other": 0.5}.items()
                    },
                )
                for name in (["dos", "rare"] if number else ["dos"])
            },
            class_differences=(
                Difference(
                    first="ours",
                    second="other",
                    metric="f1",
                    value=ours - 0.5,
                    intervals={},
                    class_name="dos",
                ),
            ),
        )
        for number, (split, ours) in enumerate(zip(SPLITS, OURS, strict=True))
    ]
    found = over_splits(splits, 0.3)
    assert list(found.classes) == ["dos"]
    assert found.classes["dos"].num_flows == 12  # of 10 to 13
    assert found.classes["dos"].estimates["ours"].value == pytest.approx(np.mean(OURS))
    (difference,) = found.class_differences
    assert (difference.class_name, difference.value) == ("dos", pytest.approx(np.mean(OURS) - 0.5))
    assert difference.intervals["splits"].interval == corrected_interval(np.subtract(OURS, 0.5), 0.3).interval
