"""XGBoost and LightGBM with early stopping by log-loss. Both are optional dependencies."""

from importlib import import_module
from types import ModuleType
from typing import Any, cast

import numpy as np

from wirebert.baselines.task import Params, Predict, Rows, Task, class_weights
from wirebert.errors import ConfigError
from wirebert.shapes import Float64

MAX_ROUNDS = 600
BOOSTING_PATIENCE = 30
"""Rounds without a lower log-loss after which training stops."""


def need(module: str) -> ModuleType:
    """Import an optional library.

    Raises:
        ConfigError: it is not installed; the message names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"method {module}: expected the package of that name, found none installed; "
            "pip install 'wirebert[baselines]', or leave the method out"
        ) from error


def fit_xgboost(task: Task, params: Params, seed: int) -> Predict:
    """XGBoost's histogram trees; categories are ordered by frequency."""
    xgboost = need("xgboost")
    weights = class_weights(task.train_ids, task.num_classes, params.get("class_weight"))
    train = xgboost.DMatrix(task.train.numbers, task.train_ids, weight=weights[task.train_ids])
    stop = xgboost.DMatrix(task.stop.numbers, task.stop_ids)
    settings = {
        "objective": "multi:softprob",
        "num_class": task.num_classes,
        "eval_metric": "mlogloss",
        "tree_method": "hist",
        "eta": params.get("learning_rate", 0.3),
        "max_depth": params.get("depth", 6),
        "lambda": params.get("l2", 1.0),
        "min_child_weight": params.get("min_weight", 1.0),
        "subsample": params.get("row_share", 1.0),
        "colsample_bytree": params.get("column_share", 1.0),
        "seed": seed,
    }
    model = xgboost.train(
        settings,
        train,
        num_boost_round=MAX_ROUNDS,
        evals=[(stop, "stop")] if len(task.stop) else [],
        early_stopping_rounds=BOOSTING_PATIENCE if len(task.stop) else None,
        verbose_eval=False,
    )
    last = int(model.best_iteration) + 1 if len(task.stop) else 0

    def predict(rows: Rows) -> Float64[np.ndarray, "flows classes"]:
        probabilities = model.predict(xgboost.DMatrix(rows.numbers), iteration_range=(0, last))
        return np.asarray(probabilities, dtype=np.float64)

    return predict


def fit_lightgbm(task: Task, params: Params, seed: int) -> Predict:
    """LightGBM; categories are split by set."""
    lightgbm = need("lightgbm")
    weights = class_weights(task.train_ids, task.num_classes, params.get("class_weight"))
    codes = np.flatnonzero(task.is_categorical).tolist()
    train = lightgbm.Dataset(
        task.train.numbers, task.train_ids, weight=weights[task.train_ids], categorical_feature=codes
    )
    stop = lightgbm.Dataset(task.stop.numbers, task.stop_ids, reference=train)
    settings: dict[str, Any] = {
        "objective": "multiclass",
        "num_class": task.num_classes,
        "metric": "multi_logloss",
        "learning_rate": params.get("learning_rate", 0.1),
        "num_leaves": params.get("leaves", 31),
        "min_data_in_leaf": params.get("min_leaf", 20),
        # As in XGBoost: with LightGBM's default of 0, leaves of a rare class diverge.
        "lambda_l2": params.get("l2", 1.0),
        "bagging_fraction": params.get("row_share", 1.0),
        "bagging_freq": 1,
        "feature_fraction": params.get("column_share", 1.0),
        "seed": seed,
        "deterministic": True,
        "verbosity": -1,
    }
    has_stop = len(task.stop) > 0
    model = lightgbm.train(
        settings,
        train,
        num_boost_round=MAX_ROUNDS,
        valid_sets=[stop] if has_stop else [],
        callbacks=[lightgbm.early_stopping(BOOSTING_PATIENCE, verbose=False)] if has_stop else [],
    )
    return lambda rows: np.asarray(cast(object, model.predict(rows.numbers)), dtype=np.float64)
