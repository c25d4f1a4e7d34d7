"""Models of the cases, trained once."""

from pathlib import Path

import pytest

CASES = Path(__file__).parent
SETTINGS = ("model.size=mini", "training.epochs=10", "training.batch_size=16", "evaluation.baseline=false")


def train_case(data: Path, out: Path) -> Path:
    """The model folder of a training on a case, with the settings of all cases."""
    from wirebert.cli.main import main

    options = [option for setting in SETTINGS for option in ("--set", setting)]
    assert main(["train", str(data), *options, "--out", str(out)]) == 0
    return out / "model"


@pytest.fixture(scope="session")
def cases_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a training on `absent-columns/train.csv`."""
    return train_case(CASES / "absent-columns" / "train.csv", tmp_path_factory.mktemp("cases") / "run")
