"""Every figure of a report, computed again from `predictions/` by scikit-learn or by counting."""

import csv
import json
from collections import Counter
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
"""Without an alert precision is 0, and no warning."""


class EvaluatedSplit:
    """What a run says of a split, and the predictions that it should follow from."""

    def __init__(self, run: Path, split: str) -> None:
        report: dict[str, Any] = json.loads((run / "report.json").read_text(encoding="utf-8"))
        self.name, self.split, self.data = split, report["splits"][split], report["data"]
        (baseline,) = report["baselines"].values()
        self.trees = baseline["splits"][split]
        self.predictions = parquet.read_table(run / "predictions" / f"{split}.parquet")
        self.true, self.verdicts = self.texts("true_class"), self.texts("predicted_class")
        self.is_attack = self.true != BENIGN
        self.score = self.numbers("attack_score")

    def texts(self, column: str) -> Any:
        return np.array(self.predictions.column(column).to_pylist(), dtype=object)

    def numbers(self, column: str) -> Any:
        return self.predictions.column(column).to_numpy()


@pytest.fixture(scope="module", params=["valid", "test"])
def evaluated(request: pytest.FixtureRequest, trained: Path) -> EvaluatedSplit:
    return EvaluatedSplit(trained, request.param)


def assert_follow_from_verdicts(split: dict[str, Any], true: Any, verdicts: Any) -> None:
    """Every figure that needs no probability."""
    names = list(split["per_class"])
    occur = sorted({*true, *verdicts})
    assert set(occur) <= set(names)
    assert split["headline"]["accuracy"] == pytest.approx(accuracy_score(true, verdicts))
    for figure, average in (("macro_f1", "macro"), ("weighted_f1", "weighted")):
        expected = f1_score(true, verdicts, labels=occur, average=average, **NOTHING_IS_ZERO)
        assert split["headline"][figure] == pytest.approx(expected)
    assert split["headline"]["binary_accuracy"] == pytest.approx(
        accuracy_score(true != BENIGN, verdicts != BENIGN)
    )
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


def test_headlines_and_classes_follow_from_the_verdicts(evaluated: EvaluatedSplit) -> None:
    assert evaluated.split["num_flows"] == len(evaluated.true)
    assert_follow_from_verdicts(evaluated.split, evaluated.true, evaluated.verdicts)


def test_the_baselines_metrics_follow_from_its_verdicts(evaluated: EvaluatedSplit) -> None:
    names = np.array(evaluated.trees["confusion"]["labels"], dtype=object)
    matrix = np.array(evaluated.trees["confusion"]["matrix"])
    true, verdicts = np.nonzero(matrix)
    times = matrix[true, verdicts]
    assert_follow_from_verdicts(
        evaluated.trees, names[np.repeat(true, times)], names[np.repeat(verdicts, times)]
    )
    supports = {name: own["support"] for name, own in evaluated.split["per_class"].items()}
    assert {name: own["support"] for name, own in evaluated.trees["per_class"].items()} == supports


def test_the_loss_is_that_of_the_classes_that_training_knows(evaluated: EvaluatedSplit) -> None:
    names = [name[2:] for name in evaluated.predictions.column_names if name.startswith("p_")]
    is_known = np.isin(evaluated.true, names)
    assert is_known.all() == (evaluated.name == "valid")
    probabilities = np.stack([evaluated.numbers(f"p_{name}") for name in sorted(names)], axis=1)[is_known]
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)
    expected = log_loss(evaluated.true[is_known].astype(str), probabilities, labels=sorted(names))
    assert evaluated.split["loss"] == pytest.approx(expected, rel=1e-4)


def test_flows_that_training_has_seen_are_those_of_the_same_text(trained: Path, traffic: Path) -> None:
    evaluated, detector = EvaluatedSplit(trained, "test"), Detector.load(trained / "model")

    def texts(name: str) -> Any:
        found: list[str] = []
        for table in open_flows(traffic / f"{name}.csv", schema=detector.schema).blocks():
            block = detector.encode(table)
            rows = np.split(block.ids, block.offsets[1:-1])
            found += [detector.artifact.tokenizer.to_text(row) for row in rows]
        return np.array(found, dtype=object)

    is_train = np.ones(1500, dtype=bool)
    is_train[EvaluatedSplit(trained, "valid").numbers("row")] = False
    is_seen = np.isin(texts("test"), texts("train")[is_train])
    for kind, rows in {"seen": is_seen, "unseen": ~is_seen}.items():
        metrics = evaluated.split["train_overlap"][kind]
        assert metrics["num_flows"] == rows.sum()
        assert metrics["accuracy"] == pytest.approx(np.mean((evaluated.true == evaluated.verdicts)[rows]))


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


def test_each_class_has_its_curve(evaluated: EvaluatedSplit) -> None:
    curves = evaluated.split["curves"]["classes"]
    assert {f"p_{name}" for name in curves} == {
        name for name in evaluated.predictions.column_names if name.startswith("p_")
    }
    for name, curve in curves.items():
        assert_is_part_of(curve, evaluated.true == name, evaluated.numbers(f"p_{name}"))


def test_the_attack_score_has_its_curve_and_areas(evaluated: EvaluatedSplit) -> None:
    assert_is_part_of(evaluated.split["curves"]["attack"], evaluated.is_attack, evaluated.score)
    binary = evaluated.split["binary"]
    assert binary["auroc"] == pytest.approx(roc_auc_score(evaluated.is_attack, evaluated.score))
    assert binary["average_precision"] == pytest.approx(
        average_precision_score(evaluated.is_attack, evaluated.score)
    )


def test_binary_metrics_follow_from_the_verdicts(evaluated: EvaluatedSplit) -> None:
    alert, binary = evaluated.verdicts != BENIGN, evaluated.split["binary"]
    assert binary["accuracy"] == pytest.approx(accuracy_score(evaluated.is_attack, alert))
    assert binary["precision"] == pytest.approx(
        precision_score(evaluated.is_attack, alert, **NOTHING_IS_ZERO)
    )
    assert binary["recall"] == pytest.approx(recall_score(evaluated.is_attack, alert))
    assert binary["f1"] == pytest.approx(f1_score(evaluated.is_attack, alert, **NOTHING_IS_ZERO))
    assert binary["false_positive_rate"] == pytest.approx(1 - recall_score(~evaluated.is_attack, ~alert))


def test_tpr_is_the_best_that_keeps_each_false_positive_rate(evaluated: EvaluatedSplit) -> None:
    rates, detections, _ = roc_curve(evaluated.is_attack, evaluated.score, drop_intermediate=False)
    for rate, detection in evaluated.split["binary"]["tpr_at_fpr"].items():
        assert detection == pytest.approx(detections[rates <= float(rate)].max())


def test_operating_points_are_what_their_thresholds_do(evaluated: EvaluatedSplit) -> None:
    points = evaluated.split["operating_points"]
    assert [point["target_fpr"] for point in points] == [0.01, 0.001, 0.0001]
    attack = evaluated.is_attack
    for point in points:
        alert = evaluated.score >= point["threshold"]
        assert point["fpr"] == pytest.approx(np.mean(alert[~attack]))
        assert point["tpr"] == pytest.approx(recall_score(attack, alert))
        assert point["alerts_per_10000"] == pytest.approx(10_000 * alert.mean())
        if alert.any():
            assert point["precision"] == pytest.approx(precision_score(attack, alert))
        for share, precision in point["precision_at_prevalence"].items():
            # The same flows, weighed as if attacks were that share of the traffic.
            weight = np.where(attack, float(share) / attack.sum(), (1 - float(share)) / (~attack).sum())
            if precision is None:
                assert not alert[~attack].any()
            else:
                expected = precision_score(attack, alert, sample_weight=weight)
                assert precision == pytest.approx(expected)


def test_thresholds_keep_their_rate_on_the_validation_flows(trained: Path) -> None:
    valid, test = (EvaluatedSplit(trained, split) for split in ("valid", "test"))
    for point in valid.split["operating_points"]:
        assert np.mean(valid.score[~valid.is_attack] >= point["threshold"]) <= point["target_fpr"]
    assert [point["threshold"] for point in test.split["operating_points"]] == [
        point["threshold"] for point in valid.split["operating_points"]
    ]
    assert test.split["thresholds_from"] == "valid"


def test_reliability_is_that_of_scikit_learn(evaluated: EvaluatedSplit) -> None:
    names = [name for name in evaluated.predictions.column_names if name.startswith("p_")]
    sureness = np.max([evaluated.numbers(name) for name in names], axis=0)
    cases = {
        "attack": (evaluated.is_attack, evaluated.score),
        "verdict": (evaluated.true == evaluated.verdicts, sureness),
    }
    for kind, (came_true, said) in cases.items():
        diagram = evaluated.split["calibration"][kind]
        share, mean = calibration_curve(came_true, said.clip(0, 1), n_bins=15, strategy="uniform")
        assert [part["observed_frequency"] for part in diagram["bins"]] == pytest.approx(share)
        assert [part["probability"] for part in diagram["bins"]] == pytest.approx(mean)
        counts = np.array([part["num_flows"] for part in diagram["bins"]])
        assert counts.sum() == len(said)
        error = np.sum(counts * np.abs(share - mean)) / len(said)
        assert diagram["expected_error"] == pytest.approx(error)


def test_the_histogram_counts_every_flow(evaluated: EvaluatedSplit) -> None:
    histogram = evaluated.split["score_histogram"]
    assert set(histogram["counts"]) == set(evaluated.true)
    for name, counts in histogram["counts"].items():
        expected, _ = np.histogram(evaluated.score[evaluated.true == name], histogram["num_bins"], (0, 1))
        assert counts == expected.tolist()


@pytest.mark.soak
def test_intervals_are_those_of_flows_drawn_again(evaluated: EvaluatedSplit) -> None:
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, len(evaluated.true), len(evaluated.true)) for _ in range(400)]
    metrics = {
        "accuracy": [accuracy_score(evaluated.true[rows], evaluated.verdicts[rows]) for rows in drawn],
        "binary_accuracy": [
            accuracy_score(evaluated.is_attack[rows], evaluated.verdicts[rows] != BENIGN) for rows in drawn
        ],
        "macro_f1": [
            f1_score(evaluated.true[rows], evaluated.verdicts[rows], average="macro", **NOTHING_IS_ZERO)
            for rows in drawn
        ],
    }
    for name, values in metrics.items():
        expected = np.quantile(values, [0.025, 0.975])
        assert evaluated.split["intervals"]["rows"][name] == pytest.approx(expected, abs=0.02)


def test_the_mistakes_are_the_surest_wrong_verdicts(evaluated: EvaluatedSplit, traffic: Path) -> None:
    names = [name for name in evaluated.predictions.column_names if name.startswith("p_")]
    sureness = np.max([evaluated.numbers(name) for name in names], axis=0)
    place = {row: number for number, row in enumerate(evaluated.numbers("row").tolist())}
    found = evaluated.split["mistakes"]
    wrong = evaluated.true != evaluated.verdicts
    cells = Counter((mistake["true_class"], mistake["predicted_class"]) for mistake in found)
    assert 1 <= max(cells.values()) <= 10
    assert len(found) <= 200
    assert found[0]["probability"] == pytest.approx(sureness[wrong].max())
    assert all(a["probability"] >= b["probability"] for a, b in pairwise(found))
    for mistake in found:
        number = place[mistake["row"]]
        assert wrong[number]
        assert mistake["true_class"] == evaluated.true[number]
        assert mistake["predicted_class"] == evaluated.verdicts[number]
        assert mistake["probability"] == pytest.approx(sureness[number])
        assert mistake["flow"]["uid"] == evaluated.texts("uid")[number]


def test_a_mistake_shows_the_row_of_the_file(trained: Path, traffic: Path) -> None:
    with (traffic / "test.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for mistake in EvaluatedSplit(trained, "test").split["mistakes"]:
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


def test_the_class_distribution_is_that_of_the_flows(evaluated: EvaluatedSplit) -> None:
    for shown in evaluated.data["distribution"].values():
        assert sum(one["fraction"] for one in shown) == pytest.approx(1)
    name = "test" if "test" in evaluated.data["distribution"] and len(evaluated.true) == 300 else "valid"
    counts = dict(zip(*np.unique(evaluated.true.astype(str), return_counts=True), strict=True))
    shown = {
        one["name"]: one["num_flows"] for one in evaluated.data["distribution"][name] if one["num_flows"]
    }
    assert shown == counts


def test_the_page_says_what_the_report_holds(evaluated: EvaluatedSplit, trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    for figure in ("accuracy", "macro_f1", "weighted_f1", "binary_accuracy"):
        low, high = evaluated.split["intervals"]["rows"][figure]
        assert (
            f'{evaluated.split["headline"][figure]:.3f} <span class="range">[{low:.3f}, {high:.3f}]</span>'
            in page
        )
    for mistake in evaluated.split["mistakes"][:20]:
        assert f"probability {100 * mistake['probability']:.2f} %, row {mistake['row']:,}" in page
        assert f"row {mistake['row']:,}" in page


def test_predictions_are_complete(evaluated: EvaluatedSplit) -> None:
    assert isinstance(evaluated.predictions, pa.Table)
    assert evaluated.predictions.num_rows == evaluated.split["num_flows"]
