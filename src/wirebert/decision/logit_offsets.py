"""Logit offsets: one number per class, added to the log-probabilities before the predicted class is chosen.

The most probable class is the best prediction for accuracy on traffic like the training data. Attacks that
training lacks get lower probabilities, so offsets fitted on folds that hold whole attacks out do better. No
test row is used.
"""

from collections.abc import Callable

import numpy as np

from wirebert.metrics.confusion import confusion_matrix
from wirebert.metrics.registry import headline_metrics
from wirebert.shapes import Float, Float64, Int64

STEPS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
"""Changes tried on one offset, in nats."""

MAX_OFFSET = 8.0
_MAX_PASSES = 20
_SMALLEST = 1e-9


def add_logit_offsets(
    probabilities: Float[np.ndarray, "flows classes"], offsets: Float64[np.ndarray, " classes"]
) -> Float64[np.ndarray, "flows classes"]:
    """Probabilities after the offsets, as if these were folded into the classifier's bias.

    >>> add_logit_offsets(np.array([[0.75, 0.25]]), np.log([1.0, 3.0])).tolist()
    [[0.5, 0.5]]
    """
    weighed = probabilities.astype(np.float64) * np.exp(offsets - offsets.max())
    return weighed / weighed.sum(axis=1, keepdims=True).clip(np.finfo(np.float64).tiny)


def fit_logit_offsets(
    probabilities: Float[np.ndarray, "flows classes"],
    true_ids: Int64[np.ndarray, " flows"],
    folds: Int64[np.ndarray, " flows"],
    benign: int | None,
    metric: str,
) -> Float64[np.ndarray, " classes"]:
    """The offsets that maximise the metric on held-out rows; all 0 unless they help folds not fitted on.

    Args:
        folds: The fold that held each row out.
        metric: A key of `registry.headline_metrics`.
    """
    logs = np.log(probabilities.astype(np.float64).clip(_SMALLEST))
    nothing = np.zeros(probabilities.shape[1])
    gains: list[float] = []
    for fold in np.unique(folds):
        is_held = folds == fold
        offsets = _climb(_objective(logs[~is_held], true_ids[~is_held], benign, metric), nothing)
        objective = _objective(logs[is_held], true_ids[is_held], benign, metric)
        gains.append(objective(offsets) - objective(nothing))
    # Better on average and in more than half of the folds: folds are few, and one of them may be odd.
    if len(gains) < 2 or np.mean(gains) <= 0 or np.median(gains) <= 0:
        return nothing
    return _climb(_objective(logs, true_ids, benign, metric), nothing)


Objective = Callable[[Float64[np.ndarray, " classes"]], float]


def _objective(
    logs: Float64[np.ndarray, "flows classes"],
    true_ids: Int64[np.ndarray, " flows"],
    benign: int | None,
    metric: str,
) -> Objective:
    def objective(offsets: Float64[np.ndarray, " classes"]) -> float:
        predicted = (logs + offsets).argmax(axis=1).astype(np.int64)
        matrix = confusion_matrix(true_ids, predicted, logs.shape[1]).astype(np.float64)
        return float(headline_metrics(matrix[np.newaxis], benign)[metric][0])

    return objective


def _climb(objective: Objective, start: Float64[np.ndarray, " classes"]) -> Float64[np.ndarray, " classes"]:
    """Move one offset at a time, keeping every change that helps, until none does."""
    best, height = start, objective(start)
    for _ in range(_MAX_PASSES):
        moved = False
        for class_id in range(len(best)):
            for step in STEPS:
                tried = best.copy()
                tried[class_id] = np.clip(tried[class_id] + step, -MAX_OFFSET, MAX_OFFSET)
                value = objective(tried)
                if value > height + 1e-6:
                    best, height, moved = tried, value, True
        if not moved:
            break
    return best
