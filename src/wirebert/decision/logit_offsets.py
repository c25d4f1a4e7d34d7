"""Which class a flow is called, given probabilities: one number per class, added to their logarithms.

The most probable class is the best verdict for accuracy on traffic like that of training. Attacks that
training lacks look less sure than those it has, so where whole attacks were held out other numbers are
better, and they can be learned there; no row of a test has a say.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int64

from wirebert.metrics.confusion import confusion_matrix
from wirebert.metrics.registry import headline_metrics

STEPS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
"""How far one number is moved at once, in nats."""

MAX_OFFSET = 8.0
_MAX_PASSES = 20
_SMALLEST = 1e-9


def add_logit_offsets(
    probabilities: Float[np.ndarray, "flows classes"], offsets: Float64[np.ndarray, " classes"]
) -> Float64[np.ndarray, "flows classes"]:
    """Probabilities with the offsets in them, as they would be folded into the bias of a classifier.

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
    """The offsets by which held-out rows reach the highest metric; all 0 unless they help folds they were not
    fitted on.

    Args:
        folds: Which fold held each row out.
        metric: A key of `registry.headline_metrics`.
    """
    logs = np.log(probabilities.astype(np.float64).clip(_SMALLEST))
    nothing = np.zeros(probabilities.shape[1])
    gains: list[float] = []
    for fold in np.unique(folds):
        own = folds == fold
        found = _climb(_objective(logs[~own], true_ids[~own], benign, metric), nothing)
        objective = _objective(logs[own], true_ids[own], benign, metric)
        gains.append(objective(found) - objective(nothing))
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
    """Move one number at a time, the way that helps most, until none helps."""
    best, height = start, objective(start)
    for _ in range(_MAX_PASSES):
        moved = False
        for place in range(len(best)):
            for step in STEPS:
                tried = best.copy()
                tried[place] = np.clip(tried[place] + step, -MAX_OFFSET, MAX_OFFSET)
                found = objective(tried)
                if found > height + 1e-6:
                    best, height, moved = tried, found, True
        if not moved:
            break
    return best
