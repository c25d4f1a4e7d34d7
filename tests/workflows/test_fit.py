from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wirebert.config import resolve_run
from wirebert.errors import RunError
from wirebert.model.config import Architecture
from wirebert.run_folder import RunFolder
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.workflows.fit import TrainingJob, resolve_auto, run_worker


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


@pytest.mark.parametrize(("threads", "expected"), [(None, 2), (5, 5)])
def test_threads_are_chosen_once_and_written_for_resuming(
    threads: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wirebert.workflows.fit.num_processors", lambda: 2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    folder = RunFolder(tmp_path)
    run = replace(resolve_run(), training=TrainConfig(threads=threads))
    resolve_auto(run, folder, num_flows=100, width=32)
    monkeypatch.setattr("wirebert.workflows.fit.num_processors", lambda: 1)  # resumed on a smaller machine
    resumed = resolve_auto(resolve_run(folder.run_toml), folder, num_flows=100, width=32)
    assert resumed.training.threads == expected
