from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from wirebert.decision.alert_score import CombinedAlertScore, NegLogPValue
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT, AlertBudget
from wirebert.encoding.matrix import extract_features
from wirebert.inference.artifact import Artifact
from wirebert.inference.attribution import Attributions
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.explanations import (
    NUM_FEATURES,
    explain_rows,
    needs_explanation,
    novelty_reasons,
    strongest_alerts,
    top_reasons,
)


@pytest.fixture
def found(artifact: Artifact, table: pa.Table) -> Attributions:
    """Two flows: `service` and `bytes` speak for the first one's class, nothing for the second one's."""
    from wirebert.inference.attribution import slot_tokens

    tokenizer = artifact.tokenizer
    contributions = np.full((2, len(tokenizer.slots)), -1, np.float32)
    contributions[0, tokenizer.slot_names.index("service")] = 0.5
    contributions[0, tokenizer.slot_names.index("bytes")] = 1.25
    tokens = slot_tokens(tokenizer, tokenizer.encode(table.slice(1, 2)))
    return Attributions(contributions, tokens, np.array([1, 0]))


def test_the_loudest_features_are_named_with_their_values(
    artifact: Artifact, table: pa.Table, found: Attributions
):
    tokenizer = artifact.tokenizer
    said = tokenizer.decode(tokenizer.encode(table.slice(1, 1)).ids)
    first, second = top_reasons(found, tokenizer).to_pylist()
    assert first == [f"bytes:{said['bytes']} (+1.25)", f"service:{said['service']} (+0.50)"]
    assert second == []


def test_only_so_many_are_named(artifact: Artifact, found: Attributions):
    texts = top_reasons(found, artifact.tokenizer, num_reasons=1).to_pylist()
    assert [len(each or []) for each in texts] == [1, 0]


def test_nothing_to_explain_gives_no_list(artifact: Artifact):
    none = np.empty((0, len(artifact.tokenizer.slots)))
    found = Attributions(none.astype(np.float32), none.astype(np.int64), np.empty(0, np.int64))
    assert top_reasons(found, artifact.tokenizer).to_pylist() == []


def altered(table: pa.Table, row: int, name: str, value: float | str | None) -> pa.Table:
    """A row of the table with another value in one column."""
    place = table.column_names.index(name)
    changed = pa.array([value], table.schema.field(name).type)
    return table.slice(row, 1).set_column(place, name, changed)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("service", "gopher", "service:<unseen>"),
        ("service", None, "service:<missing>"),
        ("service", "ssh", "service:ssh"),
        ("bytes", 7e9, "bytes:7e+09"),
        ("bytes", -np.inf, "bytes:-inf"),
        ("duration", None, "duration:<missing>"),
    ],
)
def test_the_column_that_training_lacks_is_named(
    artifact: Artifact, table: pa.Table, name: str, value: float | str | None, said: str
):
    known = table.take([0, 2, 3, 5])
    for column, values in {"service": ["http", "dns"] * 2, "bytes": [0.0, 12.0, 181.0, 12.0]}.items():
        known = known.set_column(known.column_names.index(column), column, pa.array(values))
    elsewhere = altered(altered(table, 1, "service", "ssh"), 0, "duration", 1e6)
    rows = extract_features(pa.concat_tables([known, elsewhere]), artifact.schema)
    novelty_scorer = NoveltyScorer.fit(rows, 99, 0)
    flow = extract_features(altered(known, 1, name, value), artifact.schema)
    (found,) = novelty_reasons(novelty_scorer, flow, num_reasons=1).to_pylist()
    assert [text.partition(" (novelty")[0] for text in found or []] == [said]


def test_of_a_long_value_the_beginning_is_shown():
    measured = pa.table({"host": ["x" * 60, "y" * 60]})
    novelty_scorer = NoveltyScorer.fit(measured, 1, 0)  # one of the two stands for both
    told = [text for texts in novelty_reasons(novelty_scorer, measured).to_pylist() for text in texts or []]
    assert [text.replace("x", "y") for text in told] == [f"host:{'y' * 40} (novelty 1.00)"]


def test_columns_that_hardly_count_are_not_named(artifact: Artifact, table: pa.Table):
    measured = extract_features(table, artifact.schema)
    novelty_scorer = NoveltyScorer.fit(measured.slice(0, 30), 30, 0)
    strongest = -np.sort(-novelty_scorer.contributions(measured), axis=1)[:, :NUM_FEATURES]
    assert ((strongest > 0) & (strongest < 0.01)).any()
    found = novelty_reasons(novelty_scorer, measured).to_pylist()
    assert [len(texts or []) for texts in found] == (strongest >= 0.01).sum(axis=1).tolist()


@pytest.mark.parametrize("num_flows", [0, 60])
def test_where_no_class_is_benign_each_flow_is_explained_by_what_speaks_for_its_class(
    artifact: Artifact, table: pa.Table, num_flows: int
):
    flows = table.slice(0, num_flows)
    detector = Detector(replace(artifact, classes=replace(artifact.classes, benign=None)))
    scores = detector.score(flows)
    assert scores.verdict is None
    assert needs_explanation(scores).tolist() == [True] * num_flows
    found = explain_rows(detector, flows, detector.encode(flows), scores, needs_explanation(scores))
    assert found.to_pylist() == top_reasons(detector.explain(flows), artifact.tokenizer).to_pylist()


def with_limits(artifact: Artifact, table: pa.Table, *, attack_from: float, novel_from: float) -> Detector:
    """Alerts from this attack score on, or from this novelty on, whatever the other of the two."""
    novelty_scorer = NoveltyScorer.fit(extract_features(table.slice(0, 30), artifact.schema), 30, 0)
    attack, novelty = (
        NegLogPValue(scores=(limit, limit + 1e-6), nats=(0.0, 10.0), slope=0.0)
        for limit in (np.log(attack_from / (1 - attack_from)), novel_from)
    )
    limits = AlertBudget(threshold=5.0, alerts_per_10000=1.0, num_flows=1, num_alerts=1)
    operating = replace(
        NO_OPERATING_POINT,
        alert_budget=limits,
        alert_score=CombinedAlertScore(attack=attack, novelty=novelty),
    )
    return Detector(replace(artifact, novelty=novelty_scorer, operating_point=operating))


def test_an_alert_by_novelty_alone_is_explained_by_novelty_and_any_other_by_the_model(
    artifact: Artifact, table: pa.Table
):
    detector = with_limits(artifact, table, attack_from=0.4, novel_from=3.0)
    scores = detector.score(table)
    assert scores.attack_score is not None
    assert scores.novelty is not None
    is_benign, is_novel = scores.class_ids == 0, scores.novelty > 3.0
    is_alert = np.array(scores.verdict) == "alert"
    assert is_alert.tolist() == ((scores.attack_score > 0.4) | is_novel).tolist()
    assert needs_explanation(scores).tolist() == (~is_benign | is_alert).tolist()
    found = explain_rows(
        detector, table, detector.encode(table), scores, needs_explanation(scores)
    ).to_pylist()
    by_novelty = is_benign & is_novel & (scores.attack_score <= 0.4)
    by_model = is_alert & ~by_novelty & ~(is_benign & is_novel)
    assert by_novelty.any()
    assert (by_model & is_benign).any()
    assert not (is_benign & ~is_alert & np.array([texts is not None for texts in found])).any()
    for texts in np.array(found, object)[by_novelty]:
        assert texts
        assert all("novelty" in text for text in texts)
    for texts in np.array(found, object)[by_model]:
        assert all("novelty" not in text for text in texts)


def test_an_alert_is_explained_by_what_speaks_against_the_benign_class_or_for_another(
    artifact: Artifact, table: pa.Table
):
    detector = with_limits(artifact, table, attack_from=0.05, novel_from=1e9)
    scores = detector.score(table)
    is_alert = np.array(scores.verdict) == "alert"
    assert {*scores.class_ids[is_alert].tolist()} >= {0, 1}
    found = explain_rows(
        detector, table, detector.encode(table), scores, np.ones(len(table), np.bool_)
    ).to_pylist()
    for row in np.flatnonzero(is_alert).tolist():
        contributions = detector.explain(table.slice(row, 1)).contributions[0]
        strongest = -np.sort(contributions if scores.class_ids[row] == 0 else -contributions)[:NUM_FEATURES]
        assert found[row] is not None
        said = [float(text.rpartition("(")[2].rstrip(")")) for text in found[row] or []]
        np.testing.assert_allclose(said, strongest[strongest > 0], atol=0.0051)


def test_an_unknown_flow_is_explained_by_novelty_whatever_its_class(artifact: Artifact, table: pa.Table):
    detector = with_limits(artifact, table, attack_from=0.4, novel_from=1e9)
    scores = replace(detector.score(table), novelty_threshold=0.0)
    assert set(scores.verdict or ()) == {"unknown"}
    found = explain_rows(
        detector, table, detector.encode(table), scores, np.arange(len(table)) >= 40
    ).to_pylist()
    assert found[:40] == [None] * 40
    assert all("novelty" in text for texts in found[40:] for text in texts or [])


def test_the_strongest_alert_of_each_source_and_class_is_chosen(monkeypatch: pytest.MonkeyPatch):
    attack = np.array([0.9, 0.95, 0.99, 0.2, 0.97, 0.8])
    scores = Scores(
        probabilities=np.stack([1 - attack, attack], axis=1),
        classes=("benign", "scan"),
        benign="benign",
        row_hashes=np.zeros(6, np.uint64),
        num_truncated=0,
        threshold=0.5,
    )
    sources = pa.array(["a", "a", "b", "a", "b", None])
    assert np.flatnonzero(strongest_alerts(scores, sources)).tolist() == [1, 2, 5]
    assert np.flatnonzero(strongest_alerts(scores, None)).tolist() == [2]
    monkeypatch.setattr("wirebert.inference.explanations.MIN_STRONGEST", 2)
    assert np.flatnonzero(strongest_alerts(scores, sources)).tolist() == [1, 2]  # the highest scores
    assert not strongest_alerts(replace(scores, threshold=None), sources).any()
