from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from wirebert.evaluation import plots
from wirebert.evaluation.history import Curve, History
from wirebert.evaluation.metrics import evaluate
from wirebert.evaluation.report import Report

PNG = b"\x89PNG\r\n\x1a\n"


def num_marks(svg: str, role: str) -> int:
    group = ElementTree.fromstring(svg).findall(f".//{{*}}g[@class='{role}']")
    return sum(len(found) for found in group)


def test_a_run_has_every_chart(report: Report, history: History, tmp_path: Path) -> None:
    specs = plots.charts(report.splits, history)
    names = ["loss", "quality", "learning_rates", "confusion_valid", "f1_valid", "confusion_test", "f1_test"]
    assert list(specs) == names
    plots.write_charts({"loss": specs["loss"]}, tmp_path / "plots")
    assert (tmp_path / "plots" / "loss.png").read_bytes().startswith(PNG)
    assert (tmp_path / "plots" / "loss.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("num_classes", [2, 40])
def test_class_charts_have_a_mark_for_every_class(num_classes: int) -> None:
    names = tuple(f"attack_{i}" for i in range(num_classes))
    ids = np.arange(5 * num_classes) % num_classes
    metrics = evaluate(ids, np.eye(num_classes)[ids], names, names[0], num_resamples=5)
    bars = plots.to_svg(plots.class_f1(metrics, "F1", metrics))
    assert num_marks(bars, "mark-rect role-mark layer_0_marks") == num_classes
    assert all(f">{name} (5)<" in bars for name in names)
    cells = plots.to_svg(plots.confusion(metrics, "Confusion"))
    assert num_marks(cells, "mark-rect role-mark layer_0_marks") == num_classes**2
    assert cells.count(">5</text>") == num_classes  # empty cells carry no number


@pytest.mark.parametrize("num_steps", [0, 1, 5, 500_000])
def test_line_charts_are_drawn_for_any_number_of_steps(num_steps: int) -> None:
    steps = np.arange(1.0, num_steps + 1)
    losses = Curve("training", steps, 1 / steps)
    rate = Curve("backbone", steps, np.linspace(0, 1e-4, num_steps))
    history = History(losses, losses, losses, losses, rate, rate, None)
    for spec in (plots.loss(history), plots.quality(history), plots.learning_rates(history)):
        svg = plots.to_svg(spec)
        assert "NaN" not in svg
        assert len(svg) < 100_000


def test_learning_rates_leave_out_where_a_logarithm_runs_off(history: History) -> None:
    assert "NaN" not in plots.to_svg(plots.learning_rates(history))


def test_nothing_in_a_chart_is_fetched(report: Report, history: History) -> None:
    for spec in plots.charts(report.splits, history).values():
        svg = plots.to_svg(spec)
        assert (
            svg.replace("http://www.w3.org/2000/svg", "")
            .replace("http://www.w3.org/1999/xlink", "")
            .count("http")
            == 0
        )


def test_class_names_with_markup_stay_text(report: Report) -> None:
    assert "<b>probe" not in plots.to_svg(plots.class_f1(report.splits["valid"], "F1"))
