from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.metrics import f1_score

from wirebert.comparison.jobs import RECIPE
from wirebert.comparison.results import (
    MethodPredictions,
    MethodRuns,
    as_markdown,
    few_classes,
    few_facts,
    point_facts,
    predictions_of,
)
from wirebert.evaluation.predictions_file import SplitPredictions, read_predictions
from wirebert.metrics.significance import LabelledRows
from wirebert.report.comparison import Comparison, MetricEstimate, SplitComparison
from wirebert.run_folder import RunFolder

RNG = np.random.default_rng(0)
CLASSES = ("normal", "dos", "u2r")
TRUE = np.concatenate([np.zeros(200), np.ones(90), np.full(10, 2)]).astype(np.int64)
PROBABILITIES = (np.eye(3)[TRUE] + RNG.dirichlet(np.ones(3), 300))[np.newaxis] / 2
ROWS = SplitPredictions(
    fingerprint="",
    labels=CLASSES,
    label_ids=TRUE,
    true=CLASSES,
    names=CLASSES,
    predicted=PROBABILITIES[0].argmax(axis=1).astype(np.int64),
    scores=None,
)
STAND = MethodPredictions(
    name="ours",
    probabilities=PROBABILITIES,
    scores=1 - PROBABILITIES[:, :, 0],
    valid_scores=(1 - PROBABILITIES[0, :, 0],),
    valid_attacks=(TRUE != 0,),
)


def test_classes_with_few_rows_are_named_with_their_number() -> None:
    judged = LabelledRows(true_ids=TRUE, num_labels=3, benign=0)
    assert few_classes(judged, CLASSES) == ["u2r (10)"]


def test_macro_f1_without_them_is_the_mean_over_the_others() -> None:
    predicted = PROBABILITIES[0].argmax(axis=1)
    expected = f1_score(TRUE, predicted, labels=[0, 1], average="macro")
    facts = few_facts("test", ROWS, STAND, CLASSES)
    assert facts == {"test: macro F1 without classes below 50 rows": f"{expected:.3f}"}


def test_a_threshold_of_validation_is_told_with_what_became_of_it() -> None:
    scores = 1 - PROBABILITIES[0, :, 0]
    limit = np.sort(scores[TRUE == 0])[-3]  # 1 % of 200 benign rows: two stay above
    found = (scores[TRUE != 0] > limit).mean()
    facts = point_facts("test", ROWS, STAND, CLASSES, "normal")
    assert (
        facts["test: threshold for 1 % on validation"] == f"1.00% false positives, detection rate {found:.3f}"
    )


def test_without_a_benign_class_there_is_no_threshold() -> None:
    assert set(point_facts("test", ROWS, STAND, CLASSES, None)) == {"test: calibration error"}


@pytest.mark.parametrize("is_joined", [False, True])
def test_what_alerts_go_by_is_kept_through_every_step(tmp_path: Path, is_joined: bool) -> None:
    """Attack scores follow the probabilities, which logit offsets move; combined ones stay as they are."""
    alarms = RNG.random((2, 300))
    folders = tuple(RunFolder(tmp_path / str(seed)) for seed in range(2))
    for folder, own in zip(folders, alarms, strict=True):
        names = np.array(CLASSES)[TRUE]
        columns = {f"p_{name}": PROBABILITIES[0, :, at] for at, name in enumerate(CLASSES)}
        columns |= {"attack_score": 1 - PROBABILITIES[0, :, 0]} | ({"alert_score": own} if is_joined else {})
        said = {"row": np.arange(300), "label": names, "true_class": names, "predicted_class": names}
        (folder.path / "predictions").mkdir(parents=True)
        for split in ("valid", "test"):
            parquet.write_table(pa.table(said | columns), folder.predictions(split))
    entrant = MethodRuns(name=RECIPE, plain=folders, chosen=folders, logit_offsets=np.array([1.0, 0.0, 0.0]))
    rows = read_predictions(folders[0].predictions("test"))
    plain, stepped, averaged = predictions_of(entrant, "test", rows, CLASSES, "normal")
    for stand in (plain, stepped):
        assert stand.scores is not None
        expected = alarms if is_joined else 1 - stand.probabilities[:, :, 0]
        np.testing.assert_allclose(stand.scores, expected)
        np.testing.assert_allclose(stand.valid_scores, expected)
    assert averaged.scores is not None
    expected = alarms.mean(axis=0) if is_joined else 1 - averaged.probabilities[0, :, 0]
    np.testing.assert_allclose(averaged.scores[0], expected)
    assert (plain.probabilities != stepped.probabilities).any()


def test_markdown_has_the_deciding_figure_first() -> None:
    standings = {
        "ours": {
            "accuracy": MetricEstimate(value=0.9, std=0.01, intervals={}),
            "macro_f1": MetricEstimate(value=0.5, std=None, intervals={}),
        }
    }
    split = SplitComparison(name="test", num_flows=1, num_clusters=0, estimates=standings)
    text = as_markdown(Comparison(title="", primary="macro_f1", splits=(split,)))
    assert text.splitlines()[0] == "| test | macro F1 | accuracy |"
    assert text.splitlines()[2] == "| ours | 0.500 | 0.900 ± 0.010 |"
    assert pytest.approx(0.9) == standings["ours"]["accuracy"].value
