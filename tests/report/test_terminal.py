import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from wirebert.metrics.split_metrics import compute_metrics
from wirebert.metrics.student_gap import SplitGap, TeacherGap
from wirebert.report.report import Report
from wirebert.report.terminal import differing_settings, print_report


def console(width: int = 80) -> tuple[Console, io.StringIO]:
    output = io.StringIO()
    return Console(file=output, width=width), output


def test_the_report_fits_80_columns_and_is_plain_text_when_piped(report: Report) -> None:
    screen, output = console()
    print_report(report, screen)
    text = output.getvalue()
    assert text.isascii()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert f"{report.splits['test'].accuracy:.3f} [" in text
    assert "boosted trees" in text
    assert "not in training, always wrong here: worm" in text
    assert text.index("test: ") < text.index("valid: ")


def test_no_figure_is_cut_at_80_columns(report: Report) -> None:
    screen, output = console()
    print_report(report, screen)
    assert "..." not in output.getvalue()


def test_how_far_a_teacher_is_away_is_told_below_the_tables(report: Report) -> None:
    gap = TeacherGap(
        teacher="run/model",
        teacher_parameters=10,
        num_unlabelled=0,
        is_fresh=True,
        splits={"test": SplitGap(num_flows=2, agreement=0.5, metrics={})},
    )
    screen, output = console(width=120)
    print_report(replace(report, teacher=gap), screen)
    assert "50.00% of the flows into the same class" in output.getvalue()


def test_settings_that_differ_are_found_by_their_dotted_names(report: Report) -> None:
    other = replace(
        report, name="other", seed=2, settings={"training": {"batch_size": 512, "learning_rate": 3e-4}}
    )
    assert differing_settings([report, other]) == {
        "training.batch_size": ("256", "512"),
        "model.size": ("mini", "-"),
        "seed": ("1", "2"),
    }


@pytest.mark.parametrize("name", ["dos", "udp_amplification", "a" * 26])
def test_class_names_stand_whole_at_80_columns(name: str, report: Report) -> None:
    metrics = compute_metrics(np.array([0, 1]), np.eye(2), ("benign", name), "benign", num_resamples=5)
    trees = replace(report.baselines["gbdt"], splits={"test": metrics})
    screen, output = console()
    print_report(replace(report, splits={"test": metrics}, baselines={"gbdt": trees}), screen)
    assert f"| {name} " in output.getvalue()
    assert max(map(len, output.getvalue().splitlines())) <= 80
    assert ("accuracy |" in output.getvalue()) == (len(name) < 17)  # a short name leaves room for all columns


@pytest.mark.parametrize("num_flows", [0, 2])
def test_a_split_without_benign_class_or_without_flows_is_printed(num_flows: int, report: Report) -> None:
    bare = compute_metrics(np.arange(num_flows), np.eye(2)[:num_flows], ("a", "b"), None, num_resamples=5)
    screen, output = console()
    print_report(replace(report, splits={"bare": bare}), screen)
    assert "attack" not in output.getvalue()


def test_names_are_shown_as_they_are(report: Report) -> None:
    name = "[/red]:smile:[b]"
    metrics = compute_metrics(np.array([0, 1]), np.eye(2), (name, "b"), None, num_resamples=5)
    screen, output = console()
    odd = replace(report, name=name, splits={name: metrics})
    print_report(odd, screen)
    assert output.getvalue().count(name) == 3  # two titles and a class
