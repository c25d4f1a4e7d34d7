"""A detector for the tests of the library, and the same flows as tables."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import csv

import wirebert as wb


@pytest.fixture(scope="session")
def detector(trained: Path) -> wb.Detector:
    return wb.load(trained)


@pytest.fixture(scope="session")
def test_table(traffic: Path) -> pa.Table:
    """The test file as Arrow reads it, without pandas' or wirebert's ideas of types."""
    return csv.read_csv(traffic / "test.csv")


TINY = {
    "size": "mini",
    "dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "subword_vocab_size": 300,
    "epochs": 1,
    "num_resamples": 100,
    "baseline": False,
}


@pytest.fixture(scope="session")
def few() -> dict[str, Any]:
    """Settings that make a training take a second."""
    return dict(TINY)
