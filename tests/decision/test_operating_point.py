from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT, AlertBudget, OperatingPoint, verdicts
from wirebert.encoding.matrix import extract_features
from wirebert.errors import ArtifactError, ConfigError
from wirebert.inference.artifact import Artifact, load_artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.parity import Alerts
from wirebert.inference.verdicts import verdict_table
from wirebert.metrics.thresholds import Threshold
from wirebert.serialization import from_builtins, to_builtins


def limit(rate: float, threshold: float) -> Threshold:
    return Threshold(
        target_fpr=rate,
        threshold=threshold,
        num_benign=100,
        num_false_positives=1,
        fpr_interval=(0.0, 0.05),
        num_distinct=90,
        is_trusted=False,
    )


OPERATING = replace(
    NO_OPERATING_POINT,
    thresholds=(limit(0.01, 0.5), limit(0.001, 0.9)),
    novelty_thresholds=(limit(0.01, 1.0), limit(0.001, 2.0)),
    alert_fpr=0.001,
)


@pytest.fixture(scope="module")
def able(artifact: Artifact, table: pa.Table) -> Artifact:
    """The artifact with thresholds, and with what tells flows that are not among the first forty."""
    strangeness = NoveltyScorer.fit(extract_features(table.slice(0, 40), artifact.schema), 40, 0)
    return replace(artifact, operating_point=OPERATING, novelty=strangeness)


def test_an_alert_is_a_score_at_or_above_the_threshold() -> None:
    assert verdicts(np.array([0.4, 0.5, 0.6]), 0.5) == ("pass", "alert", "alert")


def test_unknown_is_said_of_alerts_and_passes_alike() -> None:
    found = verdicts(np.array([0.9, 0.1, 0.9]), 0.5, np.array([3.0, 3.0, 0.0]), 2.0)
    assert found == ("unknown", "unknown", "alert")


def test_without_a_threshold_there_are_no_verdicts() -> None:
    assert verdicts(np.array([0.9]), None) is None
    assert verdicts(None, 0.5) is None
    assert verdicts(None, None, np.array([3.0, 1.0]), 2.0) == ("unknown", "pass")


def test_the_threshold_is_that_of_the_rate_or_where_the_artifact_was_set() -> None:
    assert OPERATING.threshold_at(None) == 0.9
    assert OPERATING.threshold_at(0.01) == 0.5
    assert OPERATING.novelty_threshold_at(None) == 2.0
    budget = AlertBudget(threshold=0.7, alerts_per_10000=5.0, num_flows=1000, num_alerts=1)
    assert replace(OPERATING, alert_budget=budget).threshold_at(None) == 0.7
    assert replace(OPERATING, alert_budget=budget).threshold_at(0.01) == 0.5
    assert NO_OPERATING_POINT.threshold_at(None) is None


@pytest.mark.parametrize(
    ("operating", "known"), [(OPERATING, "0.01, 0.001"), (NO_OPERATING_POINT, "it has none")]
)
def test_a_rate_without_a_threshold_is_refused(operating: OperatingPoint, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"--fpr must be .*\({known}\), got 0\.02"):
        operating.threshold_at(0.02)


def test_verdicts_follow_from_scores(able: Artifact, table: pa.Table) -> None:
    for at, threshold in ((None, 0.9), (0.01, 0.5)):
        scores = Detector(able, fpr=at).score(table)
        assert scores.attack_score is not None
        assert scores.verdict == verdicts(scores.attack_score, threshold)
        assert scores.novelty is None


def test_flows_like_training_are_not_unknown(able: Artifact, table: pa.Table) -> None:
    scores = Detector(able, novelty=True).score(table)
    assert scores.novelty is not None
    assert scores.novelty[:40].max() < 0.01
    assert scores.novelty[40:].max() > 0.1
    assert scores.verdict is not None
    assert [verdict == "unknown" for verdict in scores.verdict] == (scores.novelty >= 2.0).tolist()


def test_an_artifact_that_can_not_tell_unknown_flows_says_so(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"--novelty needs a model .*decision\.novelty_reference_flows"):
        Detector(artifact, novelty=True)
    assert Detector(artifact).score(pa.table({})).verdict is None


def test_everything_survives_the_folder(able: Artifact, table: pa.Table, tmp_path: Path) -> None:
    save_artifact(able, tmp_path / "model", card="")
    again = load_artifact(tmp_path / "model")
    assert again.operating_point == able.operating_point
    assert (tmp_path / "model" / "novelty.safetensors").is_file()
    found, expected = (Detector(one, novelty=True).score(table) for one in (again, able))
    assert found.novelty is not None
    assert expected.novelty is not None
    assert (found.novelty == expected.novelty).all()
    assert found.verdict == expected.verdict


def test_an_artifact_without_thresholds_loads_as_before(artifact: Artifact, tmp_path: Path) -> None:
    save_artifact(artifact, tmp_path / "model", card="")
    again = load_artifact(tmp_path / "model")
    assert (again.operating_point, again.novelty) == (None, None)
    assert not (tmp_path / "model" / "novelty.safetensors").exists()


def test_a_damaged_novelty_file_is_refused(able: Artifact, tmp_path: Path) -> None:
    save_artifact(able, tmp_path / "model", card="")
    path = tmp_path / "model" / "novelty.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"novelty\.safetensors.*sha256"):
        load_artifact(tmp_path / "model")


def test_the_table_of_verdicts_has_a_column_for_each(able: Artifact, table: pa.Table) -> None:
    scores = Detector(able, novelty=True).score(table)
    found = verdict_table(table, scores, able.schema, np.arange(60))
    assert found["verdict"].to_pylist() == list(scores.verdict or ())
    assert scores.novelty is not None
    assert found["novelty"].to_pylist() == scores.novelty.tolist()


def test_columns_missing_from_a_file_are_told_as_missing(
    able: Artifact, table: pa.Table, schema: FlowSchema, tmp_path: Path
) -> None:
    (tmp_path / "flows.csv").write_text("bytes,service\n12,http\n")
    (block,) = open_flows(tmp_path / "flows.csv", schema=schema).blocks()
    scores = Detector(able, novelty=True, allow_absent=True).score(block)
    assert scores.novelty is not None
    assert scores.novelty[0] > 0.1


def test_no_flows_have_no_verdicts(able: Artifact, table: pa.Table) -> None:
    assert Detector(able, novelty=True).score(table.slice(0, 0)).verdict == ()


# Attack score and novelty as one


@pytest.fixture(scope="module")
def joined(able: Artifact, table: pa.Table) -> Artifact:
    """Alerts go by both scores; those of the first fifty flows are known of benign flows."""
    scores = Detector(able, novelty=True).score(table.slice(0, 50))
    assert scores.attack_score is not None
    assert scores.novelty is not None
    operating = replace(
        OPERATING,
        alert_score=CombinedAlertScore.fit(scores.attack_score, scores.novelty),
        thresholds=(limit(0.01, 2.0), limit(0.001, 3.0)),
    )
    return replace(able, operating_point=operating)


def test_verdicts_go_by_the_alarm_score(able: Artifact, joined: Artifact, table: pa.Table) -> None:
    plain, scores = (Detector(one, novelty=one is able).score(table) for one in (able, joined))
    assert (scores.probabilities == plain.probabilities).all()
    assert scores.attack_score is not None
    assert plain.attack_score is not None
    assert (scores.attack_score == plain.attack_score).all()
    assert scores.novelty is not None
    assert plain.novelty is not None
    assert (scores.novelty == plain.novelty).all()
    assert scores.alert_score is not None
    assert scores.verdict == tuple("alert" if score >= 3.0 else "pass" for score in scores.alert_score)
    assert {*(scores.verdict or ())} == {"alert", "pass"}
    assert (scores.alert_score >= 3.0).tolist() != (scores.attack_score >= 0.9).tolist()


def test_what_is_new_raises_alerts_that_the_attack_score_does_not(joined: Artifact, table: pa.Table) -> None:
    scores = Detector(joined).score(table).alert_score
    assert scores is not None
    flow = table.slice(int(scores.argmin()), 1)
    place = flow.column_names.index("duration")
    strange = flow.set_column(place, "duration", pa.array([1e9]))
    before, after = (Detector(joined).score(one) for one in (flow, strange))
    assert before.verdict == ("pass",)
    assert after.alert_score is not None
    assert before.alert_score is not None
    assert after.alert_score[0] > before.alert_score[0] + 1


def test_a_new_flow_is_unknown_only_where_that_is_asked_for(joined: Artifact, table: pa.Table) -> None:
    assert "unknown" not in (Detector(joined).score(table).verdict or ())
    asked = Detector(joined, novelty=True).score(table)
    assert asked.novelty is not None
    assert asked.verdict is not None
    assert [one == "unknown" for one in asked.verdict] == (asked.novelty >= 2.0).tolist()


def test_the_alarm_score_is_a_column_only_where_it_is_another_score(
    able: Artifact, joined: Artifact, table: pa.Table
) -> None:
    scores = Detector(joined).score(table)
    found = verdict_table(table, scores, joined.schema, np.arange(60))
    assert scores.alert_score is not None
    assert found["alert_score"].to_pylist() == scores.alert_score.tolist()
    plain = verdict_table(table, Detector(able).score(table), able.schema, np.arange(60))
    assert not {"alert_score", "novelty"} & {*plain.column_names}


def test_what_alerts_go_by_survives_the_folder(joined: Artifact, table: pa.Table, tmp_path: Path) -> None:
    save_artifact(joined, tmp_path / "model", card="")
    again = load_artifact(tmp_path / "model")
    assert again.operating_point == joined.operating_point
    found, expected = (Detector(one).score(table).alert_score for one in (again, joined))
    assert found is not None
    assert expected is not None
    assert (found == expected).all()


def test_a_manifest_from_before_says_nothing_of_an_alarm_score() -> None:
    old = {
        name: value
        for name, value in cast(dict[str, Any], to_builtins(OPERATING)).items()
        if name != "alert_score"
    }
    assert from_builtins(OperatingPoint, old) == OPERATING


def test_encoded_flows_alone_have_no_novelty_and_no_verdict(joined: Artifact, table: pa.Table) -> None:
    detector = Detector(joined)
    scores = detector.score_encoded(detector.encode(table))
    assert scores.attack_score is not None
    assert (scores.alert_score, scores.verdict) == (None, None)


def test_another_way_of_computing_is_judged_by_the_alarm_score(joined: Artifact) -> None:
    assert joined.operating_point is not None
    assert joined.operating_point.alert_score is not None
    probabilities = np.array([[0.5, 0.5, 0.0], [1e-9, 1 - 1e-9, 0.0], [1 - 1e-9, 1e-9, 0.0]])
    least = joined.operating_point.alert_score.scores(1 - probabilities[:, 0], np.zeros(3))
    alerts = Alerts.of(joined)
    assert alerts is not None
    assert alerts.raised(probabilities).tolist() == (least >= 3.0).tolist()
    assert alerts.raised(probabilities).tolist()[1:] == [True, False]


def test_an_untrusted_threshold_is_told_with_what_it_would_need_and_the_way_out():
    (found,) = OPERATING.findings()
    assert (found.code, found.count) == ("untrusted_threshold", 90)
    assert "target FPR of 0.1 % was fitted on 90 different benign flows, where 16,000" in found.message
    assert "no validation covers a shift of the traffic" in found.message
    assert "`wirebert calibrate`" in found.message
    assert "where 1,600" in OPERATING.findings(0.01)[0].message


def test_a_budget_on_traffic_of_ones_own_is_the_deployed_threshold_and_no_finding():
    budget = AlertBudget(threshold=0.7, alerts_per_10000=20.0, num_flows=5_000, num_alerts=9)
    calibrated = replace(OPERATING, alert_budget=budget)
    assert calibrated.findings() == ()
    assert calibrated.deployed is not None
    assert (calibrated.deployed.threshold, calibrated.deployed.target_fpr) == (0.7, 0.002)
    assert OPERATING.deployed == OPERATING.thresholds[1]
    assert NO_OPERATING_POINT.deployed is None
