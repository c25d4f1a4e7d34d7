from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from wirebert.alerts.incident_records import IncidentSettings
from wirebert.alerts.incidents import IncidentTracker
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.config import DecisionConfig
from wirebert.decision.fit import fit_calibration
from wirebert.decision.novelty import NoveltyScorer
from wirebert.encoding.matrix import extract_features
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.inference.verdicts import verdict_table
from wirebert.model.batches import score
from wirebert.model.distilbert import DistilBert
from wirebert.workflows.calibrate import AlertBudgetRequest, fit_alert_budget

NAMES = ("normal", "dos", "probe")
KINDS = {"ts": ColumnKind.TIME, "bytes": ColumnKind.COUNT, "service": ColumnKind.CATEGORY}
SCHEMA = FlowSchema(
    name="flows",
    columns=tuple(Column(name=n, kind=k, is_feature=k.can_be_feature) for n, k in KINDS.items()),
)
DAY_S = 86_400


def traffic(num_rows: int = 400) -> pa.Table:
    """Two days."""
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "ts": [str(second) for second in np.linspace(0, 2 * DAY_S, num_rows).round(3).tolist()],
            "bytes": rng.integers(0, 100_000, num_rows).astype(float),
            "service": np.array(["http", "dns", "ssh"])[rng.integers(0, 3, num_rows)].tolist(),
        }
    )


@pytest.fixture(scope="module")
def artifact(untrained: Callable[..., tuple[Artifact, DistilBert]]) -> Artifact:
    """Untrained; its thresholds are fitted on classes drawn at random."""
    table = traffic()
    plain, model = untrained(SCHEMA, table, ClassMap(classes=NAMES, benign="normal"))
    class_ids = np.random.default_rng(0).choice(3, 400, p=[0.6, 0.3, 0.1])
    logits = score(model, plain.tokenizer.encode(table))
    config = DecisionConfig(calibration="none")
    fitted = fit_calibration(logits, class_ids, plain.classes, config, reweights_classes=False, seed=0)
    return plain.scaled(*fitted)


@pytest.fixture
def detector(artifact: Artifact) -> Detector:
    return Detector(artifact)


def write(folder: Path, table: pa.Table) -> Flows:
    csv.write_csv(table, folder / "flows.csv")
    return open_flows(folder / "flows.csv", schema=SCHEMA)


@pytest.fixture
def flows(tmp_path: Path) -> Flows:
    return write(tmp_path, traffic())


def num_alerts(artifact: Artifact, table: pa.Table) -> int:
    verdict = Detector(artifact).score(table).verdict
    assert verdict is not None
    return verdict.count("alert")


@pytest.mark.parametrize("per_day", [0.5, 3.0, 20.0])
def test_no_more_alerts_come_than_are_allowed_and_no_lower_threshold_does_that(
    detector: Detector, flows: Flows, per_day: float
) -> None:
    found = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=per_day))
    assert found.operating_point is not None
    budget = found.operating_point.alert_budget
    assert budget is not None
    assert budget.num_days == pytest.approx(2)
    assert budget.num_alerts == num_alerts(found, traffic()) <= 2 * per_day
    scores = detector.score(traffic()).attack_score
    assert scores is not None
    next_lower = scores[scores < budget.threshold].max()
    assert (scores >= next_lower).sum() > 2 * per_day


def test_time_and_alerts_may_be_given_in_other_ways(detector: Detector, flows: Flows) -> None:
    expected = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=6.0)).operating_point
    for allowance in (AlertBudgetRequest(per_day=3.0, days=4.0), AlertBudgetRequest(per_10000=300.0)):
        found = fit_alert_budget(detector, flows, allowance).operating_point
        assert found is not None
        assert expected is not None
        assert found.threshold_at(None) == expected.threshold_at(None)


def test_the_old_artifact_stays_as_it_is_and_the_new_one_says_what_was_done(
    detector: Detector, flows: Flows
) -> None:
    before = detector.artifact
    found = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=2.0))
    assert before.operating_point is not None
    assert before.operating_point.alert_budget is None
    assert found.operating_point is not None
    assert found.operating_point.thresholds == before.operating_point.thresholds
    assert found.operating_point.notes[-1].endswith(
        f"set on 400 flows of flows: {num_alerts(found, traffic())} alerts"
    )
    assert found.operating_point.alert_budget is not None
    assert found.operating_point.alert_budget.traffic_sha256 == flows.fingerprint()
    assert all(np.array_equal(found.weights[name], weight) for name, weight in before.weights.items())


def test_without_times_the_user_has_to_say(detector: Detector, tmp_path: Path) -> None:
    flows = write(tmp_path, traffic().drop_columns(["ts"]))
    with pytest.raises(DataError, match=r"--days, or give --alerts-per-10000"):
        fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=2.0))
    assert (
        1
        <= num_alerts(fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=4.0, days=1.0)), traffic())
        <= 4
    )


def test_traffic_too_short_for_an_alert_is_refused(detector: Detector, flows: Flows) -> None:
    with pytest.raises(DataError, match=r"400 flows, on which 0\.2 alerts are allowed"):
        fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=0.1))


def test_traffic_without_flows_is_refused(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found none"):
        fit_alert_budget(detector, write(tmp_path, traffic().slice(0, 0)), AlertBudgetRequest(per_day=1.0))


def test_a_model_without_a_benign_class_is_refused(artifact: Artifact, flows: Flows) -> None:
    nameless = replace(artifact, classes=ClassMap(classes=NAMES))
    with pytest.raises(ConfigError, match="knows the benign class"):
        fit_alert_budget(Detector(nameless), flows, AlertBudgetRequest(per_day=1.0))


def test_an_artifact_of_which_nothing_is_known_gets_a_threshold_all_the_same(
    artifact: Artifact, flows: Flows
) -> None:
    plain = replace(artifact, operating_point=None)
    assert (
        1
        <= num_alerts(fit_alert_budget(Detector(plain), flows, AlertBudgetRequest(per_day=2.0)), traffic())
        <= 4
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"per_day": 0.0}, "--alerts-per-day must be above 0, got 0.0"),
        ({"per_10000": -1.0}, "--alerts-per-10000 must be above 0"),
        ({"per_day": 1.0, "days": float("nan")}, "--days must be above 0, got nan"),
        ({"per_day": 1.0, "prior": ("normal=0.9",), "estimates_prior": True}, "--prior must be .* got both"),
    ],
)
def test_allowances_that_are_none_are_refused(bad: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AlertBudgetRequest(**bad)  # pyright: ignore[reportArgumentType]  # one wrong thing at a time


def test_a_stated_prior_changes_probabilities_and_takes_the_old_thresholds_away(
    detector: Detector, flows: Flows
) -> None:
    found = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=2.0, prior=("normal=0.999",)))
    before, after = (one.score(traffic()).probabilities for one in (detector, Detector(found)))
    assert after[:, 0].mean() > before[:, 0].mean()
    assert 1 <= num_alerts(found, traffic()) <= 4
    assert found.operating_point is not None
    assert found.operating_point.thresholds == ()
    assert found.operating_point.class_priors["normal"] == pytest.approx(0.999)
    with pytest.raises(ConfigError, match=r"--fpr must be .*it has none"):
        Detector(found, fpr=0.01)


def test_an_estimated_prior_is_the_one_under_which_the_mean_probabilities_are_the_shares(
    detector: Detector, flows: Flows
) -> None:
    found = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=2.0, estimates_prior=True))
    assert found.operating_point is not None
    shares = list(found.operating_point.class_priors.values())
    mean = Detector(found).score(traffic()).probabilities.mean(axis=0)
    np.testing.assert_allclose(mean, shares, atol=1e-3)
    assert "prior estimated from traffic: normal" in found.operating_point.notes[0]


def test_a_prior_needs_to_know_what_it_replaces(artifact: Artifact, flows: Flows) -> None:
    assert artifact.operating_point is not None
    tilted = replace(artifact, operating_point=replace(artifact.operating_point, class_priors={}))
    with pytest.raises(ConfigError, match="--prior needs a model that knows the shares"):
        fit_alert_budget(Detector(tilted), flows, AlertBudgetRequest(per_day=2.0, prior=("normal=0.9",)))


# Attack score and novelty as one


@pytest.fixture(scope="module")
def joined(artifact: Artifact) -> Artifact:
    """Half of the traffic is known, and what is told of benign flows is told of all."""
    strangeness = NoveltyScorer.fit(extract_features(traffic().slice(0, 200), SCHEMA), 200, 0)
    scores = Detector(artifact).score(traffic()).attack_score
    assert scores is not None
    assert artifact.operating_point is not None
    alarm = CombinedAlertScore.fit(scores, strangeness.scores(extract_features(traffic(), SCHEMA)))
    return replace(
        artifact, novelty=strangeness, operating_point=replace(artifact.operating_point, alert_score=alarm)
    )


@pytest.mark.parametrize("prior", [(), ("normal=0.999",)])
def test_a_budget_of_alerts_is_one_of_the_alarm_score(
    joined: Artifact, flows: Flows, prior: tuple[str, ...]
) -> None:
    found = fit_alert_budget(Detector(joined), flows, AlertBudgetRequest(per_day=10.0, prior=prior))
    assert found.operating_point is not None
    assert found.operating_point.alert_budget is not None
    assert found.operating_point.alert_budget.num_alerts == num_alerts(found, traffic()) <= 20
    scores = Detector(found).score(traffic()).alert_score
    assert scores is not None
    next_lower = scores[scores < found.operating_point.alert_budget.threshold].max()
    assert (scores >= next_lower).sum() > 20


def test_another_prior_leaves_the_alarm_score_where_it_was(joined: Artifact, flows: Flows) -> None:
    """Exactly so where all kinds of attack get rarer alike."""
    found = fit_alert_budget(
        Detector(joined), flows, AlertBudgetRequest(per_day=10.0, prior=("normal=0.999",))
    )
    before, after = (Detector(one).score(traffic()) for one in (joined, found))
    assert before.attack_score is not None
    assert after.attack_score is not None
    assert after.attack_score.mean() < 0.5 * before.attack_score.mean()
    assert before.alert_score is not None
    assert after.alert_score is not None
    np.testing.assert_allclose(after.alert_score, before.alert_score, atol=0.02)


@pytest.mark.parametrize("per_day", [0.5, 4.0, 30.0])
def test_a_budget_of_incidents_is_kept_by_those_that_alerts_make(
    detector: Detector, tmp_path: Path, per_day: float
) -> None:
    hosts = [f"10.0.0.{row // 5 % 3}" for row in range(400)]
    csv.write_csv(traffic().append_column("src_ip", pa.array(hosts)), tmp_path / "flows.csv")
    source = Column(name="src_ip", kind=ColumnKind.ADDRESS, is_feature=False)
    flows = open_flows(tmp_path / "flows.csv", schema=replace(SCHEMA, columns=(*SCHEMA.columns, source)))
    found = fit_alert_budget(detector, flows, AlertBudgetRequest(incidents_per_day=per_day))
    tracker = IncidentTracker(IncidentSettings(), benign="normal")
    scorer = Detector(replace(found, tokenizer=detector.artifact.tokenizer))
    for table in flows.blocks():
        records = verdict_table(table, scorer.score(table), flows.schema, np.arange(table.num_rows))
        tracker.add(records)
    assert tracker.opened.total() <= 2 * per_day
    assert tracker.opened.total() > 0 or per_day < 1  # equal scores at the top may be two incidents
    assert found.operating_point is not None
    assert f"{tracker.opened.total()} incidents on" in "; ".join(found.operating_point.notes)
    by_alert = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=per_day)).operating_point
    assert by_alert is not None
    assert by_alert.alert_budget is not None
    assert found.operating_point.alert_budget is not None
    assert found.operating_point.alert_budget.num_alerts >= by_alert.alert_budget.num_alerts


def test_a_budget_of_incidents_needs_sources(detector: Detector, flows: Flows) -> None:
    with pytest.raises(DataError, match="expected columns of source addresses and times"):
        fit_alert_budget(detector, flows, AlertBudgetRequest(incidents_per_day=3.0))


def test_the_traffic_becomes_the_drift_reference_with_the_new_alerts(
    detector: Detector, flows: Flows
) -> None:
    artifact = fit_alert_budget(detector, flows, AlertBudgetRequest(per_day=20.0))
    assert artifact.reference is not None
    assert artifact.operating_point is not None
    assert artifact.operating_point.alert_budget is not None
    alerts = artifact.reference.counts.sum(axis=0)[artifact.reference.starts[-2] :][:2]
    num_alerts = artifact.operating_point.alert_budget.num_alerts
    assert alerts.tolist() == [400 - num_alerts, num_alerts]
    assert artifact.reference.num_flows == 25
    assert detector.drift is None
