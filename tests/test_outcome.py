import numpy as np
import pytest
from sklearn.metrics import f1_score

from wirebert.comparing import SplitVerdicts
from wirebert.evaluation.comparison import Comparison, SplitComparison, Standing
from wirebert.evaluation.paired import Judged
from wirebert.outcome import Stand, as_markdown, few_classes, few_facts, point_facts

RNG = np.random.default_rng(0)
CLASSES = ("normal", "dos", "u2r")
TRUE = np.concatenate([np.zeros(200), np.ones(90), np.full(10, 2)]).astype(np.int64)
PROBABILITIES = (np.eye(3)[TRUE] + RNG.dirichlet(np.ones(3), 300))[np.newaxis] / 2
ROWS = SplitVerdicts(
    fingerprint="",
    labels=CLASSES,
    label_ids=TRUE,
    true=CLASSES,
    names=CLASSES,
    predicted=PROBABILITIES[0].argmax(axis=1).astype(np.int64),
    scores=None,
)
STAND = Stand(
    name="ours",
    probabilities=PROBABILITIES,
    valid_scores=(1 - PROBABILITIES[0, :, 0],),
    valid_attacks=(TRUE != 0,),
)


def test_classes_with_few_rows_are_named_with_their_number() -> None:
    judged = Judged(true_ids=TRUE, num_labels=3, benign=0)
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
    assert facts["test: threshold for 1 % on validation"] == f"1.00% false positives, {found:.3f} found"


def test_without_a_benign_class_there_is_no_threshold() -> None:
    assert set(point_facts("test", ROWS, STAND, CLASSES, None)) == {"test: calibration error"}


def test_markdown_has_the_deciding_figure_first() -> None:
    standings = {
        "ours": {
            "accuracy": Standing(value=0.9, std=0.01, intervals={}),
            "macro_f1": Standing(value=0.5, std=None, intervals={}),
        }
    }
    split = SplitComparison(name="test", num_flows=1, num_clusters=0, standings=standings)
    text = as_markdown(Comparison(title="", primary="macro_f1", splits=(split,)))
    assert text.splitlines()[0] == "| test | macro F1 | accuracy |"
    assert text.splitlines()[2] == "| ours | 0.500 | 0.900 ± 0.010 |"
    assert pytest.approx(0.9) == standings["ours"]["accuracy"].value
