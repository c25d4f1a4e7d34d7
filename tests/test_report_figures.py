"""Every figure of a report, computed again from `predictions/` by scikit-learn or by counting."""

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from wirebert.data.flows import open_flows
from wirebert.inference.detector import Detector

pytestmark = pytest.mark.slow

BENIGN = "benign"
NOTHING_IS_ZERO: dict[str, Any] = {"zero_division": 0.0}
"""Without an alarm precision is 0, and no warning."""


class Judged:
    """What a run says of a split, and the predictions that it should follow from."""

    def __init__(self, run: Path, split: str) -> None:
        report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
        self.name, self.split, self.data = split, report["splits"][split], report["data"]
        (rival,) = report["baselines"].values()
        self.trees = rival["splits"][split]
        self.predictions = parquet.read_table(run / "predictions" / f"{split}.parquet")
        self.true, self.verdicts = self.texts("true_class"), self.texts("predicted_class")
        self.is_attack = self.true != BENIGN
        self.score = self.numbers("attack_score")

    def texts(self, column: str) -> Any:
        return np.array(self.predictions.column(column).to_pylist(), dtype=object)

    def numbers(self, column: str) -> Any:
        return self.predictions.column(column).to_numpy()


@pytest.fixture(scope="module", params=["valid", "test"])
def judged(request: pytest.FixtureRequest, trained: Path) -> Judged:
    return Judged(trained, request.param)


def assert_follow_from_verdicts(split: dict[str, Any], true: Any, verdicts: Any) -> None:
    """Every figure that needs no probability."""
    names = list(split["per_class"])
    occur = sorted({*true, *verdicts})
    assert set(occur) <= set(names)
    assert split["accuracy"] == pytest.approx(accuracy_score(true, verdicts))
    for figure, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = f1_score(true, verdicts, labels=occur, average=average, **NOTHING_IS_ZERO)
        assert split[figure] == pytest.approx(expected)
    assert split["binary_accuracy"] == pytest.approx(accuracy_score(true != BENIGN, verdicts != BENIGN))
    assert split["confusion"]["labels"] == names
    assert split["confusion"]["matrix"] == confusion_matrix(true, verdicts, labels=names).tolist()
    how: dict[str, Any] = {"labels": names, **NOTHING_IS_ZERO}
    by_class: Any = precision_recall_fscore_support(true, verdicts, **how)
    for name, precision, recall, f1, support in zip(names, *by_class, strict=True):
        assert split["per_class"][name] == pytest.approx(
            {
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": support,
                "accuracy": accuracy_score(true == name, verdicts == name),
            }
        )


def test_headlines_and_classes_follow_from_the_verdicts(judged: Judged) -> None:
    assert judged.split["num_flows"] == len(judged.true)
    assert_follow_from_verdicts(judged.split, judged.true, judged.verdicts)


def test_the_baselines_figures_follow_from_its_verdicts(judged: Judged) -> None:
    names = np.array(judged.trees["confusion"]["labels"], dtype=object)
    matrix = np.array(judged.trees["confusion"]["matrix"])
    true, verdicts = np.nonzero(matrix)
    times = matrix[true, verdicts]
    assert_follow_from_verdicts(
        judged.trees, names[np.repeat(true, times)], names[np.repeat(verdicts, times)]
    )
    supports = {name: own["support"] for name, own in judged.split["per_class"].items()}
    assert {name: own["support"] for name, own in judged.trees["per_class"].items()} == supports


def test_the_loss_is_that_of_the_classes_that_training_knows(judged: Judged) -> None:
    names = [name[2:] for name in judged.predictions.column_names if name.startswith("p_")]
    is_known = np.isin(judged.true, names)
    assert is_known.all() == (judged.name == "valid")
    probabilities = np.stack([judged.numbers(f"p_{name}") for name in sorted(names)], axis=1)[is_known]
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    expected = log_loss(judged.true[is_known].astype(str), probabilities, labels=sorted(names))
    assert judged.split["loss"] == pytest.approx(expected, rel=1e-4)


def test_flows_that_training_has_seen_are_those_of_the_same_text(trained: Path, traffic: Path) -> None:
    judged, detector = Judged(trained, "test"), Detector.load(trained / "model")

    def texts(name: str) -> Any:
        found: list[str] = []
        for table in open_flows(traffic / f"{name}.csv", schema=detector.schema).blocks():
            block = detector.encode(table)
            rows = np.split(block.ids, block.offsets[1:-1])
            found += [detector.artifact.tokenizer.to_text(row) for row in rows]
        return np.array(found, dtype=object)

    is_train = np.ones(1500, dtype=bool)
    is_train[Judged(trained, "valid").numbers("row")] = False
    is_seen = np.isin(texts("test"), texts("train")[is_train])
    for kind, rows in {"seen": is_seen, "unseen": ~is_seen}.items():
        figures = judged.split["train_overlap"][kind]
        assert figures["num_flows"] == rows.sum()
        assert figures["accuracy"] == pytest.approx(np.mean((judged.true == judged.verdicts)[rows]))


def assert_is_part_of(curve: dict[str, Any], is_member: Any, score: Any) -> None:
    """Every drawn point is one of the whole curve, and the ends are there."""
    assert len(curve["thresholds"]) >= 2
    for threshold, found, false in zip(
        curve["thresholds"], curve["num_true_positives"], curve["num_false_positives"], strict=True
    ):
        assert found == np.sum(is_member & (score >= threshold))
        assert false == np.sum(~is_member & (score >= threshold))
    assert all(a > b for a, b in pairwise(curve["thresholds"]))
    assert (curve["num_true_positives"][-1], curve["num_false_positives"][-1]) == (
        is_member.sum(),
        (~is_member).sum(),
    )
    if is_member.any() and not is_member.all():
        assert curve["auroc"] == pytest.approx(roc_auc_score(is_member, score))
        assert curve["average_precision"] == pytest.approx(average_precision_score(is_member, score))


def test_each_class_has_its_curve(judged: Judged) -> None:
    curves = judged.split["curves"]["classes"]
    assert {f"p_{name}" for name in curves} == {
        name for name in judged.predictions.column_names if name.startswith("p_")
    }
    for name, curve in curves.items():
        assert_is_part_of(curve, judged.true == name, judged.numbers(f"p_{name}"))


def test_the_attack_score_has_its_curve_and_areas(judged: Judged) -> None:
    assert_is_part_of(judged.split["curves"]["attack"], judged.is_attack, judged.score)
    binary = judged.split["binary"]
    assert binary["auroc"] == pytest.approx(roc_auc_score(judged.is_attack, judged.score))
    assert binary["average_precision"] == pytest.approx(
        average_precision_score(judged.is_attack, judged.score)
    )


def test_attack_or_not_figures_follow_from_the_verdicts(judged: Judged) -> None:
    alarm, binary = judged.verdicts != BENIGN, judged.split["binary"]
    assert binary["accuracy"] == pytest.approx(accuracy_score(judged.is_attack, alarm))
    assert binary["precision"] == pytest.approx(precision_score(judged.is_attack, alarm, **NOTHING_IS_ZERO))
    assert binary["recall"] == pytest.approx(recall_score(judged.is_attack, alarm))
    assert binary["f1"] == pytest.approx(f1_score(judged.is_attack, alarm, **NOTHING_IS_ZERO))
    assert binary["false_positive_rate"] == pytest.approx(1 - recall_score(~judged.is_attack, ~alarm))


def test_detection_is_the_best_that_keeps_each_false_positive_rate(judged: Judged) -> None:
    rates, detections, _ = roc_curve(judged.is_attack, judged.score, drop_intermediate=False)
    for rate, detection in judged.split["binary"]["tpr_at_fpr"].items():
        assert detection == pytest.approx(detections[rates <= float(rate)].max())


def test_operating_points_are_what_their_thresholds_do(judged: Judged) -> None:
    points = judged.split["operating_points"]
    assert [point["target_fpr"] for point in points] == [0.01, 0.001, 0.0001]
    attack = judged.is_attack
    for point in points:
        alarm = judged.score >= point["threshold"]
        assert point["fpr"] == pytest.approx(np.mean(alarm[~attack]))
        assert point["tpr"] == pytest.approx(recall_score(attack, alarm))
        assert point["alerts_per_10000"] == pytest.approx(10_000 * alarm.mean())
        if alarm.any():
            assert point["precision"] == pytest.approx(precision_score(attack, alarm))
        for share, precision in point["precision_at_prevalence"].items():
            # The same flows, weighed as if attacks were that share of the traffic.
            weight = np.where(attack, float(share) / attack.sum(), (1 - float(share)) / (~attack).sum())
            if precision is None:
                assert not alarm[~attack].any()
            else:
                expected = precision_score(attack, alarm, sample_weight=weight)
                assert precision == pytest.approx(expected)


def test_thresholds_keep_their_rate_on_the_validation_flows(trained: Path) -> None:
    valid, test = (Judged(trained, split) for split in ("valid", "test"))
    for point in valid.split["operating_points"]:
        assert np.mean(valid.score[~valid.is_attack] >= point["threshold"]) <= point["target_fpr"]
    assert [point["threshold"] for point in test.split["operating_points"]] == [
        point["threshold"] for point in valid.split["operating_points"]
    ]
    assert test.split["thresholds_from"] == "valid"


def test_reliability_is_that_of_scikit_learn(judged: Judged) -> None:
    names = [name for name in judged.predictions.column_names if name.startswith("p_")]
    sureness = np.max([judged.numbers(name) for name in names], axis=0)
    cases = {
        "attack": (judged.is_attack, judged.score),
        "verdict": (judged.true == judged.verdicts, sureness),
    }
    for kind, (came_true, said) in cases.items():
        diagram = judged.split["calibration"][kind]
        share, mean = calibration_curve(came_true, said.clip(0, 1), n_bins=15, strategy="uniform")
        assert [part["observed_frequency"] for part in diagram["bins"]] == pytest.approx(share)
        assert [part["probability"] for part in diagram["bins"]] == pytest.approx(mean)
        counts = np.array([part["num_flows"] for part in diagram["bins"]])
        assert counts.sum() == len(said)
        error = np.sum(counts * np.abs(share - mean)) / len(said)
        assert diagram["expected_error"] == pytest.approx(error)


def test_the_histogram_counts_every_flow(judged: Judged) -> None:
    histogram = judged.split["score_histogram"]
    assert set(histogram["counts"]) == set(judged.true)
    for name, counts in histogram["counts"].items():
        expected, _ = np.histogram(judged.score[judged.true == name], histogram["num_bins"], (0, 1))
        assert counts == expected.tolist()


def test_intervals_are_those_of_flows_drawn_again(judged: Judged) -> None:
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, len(judged.true), len(judged.true)) for _ in range(400)]
    figures = {
        "accuracy": [accuracy_score(judged.true[rows], judged.verdicts[rows]) for rows in drawn],
        "binary_accuracy": [
            accuracy_score(judged.is_attack[rows], judged.verdicts[rows] != BENIGN) for rows in drawn
        ],
        "macro_f1": [
            f1_score(judged.true[rows], judged.verdicts[rows], average="macro", **NOTHING_IS_ZERO)
            for rows in drawn
        ],
    }
    for name, values in figures.items():
        expected = np.quantile(values, [0.025, 0.975])
        assert judged.split["intervals"]["rows"][name] == pytest.approx(expected, abs=0.02)


def test_the_mistakes_are_the_surest_wrong_verdicts(judged: Judged, traffic: Path) -> None:
    names = [name for name in judged.predictions.column_names if name.startswith("p_")]
    sureness = np.max([judged.numbers(name) for name in names], axis=0)
    place = {row: number for number, row in enumerate(judged.numbers("row").tolist())}
    found = judged.split["mistakes"]
    wrong = judged.true != judged.verdicts
    assert 1 <= len(found) <= 20
    assert found[0]["probability"] == pytest.approx(sureness[wrong].max())
    assert all(a["probability"] >= b["probability"] for a, b in pairwise(found))
    for mistake in found:
        number = place[mistake["row"]]
        assert wrong[number]
        assert mistake["true_class"] == judged.true[number]
        assert mistake["predicted_class"] == judged.verdicts[number]
        assert mistake["probability"] == pytest.approx(sureness[number])
        assert mistake["flow"]["uid"] == judged.texts("uid")[number]


def test_a_mistake_shows_the_row_of_the_file(trained: Path, traffic: Path) -> None:
    with (traffic / "test.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for mistake in Judged(trained, "test").split["mistakes"]:
        line = lines[mistake["row"]]
        assert "label" not in mistake["flow"]
        assert mistake["label"] == line["label"]
        assert set(mistake["top_features"]) <= set(line)
        assert list(mistake["top_features"].values()) == sorted(
            mistake["top_features"].values(), reverse=True
        )
        for column, value in mistake["flow"].items():
            try:
                assert float(value) == pytest.approx(float(line[column]), rel=1e-9)
            except ValueError:
                assert value == line[column][: len(value)] or value.endswith("…") or column == "ts"


def test_the_class_distribution_is_that_of_the_flows(judged: Judged) -> None:
    for shown in judged.data["distribution"].values():
        assert sum(one["fraction"] for one in shown) == pytest.approx(1)
    name = "test" if "test" in judged.data["distribution"] and len(judged.true) == 300 else "valid"
    counts = dict(zip(*np.unique(judged.true.astype(str), return_counts=True), strict=True))
    shown = {one["name"]: one["num_flows"] for one in judged.data["distribution"][name] if one["num_flows"]}
    assert shown == counts


def test_the_page_says_what_the_report_holds(judged: Judged, trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    for figure in ("accuracy", "macro_f1", "weighted_f1", "binary_accuracy"):
        low, high = judged.split["intervals"]["rows"][figure]
        assert f'{judged.split[figure]:.3f} <span class="range">[{low:.3f}, {high:.3f}]</span>' in page
    for mistake in judged.split["mistakes"]:
        assert f"probability {100 * mistake['probability']:.2f} %, row {mistake['row']:,}" in page


def test_predictions_are_complete(judged: Judged) -> None:
    assert isinstance(judged.predictions, pa.Table)
    assert judged.predictions.num_rows == judged.split["num_flows"]
