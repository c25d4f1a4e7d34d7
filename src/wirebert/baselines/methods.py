"""The baseline methods: other detectors trained on the same rows, which a model has to beat.

Each is from a well-maintained library, with early stopping by log-loss if supported, and a search space of
settings. Baselines read the features of boosted trees (`tree_features`): numbers, codes and statistics of
texts; the linear SVM reads the words of text columns instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from wirebert.baselines.boosting import fit_lightgbm, fit_xgboost
from wirebert.baselines.task import (
    Params,
    Predict,
    Rows,
    ScaledFeatures,
    Setting,
    Task,
    class_weights,
    known,
    number,
)
from wirebert.shapes import Bool, Float64, Int64

COLUMN_DROPOUT = 0.15
"""Probability of dropping each column in a trial that selects columns."""

NUM_TREES = 600
"""Trees that `gbdt` fits by default, over all classes."""

_ROUNDS = (20, 100)
"""Fewest and most rounds by default."""

MAX_LEVELS_BY_SET = 255
"""Most codes that scikit-learn's trees split by set; other columns are split by order (falling frequency)."""

Fit = Callable[[Task, Params, int], Predict]


@dataclass(frozen=True, slots=True)
class BaselineMethod:
    """A baseline method."""

    title: str
    fit: Fit
    space: Mapping[str, Sequence[Setting]]
    """Setting -> values to draw from; a trial without the setting uses the library's default."""
    needs_text: bool = False
    """Whether it reads text columns only."""


def fit_baseline(method: BaselineMethod, task: Task, params: Params, seed: int) -> Predict:
    """Train on the task with these settings; probabilities cover all classes, 0 for those training lacks."""
    column_seed = int(number(params, "column_seed", 0))
    columns = np.ones(len(task.is_categorical), dtype=bool)
    if column_seed and not method.needs_text:
        columns = np.random.default_rng(column_seed).random(len(task.is_categorical)) >= COLUMN_DROPOUT
        columns |= not columns.any()
    present, counts = np.unique(task.train_ids, return_counts=True)
    if len(present) == 1 or not (len(columns) or method.needs_text):
        return _constant(int(present[counts.argmax()]), task.num_classes)
    predict = method.fit(_narrowed(task, columns, present), params, seed)

    def probabilities(rows: Rows) -> Float64[np.ndarray, "flows classes"]:
        probs = np.zeros((len(rows), task.num_classes))
        if len(rows):
            probs[:, present] = predict(Rows(rows.numbers[:, columns], rows.texts))
        return probs

    return probabilities


def draw_trials(method: BaselineMethod, num_trials: int, seed: int) -> list[Params]:
    """Settings to try: the defaults with all columns, then random ones, every second with columns dropped."""
    rng = np.random.default_rng(seed)
    trials: list[Params] = [{}]
    while len(trials) < num_trials:
        params = {name: values[int(rng.integers(len(values)))] for name, values in method.space.items()}
        trials.append(params | {"column_seed": int(rng.integers(1, 2**31)) if len(trials) % 2 == 0 else 0})
    return trials[:num_trials]


def fit_gbdt(task: Task, params: Params, seed: int) -> Predict:
    """scikit-learn's histogram gradient boosting, with early stopping if there are rows for it."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    numbers, has_stop = task.train.numbers, len(task.stop) > 0
    weights = class_weights(task.train_ids, task.num_classes, params.get("class_weight"))
    # One tree per class and round, so there are fewer rounds where there are many classes.
    default_rounds = int(np.clip(NUM_TREES // task.num_classes, *_ROUNDS))
    by_set = np.nan_to_num(numbers).max(axis=0, initial=0) < MAX_LEVELS_BY_SET
    model = HistGradientBoostingClassifier(
        max_iter=int(number(params, "rounds", default_rounds)),
        learning_rate=number(params, "learning_rate", 0.1),
        max_leaf_nodes=int(number(params, "leaves", 31)),
        # As in XGBoost. Without it, leaves with few flows of a rare class diverge: the test loss on NSL-KDD
        # is eight times as high.
        l2_regularization=number(params, "l2", 1.0),
        max_features=number(params, "column_share", 1.0),
        categorical_features=task.is_categorical & by_set,
        class_weight=dict(enumerate(weights.tolist())),
        early_stopping=cast(Any, has_stop),
        n_iter_no_change=int(number(params, "patience", 20)),
        random_state=seed,
    )
    stop = {"X_val": task.stop.numbers, "y_val": task.stop_ids} if has_stop else {}
    model.fit(numbers, task.train_ids, **stop)
    return lambda rows: np.asarray(model.predict_proba(rows.numbers), dtype=np.float64)


def fit_forest(task: Task, params: Params, seed: int) -> Predict:
    """scikit-learn's random forest."""
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=int(number(params, "trees", 100)),
        max_features=cast(str, params.get("max_features", "sqrt")),
        min_samples_leaf=int(number(params, "min_leaf", 1)),
        class_weight=params.get("class_weight"),
        random_state=seed,
        n_jobs=-1,
    ).fit(task.train.numbers, task.train_ids)
    model.set_params(n_jobs=1)  # threads would add the trees in any order, which changes the last bits
    return lambda rows: np.asarray(model.predict_proba(rows.numbers), dtype=np.float64)


def fit_logistic(task: Task, params: Params, seed: int) -> Predict:
    """scikit-learn's multinomial logistic regression on scaled numbers and one-hot frequent codes."""
    from sklearn.linear_model import LogisticRegression

    prepare = ScaledFeatures.fit(task, str(params.get("scaling", "standard")), seed)
    model = LogisticRegression(
        C=number(params, "C", 1.0), class_weight=params.get("class_weight"), max_iter=300, tol=1e-3
    )
    # Convergence is not awaited: the loss hardly changes any more.
    with known("lbfgs failed to converge"):
        model.fit(prepare(task.train), task.train_ids)
    return lambda rows: np.asarray(model.predict_proba(prepare(rows)), dtype=np.float64)


def fit_text_svm(task: Task, params: Params, seed: int) -> Predict:
    """TF-IDF of pieces of the text and scikit-learn's linear support vector machine.

    It has no probabilities: margins are used as log-odds until they are calibrated.
    """
    from scipy.special import softmax
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    assert task.train.texts is not None
    kind = str(params.get("pieces", "char_wb"))
    vectors = TfidfVectorizer(
        analyzer=kind,
        ngram_range=(1, int(number(params, "longest", 3))),
        min_df=int(number(params, "min_rows", 2)),
        sublinear_tf=True,
        lowercase=bool(params.get("lowercase", False)),
        max_features=400_000,
        token_pattern=cast(str, r"\w+|[^\w\s]" if kind == "word" else None),  # marks are words too
    )
    model = LinearSVC(C=number(params, "C", 1.0), class_weight=params.get("class_weight"), random_state=seed)
    model.fit(vectors.fit_transform(task.train.texts), task.train_ids)

    def predict(rows: Rows) -> Float64[np.ndarray, "flows classes"]:
        assert rows.texts is not None
        margins = np.asarray(model.decision_function(vectors.transform(rows.texts)), dtype=np.float64)
        if margins.ndim == 1:
            margins = np.stack([-margins, margins], axis=1)
        return np.asarray(softmax(margins, axis=1), dtype=np.float64)

    return predict


def _narrowed(task: Task, kept: Bool[np.ndarray, " columns"], present: Int64[np.ndarray, " present"]) -> Task:
    """The task on these columns and classes; rows of other classes are not used for early stopping."""
    stops = np.flatnonzero(np.isin(task.stop_ids, present))
    stop = task.stop.take(stops)
    return Task(
        train=Rows(task.train.numbers[:, kept], task.train.texts),
        train_ids=np.searchsorted(present, task.train_ids),
        stop=Rows(stop.numbers[:, kept], stop.texts),
        stop_ids=np.searchsorted(present, task.stop_ids[stops]),
        is_categorical=task.is_categorical[kept],
        num_classes=len(present),
    )


def _constant(class_id: int, num_classes: int) -> Predict:
    return lambda rows: np.tile(np.eye(num_classes)[class_id], (len(rows), 1))


def _fit_tabm(task: Task, params: Params, seed: int) -> Predict:
    """TabM; see `wirebert.baselines.tabm`."""
    from wirebert.baselines.tabm import fit_tabm

    return fit_tabm(task, params, seed)


_WEIGHTS: Sequence[Setting] = (None, "balanced")
_BOOSTING: Mapping[str, Sequence[Setting]] = {
    "learning_rate": (0.03, 0.05, 0.1, 0.2, 0.3),
    "l2": (0.1, 1.0, 5.0, 20.0),
    "row_share": (0.6, 0.8, 1.0),
    "column_share": (0.4, 0.7, 1.0),
    "class_weight": (None, "sqrt", "balanced"),
}

BASELINES: dict[str, BaselineMethod] = {
    "gbdt": BaselineMethod(
        "boosted trees",
        fit_gbdt,
        {
            "learning_rate": (0.03, 0.05, 0.1, 0.2),
            "l2": (0.1, 1.0, 5.0, 20.0),
            "leaves": (15, 31, 63),
            "column_share": (0.4, 0.7, 1.0),
            "rounds": (100, 200, 400),
            "class_weight": (None, "sqrt", "balanced"),
        },
    ),
    "xgboost": BaselineMethod(
        "XGBoost", fit_xgboost, {**_BOOSTING, "depth": (4, 6, 8, 10), "min_weight": (0.5, 1.0, 5.0, 20.0)}
    ),
    "lightgbm": BaselineMethod(
        "LightGBM", fit_lightgbm, {**_BOOSTING, "leaves": (15, 31, 63, 127), "min_leaf": (5, 20, 100)}
    ),
    "forest": BaselineMethod(
        "random forest",
        fit_forest,
        {
            "trees": (200, 400),
            "max_features": ("sqrt", 0.2, 0.4),
            "min_leaf": (1, 2, 5, 20),
            "class_weight": (None, "balanced", "balanced_subsample"),
        },
    ),
    "logistic": BaselineMethod(
        "logistic regression",
        fit_logistic,
        {
            "C": (0.01, 0.1, 1.0, 10.0),
            "scaling": ("standard", "logarithm", "quantile"),
            "class_weight": _WEIGHTS,
        },
    ),
    "tabm": BaselineMethod(
        "TabM",
        _fit_tabm,
        {
            "width": (128, 256, 512),
            "blocks": (1, 2, 3),
            "dropout": (0.0, 0.1, 0.3),
            "learning_rate": (5e-4, 1e-3, 3e-3),
            "weight_decay": (0.0, 1e-3, 1e-1),
            "class_weight": (None, "sqrt"),
        },
    ),
    "text_svm": BaselineMethod(
        "TF-IDF and linear SVM",
        fit_text_svm,
        {
            "pieces": ("char", "char_wb", "word"),
            "longest": (2, 3, 4, 5),
            "C": (0.1, 0.3, 1.0, 3.0, 10.0),
            "lowercase": (False, True),
            "class_weight": _WEIGHTS,
        },
        needs_text=True,
    ),
}
"""Name on the command line -> method."""
