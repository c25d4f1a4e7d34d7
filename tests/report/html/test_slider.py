"""The threshold slider of the report: its counts are those of scikit-learn on the saved verdicts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pyarrow import parquet
from sklearn.metrics import confusion_matrix

from wirebert.report.html.slider import FIGURES, slider, slider_points
from wirebert.report.report import read_json


def test_counts_are_those_of_scikit_learn_at_five_thresholds(trained: Path):
    points = slider_points(read_json(trained / "report.json").splits["test"])
    verdicts = parquet.read_table(trained / "predictions" / "test.parquet")
    is_attack = np.array([name != "benign" for name in verdicts["true_class"].to_pylist()])
    scores = verdicts["attack_score"].to_numpy().astype(np.float64)
    for threshold, found, alarms in [points[at] for at in np.linspace(0, len(points) - 1, 5).astype(int)]:
        (passed, wrong), (missed, right) = confusion_matrix(is_attack, scores >= threshold)
        assert (found, alarms) == (right, wrong)
        assert points[-1][1:] == (right + missed, passed + wrong)


def test_it_starts_at_the_stored_threshold(trained: Path):
    metrics = read_json(trained / "report.json").splits["test"]
    assert metrics.deployed is not None
    points = slider_points(metrics)
    start = int(slider("test", metrics).partition('value="')[2].partition('"')[0])
    assert points[start][0] <= metrics.deployed.threshold
    assert start == 0 or points[start - 1][0] > metrics.deployed.threshold


def test_a_split_without_attack_scores_has_none(trained: Path):
    metrics = read_json(trained / "report.json").splits["test"]
    assert slider("test", replace(metrics, curves=None)) == ""
    html = slider("<b>", metrics)
    assert "<b>" not in html
    assert all(f'data-figure="{key}"' in html for key in FIGURES)
