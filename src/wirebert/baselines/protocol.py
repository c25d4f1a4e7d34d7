"""The interface of a fitted method. Imports no method's library, so that scoring stays light."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from wirebert.shapes import Float64


@runtime_checkable
class Baseline(Protocol):
    """A fitted method to compare with the model."""

    @property
    def summary(self) -> Mapping[str, object]:
        """The method and the data it was fitted on, for the report."""
        ...

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class for the rows of a typed table; 0 for classes not in the fitted rows."""
        ...
