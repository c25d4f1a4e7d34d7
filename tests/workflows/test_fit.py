from pathlib import Path

import numpy as np
import pytest

from wirebert.errors import RunError
from wirebert.model.config import Architecture
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.workflows.fit import TrainingJob, run_worker


def job(folder: Path) -> TrainingJob:
    none = np.empty((0, 3), dtype=np.int64)
    return TrainingJob(
        train=folder / "train",
        valid=folder / "valid",
        checkpoints=folder / "checkpoints",
        architecture=Architecture(vocab_size=8, num_classes=2),
        attention="auto",
        gradient_checkpointing=False,
        training=TrainConfig(epochs=1, learning_rate=1e-3),
        seed=1,
        corruption=Corruption(
            token_slots=np.full(8, -1),
            slot_special=none,
            hidden_ids=none,
            num_hidden=none[:, 0],
            slot_columns=none[:, 0],
            omits_most_frequent=False,
            feature_share=0.0,
            column_share=0.0,
            max_length=8,
        ),
    )


def test_who_follows_no_one_is_done_at_once():
    run_worker(SINGLE_PROCESS)


def test_flows_that_can_not_be_read_here_are_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def take(_crew: ProcessGroup) -> TrainingJob:
        return job(tmp_path / "elsewhere")

    monkeypatch.setattr(ProcessGroup, "receive_job", take)
    with pytest.raises(RunError, match=r"elsewhere.* on a file system that all machines share"):
        run_worker(SINGLE_PROCESS)
