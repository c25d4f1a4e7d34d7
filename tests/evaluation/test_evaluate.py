from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv, parquet
from sklearn import metrics as sklearn

from wirebert.baselines.fitted import fit_columns
from wirebert.data.flows import Flows, FlowSubset, open_flows
from wirebert.data.labels import UNLABELLED, ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.encoding.matrix import extract_features
from wirebert.errors import SchemaError
from wirebert.evaluation.evaluate import (
    TrueClasses,
    evaluate_baseline,
    evaluate_baseline_on,
    evaluate_detector,
    split_metrics,
)
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.metrics.thresholds import fit_threshold
from wirebert.model.distilbert import DistilBert

LABEL_MAP = {"normal": "normal", "calm": "normal", "smurf": "dos", "neptune": "dos", "nmap": "probe"}
CLASSES = ClassMap(classes=("normal", "dos", "probe"), label_map=LABEL_MAP, benign="normal")
KINDS = {
    "uid": ColumnKind.IDENTIFIER,
    "bytes": ColumnKind.COUNT,
    "service": ColumnKind.CATEGORY,
    "attack": ColumnKind.LABEL,
}
SCHEMA = FlowSchema(
    name="flows",
    columns=tuple(Column(name=n, kind=k, is_feature=k.can_be_feature) for n, k in KINDS.items()),
    label_map=LABEL_MAP,
    benign="normal",
)
NAMES = [*LABEL_MAP, "worm", None]
"""`worm` is an attack that training lacks; None is a flow without a label."""


def traffic(num_rows: int = 90) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "uid": [f"C{number}" for number in range(num_rows)],
            "bytes": rng.integers(0, 50, num_rows).astype(float),
            "service": np.array(["http", "dns", "ssh"])[rng.integers(0, 3, num_rows)].tolist(),
            "attack": [NAMES[at] for at in rng.integers(0, len(NAMES), num_rows)],
        }
    )


@pytest.fixture(scope="module")
def detector(untrained: Callable[..., tuple[Artifact, DistilBert]]) -> Detector:
    return Detector(untrained(SCHEMA, traffic(), CLASSES, spread=0.5)[0])


@pytest.fixture
def flows(tmp_path: Path) -> Flows:
    """The traffic as three files, each a block of thirty rows."""
    (tmp_path / "traffic").mkdir()
    for number in range(3):
        csv.write_csv(traffic().slice(30 * number, 30), tmp_path / "traffic" / f"{number}.csv")
    return open_flows(tmp_path / "traffic", schema=SCHEMA)


def chosen(*rows: int) -> np.ndarray:
    return np.isin(np.arange(90), rows)


# Parts


def test_a_part_is_all_rows_unless_some_are_chosen(flows: Flows):
    blocks = list(FlowSubset("all", flows).blocks())
    assert [numbers.tolist() for _, numbers in blocks] == [
        list(range(30)),
        list(range(30, 60)),
        list(range(60, 90)),
    ]
    assert pa.concat_tables(table for table, _ in blocks)["uid"].to_pylist() == traffic()["uid"].to_pylist()


def test_chosen_rows_keep_their_numbers_and_blocks_without_any_are_passed_over(flows: Flows):
    part = FlowSubset("some", flows, chosen(3, 29, 60, 89))
    blocks = [(table["uid"].to_pylist(), numbers.tolist()) for table, numbers in part.blocks()]
    assert blocks == [(["C3", "C29"], [3, 29]), (["C60", "C89"], [60, 89])]
    assert [table["uid"].to_pylist() for table in part.tables()] == [["C3", "C29"], ["C60", "C89"]]


def test_a_part_may_be_empty(flows: Flows):
    assert list(FlowSubset("none", flows, chosen()).blocks()) == []


# True classes


def labels(*chunks: list[str | None], coded: bool) -> pa.ChunkedArray:
    arrays = [pa.array(chunk, pa.string()) for chunk in chunks]
    return pa.chunked_array([array.dictionary_encode() for array in arrays] if coded else arrays)


@pytest.mark.parametrize("coded", [True, False])
def test_labels_that_training_lacks_get_classes_of_their_own(coded: bool):
    truth = TrueClasses(CLASSES)
    truth.add(labels(["nmap", "worm", None], ["smurf"], coded=coded))
    truth.add(labels([], [None, "ant", "worm", "calm"], coded=coded))
    assert truth.extra_classes == ("ant", "worm")  # sorted, whatever comes first
    assert truth.class_ids.tolist() == [2, 4, UNLABELLED, 1, UNLABELLED, 3, 4, 0]
    assert list(truth.labels) == ["nmap", "worm", "smurf", "ant", "calm"]
    assert truth.label_ids.tolist() == [0, 1, UNLABELLED, 2, UNLABELLED, 3, 1, 4]


def test_labels_of_any_other_name_may_have_a_class():
    classes = ClassMap(classes=("rest", "dos"), label_map={"smurf": "dos", "*": "rest"}, benign="rest")
    truth = TrueClasses(classes)
    truth.add(labels(["worm", "smurf"], coded=True))
    assert truth.extra_classes == ()
    assert truth.class_ids.tolist() == [0, 1]


def test_without_rows_there_are_no_classes():
    truth = TrueClasses(CLASSES)
    assert (truth.class_ids.tolist(), truth.label_ids.tolist(), truth.extra_classes) == ([], [], ())


@pytest.mark.parametrize("coded", [True, False])
def test_labels_and_classes_are_named_row_by_row(coded: bool):
    named = TrueClasses(CLASSES).named(labels(["nmap", None], ["worm", "nmap"], [], coded=coded))
    assert named["label"].to_pylist() == ["nmap", None, "worm", "nmap"]
    assert named["true_class"].to_pylist() == ["probe", None, "worm", "probe"]
    assert {array.type for array in named.values()} == {pa.string()}


# Verdicts and figures


def test_figures_are_those_of_scikit_learn_on_the_predictions_file(
    detector: Detector, flows: Flows, tmp_path: Path
):
    found = evaluate_detector(
        detector, FlowSubset("test", flows), tmp_path / "new" / "test.parquet", seed=1, num_resamples=20
    )
    rows = parquet.read_table(tmp_path / "new" / "test.parquet")
    assert rows["row"].to_pylist() == list(range(90))
    assert rows["uid"].to_pylist() == traffic()["uid"].to_pylist()
    assert rows["label"].to_pylist() == traffic()["attack"].to_pylist()
    labelled = rows.filter(pa.array([label is not None for label in rows["label"].to_pylist()]))
    assert 0 < labelled.num_rows < rows.num_rows
    true: list[Any] = labelled["true_class"].to_pylist()
    predicted: list[Any] = labelled["predicted_class"].to_pylist()
    names = ["normal", "dos", "probe", "worm"]
    assert set(true) == set(names)
    assert found.num_flows == labelled.num_rows
    assert found.classes_not_in_training == {"worm": true.count("worm")}
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(true, predicted))
    assert found.confusion.labels == tuple(names)
    matrix = sklearn.confusion_matrix(true, predicted, labels=names)
    assert [list(row) for row in found.confusion.matrix] == matrix.tolist()
    how: dict[str, Any] = {"labels": names, "zero_division": 0}
    assert found.macro_f1 == pytest.approx(sklearn.f1_score(true, predicted, average="macro", **how))
    assert found.headline["weighted_f1"] == pytest.approx(
        sklearn.f1_score(true, predicted, average="weighted", **how)
    )
    by_class: Any = sklearn.precision_recall_fscore_support(true, predicted, **how)
    for name, precision, recall, f1, support in zip(names, *by_class, strict=True):
        figure = found.per_class[name]
        assert (figure.precision, figure.recall, figure.f1) == pytest.approx((precision, recall, f1))
        assert figure.support == support
    is_attack = [name != "normal" for name in true]
    assert found.binary is not None
    assert found.binary.auroc == pytest.approx(
        sklearn.roc_auc_score(is_attack, labelled["attack_score"].to_pylist())
    )
    assert found.headline["binary_accuracy"] == pytest.approx(
        sklearn.accuracy_score(is_attack, [name != "normal" for name in predicted])
    )
    known = [name != "worm" for name in true]
    probabilities = np.stack([labelled[f"p_{name}"].to_numpy() for name in names[:3]], axis=1)[known]
    expected = sklearn.log_loss([names.index(name) for name in true if name != "worm"], probabilities)
    assert found.loss == pytest.approx(expected)


def test_chosen_rows_alone_are_judged_under_their_numbers(detector: Detector, flows: Flows, tmp_path: Path):
    whole, some = tmp_path / "whole.parquet", tmp_path / "some.parquet"
    evaluate_detector(detector, FlowSubset("whole", flows), whole, seed=1, num_resamples=2)
    evaluate_detector(detector, FlowSubset("some", flows, chosen(80, 2, 31)), some, seed=1, num_resamples=2)
    expected = parquet.read_table(whole).take([2, 31, 80])
    found = parquet.read_table(some)
    assert found.column_names == expected.column_names
    assert found["uid"].to_pylist() == ["C2", "C31", "C80"]
    for name in found.column_names:
        if name == "attack_score" or name.startswith("p_"):
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
        else:
            assert found[name].to_pylist() == expected[name].to_pylist()


def test_predictions_are_written_anew_or_not_at_all(detector: Detector, flows: Flows, tmp_path: Path):
    path = tmp_path / "test.parquet"
    path.write_text("of a killed run")
    first = evaluate_detector(detector, FlowSubset("test", flows), path, seed=1, num_resamples=2)
    assert parquet.read_table(path).num_rows == 90
    path.unlink()
    assert evaluate_detector(detector, FlowSubset("test", flows), None, seed=1, num_resamples=2) == first
    assert not path.exists()


def test_a_part_without_rows_has_figures_of_nothing_and_predictions_with_columns(
    detector: Detector, flows: Flows, tmp_path: Path
):
    whole, none = tmp_path / "whole.parquet", tmp_path / "none.parquet"
    evaluate_detector(detector, FlowSubset("whole", flows), whole, seed=1, num_resamples=2)
    found = evaluate_detector(detector, FlowSubset("none", flows, chosen()), none, seed=1, num_resamples=2)
    assert (found.num_flows, found.intervals) == (0, None)
    assert parquet.read_table(none).num_rows == 0
    assert parquet.read_schema(none) == parquet.read_schema(whole)


def test_a_file_without_labels_is_refused(detector: Detector, tmp_path: Path):
    csv.write_csv(traffic().drop_columns(["attack"]), tmp_path / "flows.csv")
    part = FlowSubset("test", open_flows(tmp_path / "flows.csv", schema=SCHEMA))
    with pytest.raises(SchemaError, match="there is no label column 'attack'"):
        evaluate_detector(detector, part, tmp_path / "test.parquet", seed=1, num_resamples=2)
    assert [path.name for path in tmp_path.iterdir()] == ["flows.csv"]


def judged(classes: ClassMap, names: list[str | None]) -> Any:
    truth = TrueClasses(classes)
    truth.add(labels(names, coded=True))
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), len(names))
    return split_metrics(truth, probabilities, seed=1, num_resamples=50)


def test_clusters_are_attack_names_and_benign_flows_are_drawn_alone():
    names = [*["normal", "calm"] * 20, *["smurf"] * 5, *["neptune"] * 5, "nmap", "worm", None, None]
    found = judged(CLASSES, names)
    assert found.num_flows == 52
    assert found.intervals.num_clusters == 4  # smurf, neptune, nmap, worm
    # Two labels of which one is benign: a single cluster is left, and no interval can be told from it.
    single = judged(CLASSES, [*["normal"] * 20, *["smurf"] * 5])
    assert (single.intervals.num_clusters, single.intervals.clusters) == (1, None)


def test_without_a_benign_class_every_label_is_a_cluster():
    found = judged(replace(CLASSES, benign=None), ["normal", "calm", "smurf", None])
    assert found.intervals.num_clusters == 3
    assert found.binary is None


def test_labels_that_are_the_classes_make_no_clusters():
    classes = replace(CLASSES, label_map={})
    assert judged(classes, ["normal", "dos", "probe"] * 5).intervals.clusters is None


def test_trees_are_judged_on_the_same_rows_in_the_same_way(detector: Detector, flows: Flows):
    part = FlowSubset("test", flows, chosen(*range(20, 90)))
    blocks = [(table, CLASSES.encode(table["attack"])) for table in part.tables()]
    trees = fit_columns("gbdt", {}, iter(blocks), SCHEMA, 3, seed=0)
    found, predicted = evaluate_baseline(trees, CLASSES, part, seed=1, num_resamples=20)
    assert len(predicted) == found.num_flows
    beside = evaluate_detector(detector, part, None, seed=1, num_resamples=20)
    assert found.num_flows == beside.num_flows
    assert found.classes_not_in_training == beside.classes_not_in_training
    assert {name: figure.support for name, figure in found.per_class.items()} == {
        name: figure.support for name, figure in beside.per_class.items()
    }
    truth = TrueClasses(CLASSES)
    for table in part.tables():
        truth.add(table["attack"])
    probabilities = np.concatenate([trees.predict_proba(table) for table in part.tables()])
    assert found == split_metrics(truth, probabilities, seed=1, num_resamples=20)


def test_flows_whose_tokens_training_has_seen_are_told_apart(detector: Detector, flows: Flows):
    part = FlowSubset("test", flows)
    hashes = np.concatenate([detector.score(table).row_hashes for table in part.tables()])
    seen = hashes[:30]
    found = evaluate_detector(detector, part, None, seed=1, num_resamples=2, train_hashes=seen)
    is_labelled = np.array([label is not None for label in traffic()["attack"].to_pylist()])
    assert found.train_overlap is not None
    assert found.train_overlap.seen.num_flows == int((np.isin(hashes, seen) & is_labelled).sum())
    assert found.train_overlap.seen.num_flows + found.train_overlap.unseen.num_flows == found.num_flows


def test_thresholds_of_trees_are_fitted_on_the_first_part_alone(
    detector: Detector, flows: Flows, tmp_path: Path
):
    first, second = (
        FlowSubset("valid", flows, np.arange(90) < 60),
        FlowSubset("test", flows, np.arange(90) >= 60),
    )
    blocks = [(table, CLASSES.encode(table["attack"])) for table in first.tables()]
    trees = fit_columns("gbdt", {}, iter(blocks), SCHEMA, 3, seed=0)
    third = FlowSubset("other", flows)
    parts = [first, second, third]
    for part in parts:
        evaluate_detector(detector, part, tmp_path / f"{part.name}.parquet", seed=1, num_resamples=2)
    found, differences = evaluate_baseline_on(
        trees, CLASSES, parts, lambda name: tmp_path / f"{name}.parquet", seed=1, num_resamples=2
    )
    low, high = differences["test"]["accuracy"]
    assert low <= high
    fitted, carried = (
        [point.threshold for point in found[name].operating_points] for name in ("valid", "test")
    )
    assert carried == fitted
    assert len(fitted) == 3
    assert [found[name].thresholds_from for name in found] == [None, "valid", "valid"]


def test_where_alerts_go_by_novelty_too_so_do_thresholds_and_curves(
    detector: Detector, flows: Flows, tmp_path: Path
) -> None:
    strangeness = NoveltyScorer.fit(extract_features(traffic().slice(0, 30), SCHEMA), 30, 0)
    scores = detector.score(traffic()).attack_score
    assert scores is not None
    alarm = CombinedAlertScore.fit(scores, strangeness.scores(extract_features(traffic(), SCHEMA)))
    limits = (fit_threshold(np.linspace(0, 4, 90), np.zeros(90, bool), 0.5),)
    operating = replace(NO_OPERATING_POINT, alert_score=alarm, thresholds=limits, alert_fpr=0.5)
    joined = Detector(replace(detector.artifact, novelty=strangeness, operating_point=operating))
    found = evaluate_detector(
        joined, FlowSubset("test", flows), tmp_path / "test.parquet", seed=1, num_resamples=20
    )
    rows = parquet.read_table(tmp_path / "test.parquet")
    rows = rows.filter(pc.is_valid(rows["label"]))
    is_attack = np.array([name != "normal" for name in rows["true_class"].to_pylist()])
    said = rows["alert_score"].to_numpy()
    assert said.tolist() != rows["attack_score"].to_pylist()
    assert found.alert_score == "attack_and_novelty"
    assert found.binary is not None
    assert found.binary.auroc == pytest.approx(sklearn.roc_auc_score(is_attack, said))
    (point,) = found.operating_points
    assert point.fpr == pytest.approx((said[~is_attack] >= limits[0].threshold).mean())
    assert point.tpr == pytest.approx((said[is_attack] >= limits[0].threshold).mean())
