"""What a rival method is given: rows as numbers, their classes, and rows to stop early by."""

import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

Setting = float | int | str | bool | None
"""Value of one setting."""
Params = Mapping[str, Setting]
"""Settings of a method by name; the method's defaults where one is not named."""


def number(params: Params, name: str, default: float | int) -> float:
    """The setting, or its default where the params do not name it.

    >>> number({"depth": 6}, "depth", 4), number({}, "depth", 4)
    (6.0, 4.0)
    """
    value = params.get(name, default)
    assert isinstance(value, int | float), f"{name} is no number: {value!r}"
    return float(value)


@dataclass(frozen=True, slots=True)
class Rows:
    """Flows as a rival sees them."""

    numbers: Float64[np.ndarray, "flows columns"]
    """NaN for missing values; codes of categories by falling frequency."""
    texts: list[str] | None = None
    """The text columns of each flow in one piece; None where there are none."""

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> "Rows":
        """These rows."""
        return Rows(self.numbers[rows], None if self.texts is None else [self.texts[row] for row in rows])


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Rows to train on, and rows whose log-loss says when to stop."""

    train: Rows
    train_ids: Int64[np.ndarray, " train"]
    stop: Rows
    stop_ids: Int64[np.ndarray, " stop"]
    is_code: Bool[np.ndarray, " columns"]
    """Which columns hold codes of categories."""
    num_classes: int


Predict = Callable[[Rows], Float64[np.ndarray, "flows classes"]]
"""Probability of each class."""


def class_weights(
    class_ids: Int64[np.ndarray, " flows"], num_classes: int, kind: Setting
) -> Float64[np.ndarray, " classes"]:
    """Weight of each class: 1, or by the inverse (`balanced`) or the inverse root (`sqrt`) of its share; mean 1 over flows.

    >>> class_weights(np.array([0, 0, 0, 1]), 2, "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    counts = np.bincount(class_ids, minlength=num_classes).astype(np.float64).clip(1)
    if kind is None:
        return np.ones(num_classes)
    weights = counts ** (-1.0 if kind == "balanced" else -0.5)
    return weights * counts.sum() / (weights * counts).sum()


@contextmanager
def known(message: str) -> Generator[None]:
    """Pass over a warning that begins like this: what it says is known and wanted."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield
