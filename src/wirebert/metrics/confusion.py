"""Confusion matrices and the per-class metrics that follow from them.

Functions take a stack of matrices, so that a metric and its thousand bootstrap resamples share one
computation. Rows are true classes, columns are predicted classes.
"""

import numpy as np

from wirebert.shapes import Float64, Int, Int64


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
    """Precision, recall, F1, one-vs-rest accuracy and support of every class; 0 if the denominator is 0.

    >>> metrics = class_metrics(np.array([[[3.0, 1.0], [0.0, 0.0]]]))
    >>> {name: values[0].tolist() for name, values in metrics.items() if name != "f1"}
    {'precision': [1.0, 0.0], 'recall': [0.75, 0.0], 'accuracy': [0.75, 0.75], 'support': [4.0, 0.0]}
    """
    hits = np.diagonal(matrices, axis1=-2, axis2=-1)
    support = matrices.sum(axis=-1)
    predicted = matrices.sum(axis=-2)
    total = support.sum(axis=-1, keepdims=True)
    return {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, support),
        "f1": ratio(2 * hits, support + predicted),
        # One-vs-rest errors: missed flows of the class, and flows of other classes predicted as it.
        "accuracy": ratio(total - (support - hits) - (predicted - hits), np.broadcast_to(total, hits.shape)),
        "support": support,
    }


def mean_f1(
    hits: Float64[np.ndarray, "*stack labels"],
    support: Float64[np.ndarray, "*stack labels"],
    predicted: Float64[np.ndarray, "*stack labels"],
) -> Float64[np.ndarray, "*stack"]:
    """Mean F1 of the classes that occur or are predicted (as in scikit-learn); 0 if there are none."""
    occurs = (support + predicted) > 0
    return ratio(ratio(2 * hits, support + predicted).sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def macro_f1(true_ids: Int[np.ndarray, " n"], predicted_ids: Int[np.ndarray, " n"]) -> float:
    """`mean_f1` without a matrix, for thousands of ids, such as tokens.

    >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))  # (0.8 + 0.6667) / 2
    0.733...
    """
    num_classes = int(max(true_ids.max(), predicted_ids.max())) + 1
    hits, support, predicted = (
        np.bincount(ids, minlength=num_classes).astype(np.float64)
        for ids in (true_ids[true_ids == predicted_ids], true_ids, predicted_ids)
    )
    return float(mean_f1(hits[np.newaxis], support[np.newaxis], predicted[np.newaxis])[0])


def binary_matrices(
    matrices: Float64[np.ndarray, "matrices labels labels"], benign: int
) -> Float64[np.ndarray, "matrices 2 2"]:
    """The same matrices with all attack classes merged: 0 is benign, 1 is attack.

    >>> binary_matrices(np.array([[[5.0, 1.0, 0.0], [1.0, 2.0, 3.0], [0.0, 0.0, 4.0]]]), 0).tolist()
    [[[5.0, 1.0], [1.0, 9.0]]]
    """
    is_attack = np.arange(matrices.shape[-1]) != benign
    merge = np.stack([~is_attack, is_attack]).astype(np.float64)  # 2 x labels
    return merge @ matrices @ merge.T


def ratio(
    part: Float64[np.ndarray, "*shape"], whole: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """`part / whole`, and 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
