from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from wirebert.encoding.store import EncodedFlows
from wirebert.errors import RunError
from wirebert.model.config import Architecture
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.workflows import rank_jobs
from wirebert.workflows.rank_jobs import KernelJob, TrainingJob, run_worker


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


def test_a_rank_gets_the_kernels_ready_that_it_is_told(monkeypatch: pytest.MonkeyPatch):
    sent: Iterator[object] = iter([KernelJob(TrainConfig(), Architecture(vocab_size=1, num_classes=1)), None])

    def take(_group: ProcessGroup) -> object:
        return next(sent)

    compiled: list[tuple[TrainConfig, Architecture]] = []

    def compile_kernels(training: TrainConfig, architecture: Architecture) -> None:
        compiled.append((training, architecture))

    monkeypatch.setattr(ProcessGroup, "receive_job", take)
    monkeypatch.setattr(rank_jobs, "compile_kernels", compile_kernels)
    run_worker(SINGLE_PROCESS)
    assert compiled == [(TrainConfig(), Architecture(vocab_size=1, num_classes=1))]


def test_no_weights_are_drawn_where_those_of_the_first_rank_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def take(_group: ProcessGroup) -> TrainingJob:
        return job(tmp_path)

    def open_nothing(_folder: Path) -> None:
        return None

    def build(*_: object, **__: object) -> None:
        weight = torch.zeros(2)
        torch.nn.init.normal_(weight)
        assert not weight.any()
        raise InterruptedError

    monkeypatch.setattr(ProcessGroup, "receive_job", take)
    monkeypatch.setattr(EncodedFlows, "open", open_nothing)
    monkeypatch.setattr(rank_jobs, "DistilBert", build)
    with pytest.raises(InterruptedError):
        run_worker(SINGLE_PROCESS)
