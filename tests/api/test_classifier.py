"""The contract of scikit-learn."""

import pickle
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from wirebert.api.classifier import WirebertClassifier

pytestmark = pytest.mark.filterwarnings("ignore::wirebert.FindingWarning")

SETTINGS: dict[str, Any] = {
    "num_layers": 1,
    "dim": 16,
    "num_heads": 2,
    "hidden_dim": 16,
    "subword_vocab_size": 300,
    "batch_size": 16,
    "learning_rate": 0.02,
    "classifier_lr_multiplier": 1.0,
    "num_bins": 6,
    "num_exact_values": 2,
    "feature_corruption": 0.0,
    "column_dropout": 0.0,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "head_dropout": 0.0,
}
"""A 1 x 16 architecture, without the regularisation that hundreds of rows need."""

QUICK = """check_estimator_cloneable check_estimator_repr check_no_attributes_set_in_init
check_fit_score_takes_y check_estimators_unfitted check_n_features_in check_dict_unchanged
check_estimators_pickle check_classifiers_one_label check_dtype_object check_fit2d_1sample check_fit1d
check_set_params check_get_params_invariance""".split()
"""The checks that the gate has time for; soak runs all."""


def classifier(epochs: int = 6) -> WirebertClassifier:
    return WirebertClassifier(epochs=epochs, random_state=0, settings=SETTINGS)


def run_checks(estimator: WirebertClassifier, names: Sequence[str] | None) -> set[str]:
    """The checks that were run."""
    done: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one, check in cast(Any, estimator_checks_generator(estimator)):
            name = getattr(check, "func", check).__name__
            if names is None or name in names:
                try:
                    check(one)
                except pytest.skip.Exception:
                    continue
                except BaseException as error:
                    if type(error).__name__ != "SkipTest":
                        raise AssertionError(name) from error
                done.add(name)
    return done


def test_it_passes_the_quick_checks_of_scikit_learn():
    assert run_checks(classifier(epochs=1), QUICK) == set(QUICK)


ALL_CHECKS = f"""
import runpy
tests = runpy.run_path({__file__!r})
# 300 points in two columns need small batches: a model of 16 dimensions is no classifier of blobs.
slow = {{**tests["SETTINGS"], "batch_size": 8, "learning_rate": 0.01}}
estimator = tests["WirebertClassifier"](epochs=16, random_state=0, settings=slow)
print(len(tests["run_checks"](estimator, None)))
"""


@pytest.mark.soak
def test_it_passes_all_checks_of_scikit_learn():
    """In a process of its own, as shapes and types are checked in this one: a check passes a wrong type."""
    done = subprocess.run([sys.executable, "-c", ALL_CHECKS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 40


@pytest.fixture(scope="module")
def flows() -> tuple[pa.Table, list[str]]:
    """Mixed columns, of which category and bytes tell the class."""
    rng = np.random.default_rng(0)
    classes = rng.choice(["benign", "dos"], 120, p=[0.6, 0.4])
    table = pa.table(
        {
            "service": np.where(classes == "dos", "dns", rng.choice(["http", "ssh"], 120)),
            "bytes": rng.exponential(100, 120) * np.where(classes == "dos", 50, 1),
            "duration": [None if at % 7 == 0 else float(at % 5) for at in range(120)],
        }
    )
    return table, classes.tolist()


@pytest.fixture(scope="module")
def fitted(flows: tuple[pa.Table, list[str]]) -> WirebertClassifier:
    return classifier().fit(*flows)


def test_it_learns_mixed_columns(fitted: WirebertClassifier, flows: tuple[pa.Table, list[str]]):
    table, classes = flows
    assert fitted.classes_.tolist() == ["benign", "dos"]
    assert (fitted.predict(table) == classes).mean() > 0.9
    assert fitted.detector_.artifact.classes.benign == "benign"
    np.testing.assert_allclose(fitted.predict_proba(table).sum(axis=1), 1, atol=1e-6)


def test_a_pickle_holds_the_files_of_the_artifact_and_gives_the_same_probabilities(
    fitted: WirebertClassifier, flows: tuple[pa.Table, list[str]]
):
    state = fitted.__getstate__()
    assert {"config.json", "model.safetensors", "wirebert.json"} <= set(state["artifact_files"])  # pyright: ignore
    assert "detector_" not in state
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(flows[0]), fitted.predict_proba(flows[0]))


def test_classes_keep_their_type_and_order():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 2))
    y = np.where(X[:, 0] > 0, 7, -1)
    fitted = classifier(epochs=2).fit(X, y)
    assert fitted.classes_.tolist() == [-1, 7]
    assert fitted.predict(X).dtype == y.dtype


def test_classes_that_labels_would_merge_stay_apart():
    X = np.arange(80.0).reshape(40, 2) % 11
    fitted = classifier(epochs=1).fit(X, ["normal", "Benign", "NORMAL", "n/a"] * 10)
    assert fitted.classes_.tolist() == ["Benign", "NORMAL", "n/a", "normal"]
    assert fitted.predict_proba(X).shape == (40, 4)


def test_it_works_in_a_pipeline_a_cross_validation_and_a_search(flows: tuple[pa.Table, list[str]]):
    X = np.column_stack([flows[0]["bytes"].to_numpy(), np.arange(120)])
    y = np.array(flows[1])
    pipeline = Pipeline([("scale", StandardScaler()), ("bert", classifier(epochs=2))])
    assert cross_val_score(pipeline, X, y, cv=2).shape == (2,)
    search = GridSearchCV(clone(classifier()), {"epochs": [1, 2]}, cv=2).fit(X, y)
    assert search.best_params_["epochs"] in (1, 2)


def test_mixed_data_frames_can_be_searched(flows: tuple[pa.Table, list[str]]):
    pytest.importorskip("pandas")
    frame = flows[0].to_pandas()
    search = GridSearchCV(classifier(), {"epochs": [1, 2]}, cv=2).fit(frame, flows[1])
    assert cross_val_score(search.best_estimator_, frame, flows[1], cv=2).shape == (2,)
    assert search.best_estimator_.feature_names_in_.tolist() == ["service", "bytes", "duration"]


def test_polars_frames_and_categories_are_learned_as_pandas_frames_are(flows: tuple[pa.Table, list[str]]):
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    frame: Any = flows[0].to_pandas()
    expected = classifier(epochs=1).fit(frame, flows[1]).predict_proba(frame)
    for same in (polars.from_arrow(flows[0]), frame.assign(service=pandas.Categorical(frame["service"]))):
        fitted: Any = classifier(epochs=1).fit(same, flows[1])
        np.testing.assert_array_equal(fitted.predict_proba(same), expected)
        assert fitted.feature_names_in_.tolist() == ["service", "bytes", "duration"]


def test_a_frame_whose_columns_have_numbers_for_names_is_an_array():
    pandas = pytest.importorskip("pandas")
    X = np.arange(80.0).reshape(40, 2) % 7
    y = [1, 2] * 20
    array, frame = (classifier(epochs=1).fit(data, y) for data in (X, pandas.DataFrame(X)))
    np.testing.assert_array_equal(array.predict_proba(X), frame.predict_proba(pandas.DataFrame(X)))


def test_errors_are_value_errors_in_one_sentence(flows: tuple[pa.Table, list[str]]):
    table, classes = flows
    with pytest.raises(ValueError, match="one of the classes"):
        WirebertClassifier(benign="worm").fit(table, classes)
    with pytest.raises(ValueError, match="there is no setting 'epoch'"):
        WirebertClassifier(settings={"epoch": 3}).fit(table, classes)
    with pytest.raises(ValueError, match="a class for each of the 120 rows"):
        WirebertClassifier().fit(table, classes[1:])
