"""Rows as finite, scaled numbers for methods that know neither codes nor missing values."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from wirebert.evaluation.tasks import Rows, Task

MOST_LEVELS = 64
"""Most frequent codes of a column that get a column each where a method needs that; the others share one."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Rows as finite, scaled numbers for methods that know neither codes nor missing values."""

    levels: tuple[Float64[np.ndarray, " _"] | None, ...]
    """Frequent codes of each column; None for numbers."""
    is_number: Bool[np.ndarray, " columns"]
    scaler: StandardScaler | QuantileTransformer
    is_logarithmic: bool

    @staticmethod
    def fit(task: Task, scaling: str, seed: int) -> "Dense":
        """Scales and levels of the training rows."""
        numbers = task.train.numbers
        levels: list[Float64[np.ndarray, " _"] | None] = []
        for place, is_code in enumerate(task.is_code):
            column = numbers[:, place]
            levels.append(np.unique(column[column < MOST_LEVELS]) if is_code else None)
        is_quantile = scaling == "quantile"
        scaler = (
            QuantileTransformer(
                n_quantiles=min(1000, len(numbers)), output_distribution="normal", random_state=seed
            )
            if is_quantile
            else StandardScaler()
        )
        is_number = ~task.is_code
        if is_number.any():
            scaler.fit(_plain(numbers[:, is_number], scaling == "logarithm"))
        return Dense(tuple(levels), is_number, scaler, scaling == "logarithm")

    def __call__(self, rows: Rows) -> Float64[np.ndarray, "flows dense"]:
        """Scaled numbers, whether each is missing, and one column for each frequent code."""
        own = rows.numbers[:, self.is_number]
        parts = [np.isnan(own).astype(np.float64)]
        if own.shape[1]:
            scaled = np.asarray(self.scaler.transform(_plain(own, self.is_logarithmic)), dtype=np.float64)
            parts.append(np.clip(scaled, -20, 20))
        for place, levels in enumerate(self.levels):
            if levels is not None:
                parts.append((rows.numbers[:, [place]] == levels).astype(np.float64))
        return np.concatenate(parts, axis=1)


def _plain(
    numbers: Float64[np.ndarray, "flows numbers"], is_logarithmic: bool
) -> Float64[np.ndarray, "flows numbers"]:
    filled = np.clip(np.nan_to_num(numbers), -1e30, 1e30)
    return np.sign(filled) * np.log1p(np.abs(filled)) if is_logarithmic else filled
