"""One small model for all cases: `wirebert train absent-columns/train.csv`."""

from pathlib import Path

import pytest

CASES = Path(__file__).resolve().parent
SMALL = (
    *("--set", "model.size=mini", "--set", "training.epochs=10", "--set", "training.batch_size=16"),
    *("--set", "evaluation.baseline=false"),
)
"""The settings of every training here."""


@pytest.fixture(scope="session")
def cases_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a run on the 90 rows of absent-columns/train.csv."""
    from wirebert.cli.main import main

    run = tmp_path_factory.mktemp("cases") / "run"
    assert main(["train", str(CASES / "absent-columns" / "train.csv"), "--out", str(run), *SMALL]) == 0
    return run / "model"
