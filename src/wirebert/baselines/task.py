"""The training task of a baseline: rows as numbers, their classes, and rows for early stopping.

`ScaledFeatures` makes finite, scaled numbers for methods without support for codes and missing values.
"""

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.metrics.class_weights import ClassWeighting, inverse_frequency_weights
from wirebert.shapes import Bool, Float64, Int64

if TYPE_CHECKING:
    from sklearn.preprocessing import QuantileTransformer, StandardScaler

Setting = float | int | str | bool | None
"""Value of one setting."""
Params = Mapping[str, Setting]
"""Settings of a method by name; a setting that is not named has the method's default."""


def number(params: Params, name: str, default: float | int) -> float:
    """The setting, or the default if `params` lacks it.

    >>> number({"depth": 6}, "depth", 4), number({}, "depth", 4)
    (6.0, 4.0)
    """
    value = params.get(name, default)
    assert isinstance(value, int | float), f"{name} is no number: {value!r}"
    return float(value)


@dataclass(frozen=True, slots=True)
class Rows:
    """Flows as a baseline reads them."""

    numbers: Float64[np.ndarray, "flows columns"]
    """NaN for missing values; codes of categories by falling frequency."""
    texts: list[str] | None = None
    """The text columns of each flow as one text; None if there are none."""

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> "Rows":
        """These rows."""
        return Rows(self.numbers[rows], None if self.texts is None else [self.texts[row] for row in rows])


def text_columns(schema: FlowSchema) -> list[str]:
    """Feature columns of kind text."""
    return [column.name for column in schema.features if column.kind is ColumnKind.TEXT]


def joined_texts(table: pa.Table, schema: FlowSchema) -> list[str]:
    """The text columns of each row as one text; missing ones are empty."""
    columns = [
        [text or "" for text in table.column(name).cast(pa.string()).to_pylist()]
        for name in text_columns(schema)
        if name in table.column_names
    ]
    return [" ".join(parts) for parts in zip(*columns, strict=True)] if columns else [""] * table.num_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Rows to train on, and rows whose log-loss decides when to stop."""

    train: Rows
    train_ids: Int64[np.ndarray, " train"]
    stop: Rows
    stop_ids: Int64[np.ndarray, " stop"]
    is_categorical: Bool[np.ndarray, " columns"]
    """Whether each column holds codes of categories."""
    num_classes: int


Predict = Callable[[Rows], Float64[np.ndarray, "flows classes"]]
"""Probability of each class."""


def class_weights(
    class_ids: Int64[np.ndarray, " flows"], num_classes: int, kind: Setting
) -> Float64[np.ndarray, " classes"]:
    """Class weights: 1, inverse frequency (`balanced`) or its square root (`sqrt`); mean 1 over flows.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.bincount(class_ids, minlength=num_classes).astype(np.float64).clip(1)
    weights = inverse_frequency_weights(counts, cast(ClassWeighting, kind or "none"))
    return weights * counts.sum() / (weights * counts).sum()


@contextmanager
def known(message: str) -> Generator[None]:
    """Suppress a warning that begins with this text, because its cause is known and intended."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


MAX_LEVELS = 64
"""Most frequent codes of a column that get a one-hot column each; the others share one."""


@dataclass(frozen=True, slots=True)
class ScaledFeatures:
    """Rows as finite, scaled numbers for methods without support for codes and missing values."""

    levels: tuple[Float64[np.ndarray, " _"] | None, ...]
    """Frequent codes of each column; None for numbers."""
    is_number: Bool[np.ndarray, " columns"]
    scaler: "StandardScaler | QuantileTransformer"
    is_logarithmic: bool

    @staticmethod
    def fit(task: Task, scaling: str, seed: int) -> "ScaledFeatures":
        """Fit scales and frequent codes to the training rows."""
        from sklearn.preprocessing import QuantileTransformer, StandardScaler

        numbers = task.train.numbers
        levels: list[Float64[np.ndarray, " _"] | None] = []
        for index, is_code in enumerate(task.is_categorical):
            column = numbers[:, index]
            levels.append(np.unique(column[column < MAX_LEVELS]) if is_code else None)
        is_quantile = scaling == "quantile"
        scaler = (
            QuantileTransformer(
                n_quantiles=min(1000, len(numbers)), output_distribution="normal", random_state=seed
            )
            if is_quantile
            else StandardScaler()
        )
        is_number = ~task.is_categorical
        if is_number.any():
            scaler.fit(_plain(numbers[:, is_number], scaling == "logarithm"))
        return ScaledFeatures(tuple(levels), is_number, scaler, scaling == "logarithm")

    def __call__(self, rows: Rows) -> Float64[np.ndarray, "flows dense"]:
        """Scaled numbers, whether each is missing, and one-hot frequent codes."""
        numbers = rows.numbers[:, self.is_number]
        parts = [np.isnan(numbers).astype(np.float64)]
        if numbers.shape[1]:
            scaled = np.asarray(self.scaler.transform(_plain(numbers, self.is_logarithmic)), dtype=np.float64)
            parts.append(np.clip(scaled, -20, 20))
        for index, levels in enumerate(self.levels):
            if levels is not None:
                parts.append((rows.numbers[:, [index]] == levels).astype(np.float64))
        return np.concatenate(parts, axis=1)


def _plain(
    numbers: Float64[np.ndarray, "flows numbers"], is_logarithmic: bool
) -> Float64[np.ndarray, "flows numbers"]:
    filled = np.clip(np.nan_to_num(numbers), -1e30, 1e30)
    return np.sign(filled) * np.log1p(np.abs(filled)) if is_logarithmic else filled
