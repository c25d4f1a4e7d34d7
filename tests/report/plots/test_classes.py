from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from wirebert.metrics.split_metrics import SplitMetrics, compute_metrics
from wirebert.report.plots.chart import Chart, Spec, to_svg
from wirebert.report.plots.classes import class_metrics, class_shares, confusion


def num_marks(svg: str, kind: str, layer: int) -> int:
    groups = ElementTree.fromstring(svg).findall(
        f".//{{*}}g[@class='mark-{kind} role-mark layer_{layer}_marks']"
    )
    return sum(len(group) for group in groups)


def perfect(num_classes: int) -> SplitMetrics:
    names = tuple(f"attack_{i}" for i in range(num_classes))
    ids = np.arange(5 * num_classes) % num_classes
    return compute_metrics(ids, np.eye(num_classes)[ids], names, names[0], num_resamples=5)


def switched(chart: Chart, value: str) -> Spec:
    """The chart as a reader sees it who has set its switch."""
    (switch,) = chart.switches
    assert value in switch.options
    return chart.spec | {"params": [{"name": switch.parameter, "value": value}]}


@pytest.mark.parametrize("num_classes", [2, 40])
def test_there_is_a_mark_for_every_class(num_classes: int) -> None:
    metrics = perfect(num_classes)
    bars = to_svg(class_metrics(metrics, "Classes", metrics).spec)
    assert num_marks(bars, "rect", 0) == num_classes
    assert all(f">attack_{i} (5)<" in bars for i in range(num_classes))
    cells = to_svg(confusion(metrics, "Confusion").spec)
    assert cells.count(">5</text>") == num_classes  # empty cells carry no number
    assert num_marks(cells, "rect", 0) == (4 if num_classes == 2 else num_classes)


def test_the_confusion_of_many_classes_is_wide_and_small_in_bytes() -> None:
    chart = confusion(perfect(40), "Confusion")
    assert chart.size == "wide"
    assert len(to_svg(chart.spec)) < 120_000
    assert len(chart.rows) == 40


@pytest.mark.parametrize(("name", "angle"), [("dos", 0), ("brute_force", -90)])
def test_names_that_would_run_into_each_other_are_turned(name: str, angle: int) -> None:
    metrics = compute_metrics(
        np.arange(4) % 2, np.eye(2)[np.arange(4) % 2], ("normal", name), "normal", num_resamples=5
    )
    encoding: Any = confusion(metrics, "Confusion").spec["encoding"]
    assert encoding["x"]["axis"]["labelAngle"] == angle


def mixed() -> SplitMetrics:
    ids = np.array([0, 0, 0, 0, 1, 1])
    verdicts = np.array([0, 0, 0, 1, 1, 1])
    return compute_metrics(ids, np.eye(2)[verdicts], ("normal", "dos"), "normal", num_resamples=5)


def test_the_switch_of_the_confusion_shows_counts_and_both_shares() -> None:
    chart = confusion(mixed(), "Confusion")
    assert ">3</text>" in to_svg(switched(chart, "counts"))
    rows, columns = to_svg(switched(chart, "row")), to_svg(switched(chart, "column"))
    assert all(f">{share}</text>" in rows for share in ("75%", "25%", "100%"))
    assert all(f">{share}</text>" in columns for share in ("100%", "33%", "67%"))
    assert "1 of normal as dos" in chart.words


def test_the_switch_of_the_classes_shows_f1_precision_and_recall() -> None:
    chart = class_metrics(mixed(), "Classes")
    for figure in ("f1", "precision", "recall"):
        svg = to_svg(switched(chart, figure))
        for own in mixed().per_class.values():
            assert f">{getattr(own, figure):.3f}</text>" in svg


def test_shares_of_the_classes_stand_beside_those_of_training() -> None:
    chart = class_shares({"test": {"normal": 0.75, "worm": 0.25}, "train": {"normal": 1.0}}, "Classes")
    values: Any = chart.spec["data"]
    assert values["values"][1] == {"label": "worm", "text": "25.00%", "s0": 0.25, "s1": 0.0}
    assert "normal 75.0%" in chart.words
    assert num_marks(to_svg(chart.spec), "rect", 0) == 2
