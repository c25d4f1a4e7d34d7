"""Confusion matrices, and every figure that follows from one.

Each function takes a stack of matrices, so that a figure and its thousand bootstrap resamples come from the same lines.
Rows are true classes, columns predicted ones.
"""

import numpy as np
from jaxtyping import Float64, Int64


def confusion_matrix(
    true_ids: Int64[np.ndarray, " flows"], predicted_ids: Int64[np.ndarray, " flows"], num_labels: int
) -> Int64[np.ndarray, "labels labels"]:
    """How often each true class (row) was predicted as each class (column).

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    cells = np.bincount(true_ids * num_labels + predicted_ids, minlength=num_labels * num_labels)
    return cells.reshape(num_labels, num_labels).astype(np.int64)


def class_metrics(
    matrices: Float64[np.ndarray, "matrices labels labels"],
) -> dict[str, Float64[np.ndarray, "matrices labels"]]:
    """Precision, recall, F1, one-against-rest accuracy and support of every class; 0 where nothing is to divide by.

    >>> {name: figure[0].tolist() for name, figure in class_metrics(np.array([[[3.0, 1.0], [0.0, 0.0]]])).items()}
    {'precision': [1.0, 0.0], 'recall': [0.75, 0.0], 'f1': [0.85..., 0.0], 'accuracy': [0.75, 0.75], 'support': [4.0, 0.0]}
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    support = matrices.sum(axis=-1)
    predicted = matrices.sum(axis=-2)
    total = support.sum(axis=-1, keepdims=True)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        # Wrong in the one-against-rest sense: a flow of the class that was missed, or one of another that was not.
        "accuracy": _ratio(total - (support - hits) - (predicted - hits), np.broadcast_to(total, hits.shape)),
        "support": support,
    }


def headline_metrics(
    matrices: Float64[np.ndarray, "matrices labels labels"], benign: int | None
) -> dict[str, Float64[np.ndarray, " matrices"]]:
    """Accuracy, macro and weighted F1; with a benign class also the attack-or-not figures, as `binary_*`.

    The macro mean runs over classes that occur or are predicted (as in scikit-learn), in each matrix by itself.
    """
    classes = class_metrics(matrices)
    support = classes["support"]
    seen = (support + matrices.sum(axis=-2)) > 0
    total = support.sum(axis=-1)
    figures = {
        "accuracy": _ratio(np.trace(matrices, axis1=-2, axis2=-1), total),
        "macro_f1": _ratio(classes["f1"].sum(axis=-1), seen.sum(axis=-1).astype(np.float64)),
        "weighted_f1": _ratio((classes["f1"] * support).sum(axis=-1), total),
    }
    if benign is None:
        return figures
    attack = class_metrics(_binary_metrics(matrices, benign))
    false_alarms = 1 - attack["recall"][:, 0]
    return figures | {
        "binary_accuracy": attack["accuracy"][:, 1],
        "binary_precision": attack["precision"][:, 1],
        "binary_recall": attack["recall"][:, 1],
        "binary_f1": attack["f1"][:, 1],
        "binary_false_positive_rate": np.where(attack["support"][:, 0] > 0, false_alarms, 0.0),
    }


def _binary_metrics(
    matrices: Float64[np.ndarray, "matrices labels labels"], benign: int
) -> Float64[np.ndarray, "matrices 2 2"]:
    is_attack = np.arange(matrices.shape[-1]) != benign
    merge = np.stack([~is_attack, is_attack]).astype(np.float64)  # 2 x labels
    return merge @ matrices @ merge.T


def _ratio(
    part: Float64[np.ndarray, "*shape"], whole: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
