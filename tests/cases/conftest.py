"""What the cases share: the model of absent-columns, trained once."""

from pathlib import Path

import pytest

CASES = Path(__file__).parent


@pytest.fixture(scope="session")
def cases_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of `wirebert train absent-columns/train.csv`, small and short."""
    from wirebert.cli.main import main

    run = tmp_path_factory.mktemp("cases") / "run"
    settings = (
        "model.size=mini",
        "training.epochs=10",
        "training.batch_size=16",
        "evaluation.baseline=false",
    )
    chosen = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", str(CASES / "absent-columns" / "train.csv"), *chosen, "--out", str(run)]) == 0
    return run / "model"
