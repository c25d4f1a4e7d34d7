"""What the other ranks of a training do: jobs of the first one, which owns the run and its data."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from wirebert.encoding.store import EncodedFlows
from wirebert.errors import DataError, RunError
from wirebert.model.config import Architecture, AttentionKernel
from wirebert.model.distilbert import DistilBert
from wirebert.model.undrawn import Undrawn
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import RowChange
from wirebert.training.device import compile_kernels
from wirebert.training.distillation import SoftTargets
from wirebert.training.parallel.process_group import ProcessGroup
from wirebert.training.teacher_store import open_log_probs
from wirebert.training.trainer import fit_model


@dataclass(frozen=True, slots=True)
class KernelJob:
    """Compile or load the kernels of a training to come, while the first process reads the rows."""

    training: TrainConfig
    architecture: Architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingJob:
    """What another process needs to join a training; the start weights are sent after it."""

    train: Path
    """Folder of the encoded training flows, where every process can read it."""

    valid: Path
    checkpoints: Path
    architecture: Architecture
    attention: AttentionKernel
    gradient_checkpointing: bool
    training: TrainConfig
    seed: int
    corruption: RowChange
    soft: SoftTargets | None = None
    """The teacher's probabilities for the training flows, sent as a path; None without a teacher."""


def run_worker(group: ProcessGroup) -> None:
    """The loop of every process but the first: do each job that the first one sends.

    Raises:
        RunError: this process cannot read the run folder or data.cache.
    """
    while (job := group.receive_job()) is not None:
        if isinstance(job, KernelJob):
            compile_kernels(job.training, job.architecture)
        else:
            _join(cast(TrainingJob, job), group)
    group.release_workers()


def _join(job: TrainingJob, group: ProcessGroup) -> None:
    try:
        train_flows, valid_flows = EncodedFlows.open(job.train), EncodedFlows.open(job.valid)
        soft = job.soft
        if soft is not None and soft.path is not None:
            log_probs = open_log_probs(soft.path, len(train_flows), job.architecture.num_classes)
            soft = replace(soft, log_probabilities=log_probs)
    except DataError as error:
        raise RunError(
            f"rank {group.communicator.rank}: expected the encoded flows of the first process in "
            f"{job.train.parent}, could not read them; put the run folder (--out), or data.cache, on a file "
            "system that all machines share"
        ) from error
    with Undrawn():  # rank 0 waits for this, and sends its weights
        model = DistilBert(
            job.architecture, attention=job.attention, gradient_checkpointing=job.gradient_checkpointing
        )
    group.communicator.broadcast(model.state_dict().values())
    fit_model(
        model,
        train_flows,
        valid_flows,
        job.training,
        seed=job.seed,
        corruption=job.corruption,
        checkpoints=CheckpointFolder(job.checkpoints),
        log=None,
        world=group.communicator,
        soft=soft,
    )
