import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision import fit as deciding
from wirebert.decision.calibration import LogitScaling, fit_scaling, softmax
from wirebert.decision.config import DecisionConfig
from wirebert.decision.fit import (
    NoveltyRows,
    add_novelty,
    calibrated_attack_scores,
    fit_calibration,
    measure_novelty,
)
from wirebert.encoding.matrix import extract_features
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.model.batches import score
from wirebert.model.distilbert import DistilBert

NAMES = ("normal", "dos", "probe")
KINDS = {"bytes": ColumnKind.COUNT, "service": ColumnKind.CATEGORY, "label": ColumnKind.LABEL}
SCHEMA = FlowSchema(
    name="flows",
    columns=tuple(Column(name=n, kind=k, is_feature=k.can_be_feature) for n, k in KINDS.items()),
)


def traffic(num_rows: int = 300) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "bytes": rng.integers(0, 1000, num_rows).astype(float),
            "service": np.array(["http", "dns", "ssh"])[rng.integers(0, 3, num_rows)].tolist(),
            "label": [NAMES[at] for at in rng.choice(3, num_rows, p=[0.6, 0.3, 0.1])],
        }
    )


@pytest.fixture(scope="module")
def tiny(untrained: Callable[..., tuple[Artifact, DistilBert]]) -> tuple[Artifact, DistilBert]:
    return untrained(SCHEMA, traffic(), ClassMap(classes=NAMES, benign="normal"))


@pytest.fixture(scope="module")
def artifact(tiny: tuple[Artifact, DistilBert]) -> Artifact:
    return tiny[0]


@pytest.fixture(scope="module")
def logits(tiny: tuple[Artifact, DistilBert]) -> np.ndarray:
    artifact, model = tiny
    return score(model, artifact.tokenizer.encode(traffic()))


CLASS_IDS = np.array([NAMES.index(name) for name in traffic()["label"].to_pylist()])
ROUNDING = 1e-5
"""A flow scores a little differently in another batch; a threshold may be the score of a flow."""
HOW: dict[str, Any] = {"reweights_classes": False, "seed": 0}


def calibrated(
    artifact: Artifact, logits: np.ndarray, class_ids: np.ndarray, config: DecisionConfig, **how: Any
) -> Artifact:
    scaling, operating = fit_calibration(logits, class_ids, artifact.classes, config, **how)
    return artifact.scaled(scaling, operating)


def with_novelty(
    artifact: Artifact,
    flows: Flows,
    is_train: Any,
    is_benign: Any,
    *,
    scores: Any = None,
    weight: float = 1.0,
    **how: Any,
) -> Artifact:
    """With all rows as validation rows."""
    assert artifact.operating_point is not None
    is_valid = np.ones(len(is_train), bool)
    rows = NoveltyRows(flows, is_train, is_valid, is_benign, **how, joins_attack_score=scores is not None)
    measured = measure_novelty(lambda: rows)
    operating = add_novelty(artifact.operating_point, measured, scores, weight)
    return replace(artifact, novelty=measured.scorer, operating_point=operating)


@pytest.mark.parametrize("method", ["none", "temperature", "biases", "vector"])
def test_the_folded_model_gives_the_scaled_probabilities(
    artifact: Artifact, logits: np.ndarray, method: Any
) -> None:
    found = calibrated(artifact, logits, CLASS_IDS, DecisionConfig(calibration=method), **HOW)
    expected = softmax(fit_scaling(logits, CLASS_IDS, method).apply(logits))
    np.testing.assert_allclose(Detector(found).score(traffic()).probabilities, expected, atol=1e-5)


def test_stock_transformers_gives_the_calibrated_probabilities(
    artifact: Artifact, logits: np.ndarray, tmp_path: Path
) -> None:
    config = DecisionConfig(calibration="vector", prior={"normal": 0.99})
    found = calibrated(artifact, logits, CLASS_IDS, config, **HOW)
    save_artifact(found, tmp_path / "model", card="")
    table = traffic().slice(0, 20)
    block = found.tokenizer.encode(table)
    texts = [
        found.tokenizer.to_text(block.ids[first:last])
        for first, last in zip(block.offsets, block.offsets[1:], strict=False)
    ]
    stock: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "model")
    with torch.inference_mode():
        given = stock(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(dim=1).numpy()
    np.testing.assert_allclose(Detector.load(tmp_path / "model").score(table).probabilities, given, atol=1e-5)


def test_class_addends_multiply_odds_by_their_exponentials(artifact: Artifact, logits: np.ndarray) -> None:
    plain, moved = (
        calibrated(artifact, logits, CLASS_IDS, DecisionConfig(logit_offsets=addends), **HOW)
        for addends in ({}, {NAMES[0]: -2.0, NAMES[1]: 0.5})
    )
    before, after = (Detector(one).score(traffic()) for one in (plain, moved))
    odds = np.ones(len(NAMES))
    odds[:2] = np.exp([-2, 0.5])
    expected = before.probabilities * odds
    np.testing.assert_allclose(after.probabilities, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)
    assert moved.operating_point is not None
    assert moved.operating_point.class_priors == {}
    # Thresholds are those of the scores as they are now.
    assert plain.operating_point is not None
    assert moved.operating_point.thresholds != plain.operating_point.thresholds


def test_a_stated_prior_moves_odds_as_bayes_says(artifact: Artifact, logits: np.ndarray) -> None:
    plain, stated = (
        Detector(calibrated(artifact, logits, CLASS_IDS, DecisionConfig(prior=prior), **HOW))
        for prior in ({}, {"normal": 0.99})
    )
    before, after = (one.score(traffic()).probabilities for one in (plain, stated))
    shares = np.bincount(CLASS_IDS) / len(CLASS_IDS)
    wanted = np.array([0.99, *(0.01 * shares[1:] / shares[1:].sum())])
    expected = before * wanted / shares
    np.testing.assert_allclose(after, expected / expected.sum(axis=1, keepdims=True), atol=1e-4)
    assert stated.artifact.operating_point is not None
    assert stated.artifact.operating_point.class_priors == pytest.approx(
        dict(zip(NAMES, wanted, strict=True))
    )


def test_saved_thresholds_keep_their_rate_on_the_flows_they_were_fitted_on(
    artifact: Artifact, logits: np.ndarray
) -> None:
    found = calibrated(artifact, logits, CLASS_IDS, DecisionConfig(alert_fpr=0.01), **HOW)
    scores = Detector(found).score(traffic())
    assert scores.attack_score is not None
    assert found.operating_point is not None
    benign = scores.attack_score[CLASS_IDS == 0]
    for one in found.operating_point.thresholds:
        assert one.num_benign == len(benign)
        assert (
            one.num_false_positives
            == (benign > one.threshold * (1 + ROUNDING)).sum()
            <= one.target_fpr * len(benign)
        )
    assert scores.threshold == found.operating_point.thresholds[0].threshold


@pytest.mark.parametrize(("num_benign", "rate"), [(600, 0.01), (20_000, 0.001)])
def test_without_benign_flows_enough_the_model_alerts_at_a_rate_that_they_can_fix(
    artifact: Artifact, num_benign: int, rate: float
) -> None:
    class_ids = np.repeat([0, 1, 2], [num_benign, 50, 50])
    logits = np.random.default_rng(0).normal(size=(len(class_ids), 3)).astype(np.float32)
    found = calibrated(artifact, logits, class_ids, DecisionConfig(calibration="none"), **HOW)
    assert found.operating_point is not None
    assert found.operating_point.alert_fpr == rate
    stated = DecisionConfig(calibration="none", alert_fpr=0.0001)
    found = calibrated(artifact, logits, class_ids, stated, **HOW)
    assert found.operating_point is not None
    assert found.operating_point.alert_fpr == 0.0001


def test_flows_without_a_class_are_left_out(artifact: Artifact, logits: np.ndarray) -> None:
    some = np.where(np.arange(300) < 200, CLASS_IDS, -1)
    whole = calibrated(artifact, logits[:200], CLASS_IDS[:200], DecisionConfig(), **HOW)
    assert (
        calibrated(artifact, logits, some, DecisionConfig(), **HOW).operating_point == whole.operating_point
    )


def test_weighed_classes_keep_their_order_and_claim_no_shares(artifact: Artifact, logits: np.ndarray) -> None:
    found = calibrated(artifact, logits, CLASS_IDS, DecisionConfig(), reweights_classes=True, seed=0)
    assert found.operating_point is not None
    assert found.operating_point.calibration.method in ("none", "temperature")
    assert found.operating_point.class_priors == {}


def test_without_a_benign_class_there_are_no_thresholds(artifact: Artifact, logits: np.ndarray) -> None:
    nameless = replace(artifact, classes=ClassMap(classes=NAMES))
    found = calibrated(nameless, logits, CLASS_IDS, DecisionConfig(), **HOW)
    assert found.operating_point is not None
    assert found.operating_point.thresholds == ()
    assert Detector(found).score(traffic()).verdict is None


# Unknown flows


@pytest.fixture
def flows(tmp_path: Path) -> Flows:
    (tmp_path / "traffic").mkdir()
    for number in range(3):
        csv.write_csv(traffic().slice(100 * number, 100), tmp_path / "traffic" / f"{number}.csv")
    return open_flows(tmp_path / "traffic", schema=SCHEMA)


def test_novelty_is_fitted_on_training_rows_and_its_threshold_on_benign_validation_rows(
    artifact: Artifact, logits: np.ndarray, flows: Flows
) -> None:
    is_train = np.arange(300) < 150
    is_benign = (np.arange(300) >= 180) & (CLASS_IDS == 0)
    plain = calibrated(artifact, logits, CLASS_IDS, DecisionConfig(), **HOW)
    found = with_novelty(plain, flows, is_train, is_benign, num_kept=1000, seed=0)
    assert found.novelty is not None
    assert found.operating_point is not None
    novelty = found.novelty.scores(extract_features(traffic(), SCHEMA))
    assert novelty[is_train].max() < 0.01
    for one in found.operating_point.novelty_thresholds:
        assert one.num_benign == is_benign.sum()
        assert one.num_false_positives == (novelty[is_benign] > one.threshold * (1 + ROUNDING)).sum()


def test_of_many_flows_only_some_are_looked_at_for_novelty(
    artifact: Artifact, logits: np.ndarray, flows: Flows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deciding, "MAX_SAMPLED", 40)
    is_train = np.arange(300) < 150
    plain = calibrated(artifact, logits, CLASS_IDS, DecisionConfig(), **HOW)
    for num_kept, expected in ((10, 10), (1000, 40)):
        found = with_novelty(plain, flows, is_train, ~is_train, num_kept=num_kept, seed=0)
        assert found.novelty is not None
        assert len(found.novelty.neighbours.kept) == expected
        assert found.operating_point is not None
        assert found.operating_point.novelty_thresholds[0].num_benign == 40


# Attack score and novelty as one

IS_BENIGN = (np.arange(300) >= 100) & (CLASS_IDS == 0)


def scores_of(artifact: Artifact, logits: np.ndarray) -> np.ndarray:
    assert artifact.operating_point is not None
    summary: Any = artifact.operating_point.calibration
    scaling = LogitScaling(method=summary.method, scale=np.array(summary.scale), bias=np.array(summary.bias))
    return calibrated_attack_scores(logits, scaling, 0)


@pytest.fixture
def joined(artifact: Artifact, logits: np.ndarray, flows: Flows) -> Artifact:
    config = DecisionConfig(calibration="vector", prior={"normal": 0.9}, alert_score="attack_and_novelty")
    plain = calibrated(artifact, logits, CLASS_IDS, config, **HOW)
    is_train, scores = np.arange(300) < 100, scores_of(plain, logits)
    scores[CLASS_IDS != 0] = np.nan  # no one may look
    return with_novelty(*(plain, flows, is_train, IS_BENIGN), num_kept=10, seed=0, scores=scores)


def test_attack_scores_by_the_folded_model_are_the_detectors(joined: Artifact, logits: np.ndarray) -> None:
    expected = Detector(joined).score(traffic()).attack_score
    assert expected is not None
    np.testing.assert_allclose(scores_of(joined, logits), expected, atol=1e-5)


def test_alarm_scores_of_benign_validation_flows_are_both_surprises(joined: Artifact) -> None:
    scores = Detector(joined).score(traffic())
    assert scores.attack_score is not None
    assert scores.novelty is not None
    assert scores.alert_score is not None
    expected = np.zeros(300)
    for known in (scores.attack_score, scores.novelty):
        above = [np.sum(known[IS_BENIGN] >= score * (1 - 1e-6)) for score in known]
        expected -= np.log((np.array(above) + 1) / (IS_BENIGN.sum() + 1))
    np.testing.assert_allclose(scores.alert_score[IS_BENIGN], expected[IS_BENIGN], atol=0.02)


def test_novelty_counts_in_the_alarm_score_as_often_as_asked_for(
    joined: Artifact, artifact: Artifact, logits: np.ndarray, flows: Flows
) -> None:
    attack = np.where(CLASS_IDS == 0, scores_of(joined, logits), np.nan)
    thrice = with_novelty(
        *(replace(joined, novelty=None), flows, np.arange(300) < 100, IS_BENIGN),
        num_kept=10,
        seed=0,
        scores=attack,
        weight=3.0,
    )
    assert joined.operating_point is not None
    assert joined.operating_point.alert_score is not None
    assert thrice.operating_point is not None
    assert thrice.operating_point.alert_score == replace(
        joined.operating_point.alert_score, novelty_weight=3.0
    )
    scores = Detector(thrice).score(traffic()).alert_score
    assert scores is not None
    for one in thrice.operating_point.thresholds:
        assert one.num_false_positives == (scores[IS_BENIGN] > one.threshold * (1 + ROUNDING)).sum()


def test_thresholds_of_the_alarm_score_keep_their_rate_on_benign_validation_flows(joined: Artifact) -> None:
    scores = Detector(joined, fpr=0.01).score(traffic())
    assert joined.operating_point is not None
    assert scores.alert_score is not None
    for one in joined.operating_point.thresholds:
        assert one.num_benign == IS_BENIGN.sum()  # not only four for each flow that is kept
        assert (
            one.num_false_positives == (scores.alert_score[IS_BENIGN] > one.threshold * (1 + ROUNDING)).sum()
        )
        assert one.num_false_positives <= one.target_fpr * one.num_benign
    assert scores.threshold == joined.operating_point.thresholds[0].threshold


def test_deciding_loads_no_model_library_and_no_scientific_one() -> None:
    """Scoring stands on this room, and must start fast on small machines."""
    names = "alert_score calibration config fit logit_offsets novelty operating_point".split()
    code = "import sys\n" + "".join(f"import wirebert.decision.{name}\n" for name in names)
    code += "print([name for name in ('torch', 'scipy', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
