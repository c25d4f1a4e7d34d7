"""Models of the cases, trained once."""

from collections.abc import Callable
from pathlib import Path

import pytest

CASES = Path(__file__).parent
SETTINGS = ("model.size=mini", "training.epochs=10", "training.batch_size=16", "evaluation.baseline=false")


@pytest.fixture(scope="session")
def train_case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Trains on a case with the settings of all cases; returns the model folder."""
    from wirebert.cli.main import main

    def trained(data: Path) -> Path:
        options = [option for setting in SETTINGS for option in ("--set", setting)]
        run = tmp_path_factory.mktemp(data.stem) / "run"
        assert main(["train", str(data), *options, "--out", str(run)]) == 0
        return run / "model"

    return trained


@pytest.fixture(scope="session")
def cases_model(train_case: Callable[[Path], Path]) -> Path:
    """The model folder of a training on `absent-columns/train.csv`."""
    return train_case(CASES / "absent-columns" / "train.csv")
