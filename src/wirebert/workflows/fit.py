"""Training as one process or as several: the first has the run and its data, the others join it in training only."""

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from rich.console import Console

from wirebert.config import AnyRun, PretrainConfig, RunConfig, write_run
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import DataError, RunError
from wirebert.model.attention import AttentionKernel
from wirebert.model.config import Architecture
from wirebert.model.distilbert import Block, DistilBert
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict
from wirebert.telemetry.events import MetricsFollower, MetricsLog
from wirebert.telemetry.resources import ResourceSampler
from wirebert.telemetry.screen import display
from wirebert.telemetry.trackers import open_trackers
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption, RowChange
from wirebert.training.distillation import SoftTargets
from wirebert.training.masking import Masking
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.training.result import TrainingResult
from wirebert.training.teacher_store import open_log_probs
from wirebert.training.trainer import fit_model
from wirebert.workflows.pretrained import is_wirebert_model

STOP = "Ctrl-C saves and stops; `wirebert {} --resume {}` goes on"


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
    """What a teacher says about the training flows, if there is a teacher; the numbers lie at its path."""


def run_training(
    run: RunConfig | PretrainConfig,
    folder: RunFolder,
    model: DistilBert,
    tokenizer: FlowTokenizer,
    train_flows: EncodedFlows,
    valid_flows: EncodedFlows,
    console: Console,
    crew: ProcessGroup = SINGLE_PROCESS,
    masking: Masking | None = None,
    soft: SoftTargets | None = None,
) -> TrainingResult:
    """Train the model in place, on from the newest checkpoint if there is one; it ends with its best weights.

    Args:
        masking: what a model of masked tokens is shown, instead of the corruption that a classifier is.
        soft: what a teacher says about the training flows.
    """
    corruption = masking or Corruption.of(tokenizer, run.training)
    command = "pretrain" if masking else "train"
    if crew.communicator.size > 1:
        assert train_flows.folder is not None
        assert valid_flows.folder is not None
        job = TrainingJob(
            train=train_flows.folder.absolute(),
            valid=valid_flows.folder.absolute(),
            checkpoints=folder.checkpoints.absolute(),
            architecture=model.architecture,
            attention=cast(Block, model.layer[0]).attention,
            gradient_checkpointing=model.gradient_checkpointing,
            training=run.training,
            seed=run.seed,
            corruption=corruption,
            soft=None if soft is None else soft.to_be_sent(),
        )
        crew.send_job(job)
        crew.communicator.broadcast(model.state_dict().values())
    past = MetricsFollower(folder.metrics).new_events()
    with (
        MetricsLog(folder.metrics) as log,
        display(
            console, os.environ, title=str(folder.path), hint=STOP.format(command, folder.path), past=past
        ) as screen,
        open_trackers(run.training.trackers, folder.path, settings_to_dict(run), [log, screen]) as sinks,
        ResourceSampler([log, screen, *sinks], folder.path) as sampler,
    ):
        return fit_model(
            model,
            train_flows,
            valid_flows,
            run.training,
            seed=run.seed,
            corruption=corruption,
            checkpoints=CheckpointFolder(folder.checkpoints, keep=run.training.keep_checkpoints),
            log=log,
            listeners=[screen, *sinks, sampler],
            world=crew.communicator,
            soft=soft,
        )


def run_worker(crew: ProcessGroup) -> None:
    """What every process but the first does: join each training that the first one begins, until there are no more.

    Raises:
        RunError: the run folder, or data.cache, is not where this process can read it.
    """
    while (job := crew.receive_job()) is not None:
        _join(cast(TrainingJob, job), crew)
    crew.release_workers()


def _join(job: TrainingJob, crew: ProcessGroup) -> None:
    try:
        train_flows, valid_flows = EncodedFlows.open(job.train), EncodedFlows.open(job.valid)
        soft = job.soft
        if soft is not None and soft.path is not None:
            found = open_log_probs(soft.path, len(train_flows), job.architecture.num_classes)
            soft = replace(soft, log_probabilities=found)
    except DataError as error:
        raise RunError(
            f"rank {crew.communicator.rank}: expected the encoded flows of the first process in {job.train.parent}, could not "
            "read them; put the run folder (--out), or data.cache, on a file system that all machines share"
        ) from error
    model = DistilBert(
        job.architecture, attention=job.attention, gradient_checkpointing=job.gradient_checkpointing
    )
    crew.communicator.broadcast(model.state_dict().values())
    fit_model(
        model,
        train_flows,
        valid_flows,
        job.training,
        seed=job.seed,
        corruption=job.corruption,
        checkpoints=CheckpointFolder(job.checkpoints),
        log=None,
        world=crew.communicator,
        soft=soft,
    )


class Clock:
    """Seconds of each stage, one after the other."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """The stage that just ended took the time since the one before."""
        now = time.perf_counter()
        self.laps[stage] = now - self._since
        self._since = now


def resolve_auto(run: AnyRun, folder: RunFolder, *, num_flows: int, width: int) -> AnyRun:
    """The run with the settings that depend on data and model decided, and written down."""
    # A model of our own is as small as one from scratch, and as new to classes; 5e-5 is for models of the hub.
    is_pretrained = run.model.init_from != "scratch" and not is_wirebert_model(run.model.init_from)
    training = run.training.resolved(num_flows=num_flows, width=width, is_pretrained=is_pretrained)
    settled = replace(run, training=training)
    write_run(settled, folder.run_toml)
    return settled
