from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.loading import open_flows
from wirebert.data.schema import FlowSchema
from wirebert.errors import ArtifactError, ConfigError
from wirebert.evaluation.novelty import Strangeness
from wirebert.evaluation.thresholds import Threshold
from wirebert.evaluation.tree_features import measure
from wirebert.serving.artifact import Artifact, load_artifact, save_artifact
from wirebert.serving.detector import Detector
from wirebert.serving.operating import NOTHING, Budget, Operating, verdicts
from wirebert.serving.predictions import verdict_table


def limit(rate: float, threshold: float) -> Threshold:
    return Threshold(
        target_fpr=rate, threshold=threshold, num_benign=100, num_false=1, fpr_interval=(0.0, 0.05)
    )


OPERATING = replace(
    NOTHING,
    thresholds=(limit(0.01, 0.5), limit(0.001, 0.9)),
    unknown=(limit(0.01, 1.0), limit(0.001, 2.0)),
    alert_at=0.001,
)


@pytest.fixture(scope="module")
def able(artifact: Artifact, table: pa.Table) -> Artifact:
    """The artifact with thresholds, and with what tells flows that are not among the first forty."""
    strangeness = Strangeness.fit(measure(table.slice(0, 40), artifact.schema), 40, 0)
    return replace(artifact, operating=OPERATING, strangeness=strangeness)


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
    assert OPERATING.unknown_at(None) == 2.0
    budget = Budget(threshold=0.7, alerts_per_10000=5.0, num_flows=1000, num_alerts=1)
    assert replace(OPERATING, budget=budget).threshold_at(None) == 0.7
    assert replace(OPERATING, budget=budget).threshold_at(0.01) == 0.5
    assert NOTHING.threshold_at(None) is None


@pytest.mark.parametrize(("operating", "known"), [(OPERATING, "0.01, 0.001"), (NOTHING, "it has none")])
def test_a_rate_without_a_threshold_is_refused(operating: Operating, known: str) -> None:
    with pytest.raises(ConfigError, match=rf"--at must be .*\({known}\), got 0\.02"):
        operating.threshold_at(0.02)


def test_verdicts_follow_from_scores(able: Artifact, table: pa.Table) -> None:
    for at, threshold in ((None, 0.9), (0.01, 0.5)):
        scores = Detector(able, at=at).score(table)
        assert scores.attack_score is not None
        assert scores.verdict == verdicts(scores.attack_score, threshold)
        assert scores.novelty is None


def test_flows_like_training_are_not_unknown(able: Artifact, table: pa.Table) -> None:
    scores = Detector(able, unknown=True).score(table)
    assert scores.novelty is not None
    assert scores.novelty[:40].max() < 0.01
    assert scores.novelty[40:].max() > 0.1
    assert scores.verdict is not None
    assert [verdict == "unknown" for verdict in scores.verdict] == (scores.novelty >= 2.0).tolist()


def test_an_artifact_that_can_not_tell_unknown_flows_says_so(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"--unknown needs a model .*operating\.unknown_flows"):
        Detector(artifact, unknown=True)
    assert Detector(artifact).score(pa.table({})).verdict is None


def test_everything_survives_the_folder(able: Artifact, table: pa.Table, tmp_path: Path) -> None:
    save_artifact(able, tmp_path / "model", card="")
    again = load_artifact(tmp_path / "model")
    assert again.operating == able.operating
    assert (tmp_path / "model" / "novelty.safetensors").is_file()
    found, expected = (Detector(one, unknown=True).score(table) for one in (again, able))
    assert found.novelty is not None
    assert expected.novelty is not None
    assert (found.novelty == expected.novelty).all()
    assert found.verdict == expected.verdict


def test_an_artifact_without_thresholds_loads_as_before(artifact: Artifact, tmp_path: Path) -> None:
    save_artifact(artifact, tmp_path / "model", card="")
    again = load_artifact(tmp_path / "model")
    assert (again.operating, again.strangeness) == (None, None)
    assert not (tmp_path / "model" / "novelty.safetensors").exists()


def test_a_damaged_novelty_file_is_refused(able: Artifact, tmp_path: Path) -> None:
    save_artifact(able, tmp_path / "model", card="")
    path = tmp_path / "model" / "novelty.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ArtifactError, match=r"novelty\.safetensors.*sha256"):
        load_artifact(tmp_path / "model")


def test_the_table_of_verdicts_has_a_column_for_each(able: Artifact, table: pa.Table) -> None:
    scores = Detector(able, unknown=True).score(table)
    found = verdict_table(table, scores, able.schema, np.arange(60))
    assert found["verdict"].to_pylist() == list(scores.verdict or ())
    assert scores.novelty is not None
    assert found["novelty"].to_pylist() == scores.novelty.tolist()


def test_columns_missing_from_a_file_are_told_as_missing(
    able: Artifact, table: pa.Table, schema: FlowSchema, tmp_path: Path
) -> None:
    (tmp_path / "flows.csv").write_text("bytes,service\n12,http\n")
    (block,) = open_flows(tmp_path / "flows.csv", schema=schema).blocks()
    scores = Detector(able, unknown=True).score(block)
    assert scores.novelty is not None
    assert scores.novelty[0] > 0.1


def test_no_flows_have_no_verdicts(able: Artifact, table: pa.Table) -> None:
    assert Detector(able, unknown=True).score(table.slice(0, 0)).verdict == ()
