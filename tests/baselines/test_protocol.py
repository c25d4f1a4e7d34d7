from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest

from wirebert.baselines.protocol import Baseline


class Majority:
    """Every flow is of the first class."""

    @property
    def summary(self) -> Mapping[str, object]:
        return {"method": "majority"}

    def predict_proba(self, table: pa.Table) -> np.ndarray:
        return np.eye(2)[np.zeros(table.num_rows, int)]


class Unsummarised:
    def predict_proba(self, table: pa.Table) -> np.ndarray:
        return np.ones((table.num_rows, 1))


@pytest.mark.parametrize(("method", "expected"), [(Majority(), True), (Unsummarised(), False)])
def test_a_baseline_says_what_it_is_and_gives_probabilities(method: object, expected: bool):
    assert isinstance(method, Baseline) is expected
