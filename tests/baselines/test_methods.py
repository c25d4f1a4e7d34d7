from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score

from wirebert.baselines.methods import BASELINES, BaselineMethod, draw_trials, fit_baseline
from wirebert.baselines.task import Params, Predict, Rows, Task

TABULAR = [name for name, method in BASELINES.items() if not method.needs_text]
SMALL = {"trees": 30, "rounds": 30, "width": 64, "blocks": 2}


def make_task(num_classes: int = 3) -> tuple[Task, Rows, np.ndarray]:
    features, classes = make_classification(
        900, 8, n_informative=5, n_classes=3, class_sep=2.0, random_state=0
    )
    features = np.asarray(features, np.float64)
    features[:, 7] = np.where(features[:, 7] > 0, 1.0, 0.0)  # a code
    features[::17, 2] = np.nan
    classes = np.asarray(classes, np.int64)
    rows = Rows(features)
    parts = [np.arange(0, 500), np.arange(500, 600), np.arange(600, 900)]
    train, stop, test = (rows.take(part) for part in parts)
    task = Task(
        train=train,
        train_ids=classes[parts[0]],
        stop=stop,
        stop_ids=classes[parts[1]],
        is_categorical=np.arange(8) == 7,
        num_classes=num_classes,
    )
    return task, test, classes[parts[2]]


@pytest.mark.parametrize("name", TABULAR)
def test_a_method_learns_and_gives_probabilities(name: str) -> None:
    pytest.importorskip({"xgboost": "xgboost", "lightgbm": "lightgbm", "tabm": "tabm"}.get(name, "sklearn"))
    task, test, classes = make_task(4)  # a class without a row
    found = fit_baseline(BASELINES[name], task, SMALL, 1)(test)
    assert accuracy_score(classes, found.argmax(axis=1)) > 0.8
    assert found.sum(axis=1) == pytest.approx(1, abs=1e-4)
    assert (found[:, 3] == 0).all()


@pytest.mark.parametrize("name", TABULAR)
def test_the_same_seed_gives_the_same_figures_and_unseen_values_are_welcome(name: str) -> None:
    pytest.importorskip({"xgboost": "xgboost", "lightgbm": "lightgbm", "tabm": "tabm"}.get(name, "sklearn"))
    task, test, _ = make_task()
    odd = Rows(np.where(np.arange(8) == 7, 5.0, np.nan) * np.ones((len(test), 1)))
    trial = {**draw_trials(BASELINES[name], 3, seed=1)[2], **SMALL}
    first, second = (fit_baseline(BASELINES[name], task, trial, 1) for _ in range(2))
    assert np.array_equal(first(test), second(test))
    assert np.isfinite(first(odd)).all()


def test_the_text_machine_reads_words() -> None:
    texts = ["id=1 or 1=1", "name=alice", "q=select * from users", "page=home"] * 30
    classes = np.array([1, 0, 1, 0] * 30, dtype=np.int64)
    rows = Rows(np.empty((120, 0)), texts)
    task = Task(
        train=rows,
        train_ids=classes,
        stop=rows.take(np.arange(4)),
        stop_ids=classes[:4],
        is_categorical=np.empty(0, dtype=bool),
        num_classes=2,
    )
    found = fit_baseline(BASELINES["text_svm"], task, {}, 1)(
        Rows(np.empty((2, 0)), ["select * from t", "page=alice"])
    )
    assert found.argmax(axis=1).tolist() == [1, 0]


def test_trials_begin_with_the_defaults_and_are_as_many_as_asked_for() -> None:
    for method in BASELINES.values():
        trials = draw_trials(method, 6, seed=3)
        assert len(trials) == 6
        assert trials[0] == {}
        assert trials == draw_trials(method, 6, seed=3)
        assert sum(bool(trial.get("column_seed")) for trial in trials) == 2


def test_one_class_alone_is_always_said() -> None:
    task, test, _ = make_task()
    only = Task(
        train=task.train,
        train_ids=np.full(500, 2),
        stop=task.stop,
        stop_ids=task.stop_ids,
        is_categorical=task.is_categorical,
        num_classes=3,
    )
    assert (fit_baseline(BASELINES["xgboost"], only, {}, 1)(test)[:, 2] == 1).all()


def test_rows_of_classes_that_training_lacks_do_not_stop_it_early() -> None:
    task, _, _ = make_task()
    seen: list[Task] = []

    def fit(task: Task, params: Params, seed: int) -> Predict:
        seen.append(task)
        return lambda rows: np.full((len(rows), 2), 0.5)

    kept = np.flatnonzero(task.train_ids != 1)
    two = replace(task, train=task.train.take(kept), train_ids=task.train_ids[kept])
    fit_baseline(BaselineMethod("a", fit, {}), two, {}, 1)
    assert np.array_equal(seen[0].stop_ids, task.stop_ids[task.stop_ids != 1] // 2)  # 0 and 2 become 0 and 1
    assert len(seen[0].stop) == len(seen[0].stop_ids)
