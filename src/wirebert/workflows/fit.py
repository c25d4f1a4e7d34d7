"""Training data in, trained model out: tokenizer, encoded flows, distillation data, model, training.

A training runs in one or several processes: the first owns the run and its data, the others only train.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np
import torch
from rich.console import Console

import wirebert
from wirebert.companion_process import CompanionProcess
from wirebert.config import LearnConfig, RunConfig, write_run
from wirebert.decision.calibration import softmax
from wirebert.decision.drift import DriftReference
from wirebert.decision.fit import (
    MeasuredNovelty,
    NoveltyRows,
    add_novelty,
    calibrated_attack_scores,
    fit_calibration,
    measure_novelty,
)
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.encoding.store import EncodedFlows, row_hashes
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.artifact import Artifact
from wirebert.inference.coverage import count_marked, marked_tokens
from wirebert.inference.detector import Detector, Scores, choose_device
from wirebert.model.batches import score
from wirebert.model.checkpoints import build, numpy_state
from wirebert.model.distilbert import Block, DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict
from wirebert.shapes import Float64, UInt64
from wirebert.telemetry.events import MetricsFollower, MetricsLog
from wirebert.telemetry.processors import num_processors
from wirebert.telemetry.resources import ResourceSampler
from wirebert.telemetry.screen import display
from wirebert.telemetry.trackers import open_trackers
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import Corruption
from wirebert.training.device import choose_device as choose_training_device
from wirebert.training.distillation import SoftTargets
from wirebert.training.masking import Masking
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.training.precision import torch_threads
from wirebert.training.result import TrainingResult
from wirebert.training.trainer import fit_model
from wirebert.workflows.distill import DistillationData, build_distillation_data
from wirebert.workflows.prepare import PreparedData, encode, encoded_folder, fit_tokenizer
from wirebert.workflows.pretrained import is_wirebert_model
from wirebert.workflows.rank_jobs import TrainingJob
from wirebert.workflows.report import RunLog, show_distillation

REFERENCE_ROWS: Final = 65_536
"""Validation rows whose probabilities are in memory at once."""

STOP = "Ctrl-C saves and stops; `wirebert {}` continues"


def run_training(
    run: RunConfig | LearnConfig,
    folder: RunFolder,
    model: DistilBert,
    tokenizer: FlowTokenizer,
    train_flows: EncodedFlows,
    valid_flows: EncodedFlows,
    console: Console,
    group: ProcessGroup = SINGLE_PROCESS,
    masking: Masking | None = None,
    soft: SoftTargets | None = None,
    resume: str | None = None,
) -> TrainingResult:
    """Train the model in place, from the newest checkpoint if there is one; it ends with its best weights.

    Args:
        masking: Input changes of a masked-token model; None for a classifier, whose features are corrupted.
        soft: The teacher's probabilities for the training flows.
        resume: What continues an interrupted run after `wirebert`; None: `train --resume FOLDER`.
    """
    corruption = masking or Corruption.of(tokenizer, run.training)
    if group.communicator.size > 1:
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
        group.send_job(job)
        group.communicator.broadcast(model.state_dict().values())
    past = MetricsFollower(folder.metrics).new_events()
    hint = STOP.format(resume or f"train --resume {folder.path}")
    with (
        MetricsLog(folder.metrics) as log,
        display(console, os.environ, title=str(folder.path), hint=hint, past=past) as screen,
        open_trackers(run.training.trackers, folder.path, settings_to_dict(run), [log, screen]) as sinks,
        ResourceSampler([log, screen, *sinks], folder.path, num_threads=run.training.threads) as sampler,
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
            world=group.communicator,
            soft=soft,
        )


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained classifier, and what later steps need from its training."""

    run: RunConfig
    """With the encoding used and every automatic setting resolved."""
    model: DistilBert
    """With its best weights."""
    tokenizer: FlowTokenizer
    valid_flows: EncodedFlows
    train_hashes: UInt64[np.ndarray, " train"]
    """Hashes of the encoded training flows; see `row_hashes`."""
    distillation: DistillationData
    result: TrainingResult
    novelty: CompanionProcess[MeasuredNovelty] | None = None
    """Measures novelty beside the training; None: the settings ask for none."""


def train_model(
    run: RunConfig,
    data: PreparedData,
    folder: RunFolder,
    log: RunLog,
    group: ProcessGroup = SINGLE_PROCESS,
    before_training: Callable[[], None] | None = None,
) -> TrainedModel:
    """Fit the tokenizer, encode the rows, add distillation data, build the model, and train it.

    An interrupted training continues from its newest checkpoint.

    Args:
        before_training: Called before the first step, to start work beside the training.
    """
    if data.tokenizer is not None:
        run = replace(run, encoding=data.tokenizer.config)
    cache = encoded_folder(run, folder)
    tokenizer = fit_tokenizer(run, data, cache)
    train_flows = encode(data.train, data, tokenizer, cache, data.unlabelled)
    valid_flows = encode(data.valid, data, tokenizer, cache)
    train_hashes = row_hashes(train_flows)
    log.end_stage("encoding")
    distillation = build_distillation_data(run, data, tokenizer, train_flows, valid_flows, cache)
    if distillation.soft_targets is not None:
        show_distillation(run.distillation, len(distillation.flows) - len(train_flows), log.console)
        log.end_stage("teacher")
    with torch_threads(1):  # small products, whose threads would wait for those that compile kernels
        model = build(run.model, TokenLayout.of(tokenizer), classes=data.classes.classes, seed=run.seed)
    run = resolve_auto(run, folder, num_flows=len(distillation.flows), width=model.architecture.dim)
    novelty = _measured_novelty(run, data, valid_flows)
    if before_training is not None:
        before_training()
    result = run_training(
        *(run, folder, model, tokenizer, distillation.flows, valid_flows, log.console, group),
        soft=distillation.soft_targets,
    )
    return TrainedModel(
        run=run,
        model=model,
        tokenizer=tokenizer,
        valid_flows=valid_flows,
        train_hashes=train_hashes,
        distillation=distillation,
        result=result,
        novelty=novelty,
    )


def _measured_novelty(
    run: RunConfig, data: PreparedData, valid_flows: EncodedFlows
) -> CompanionProcess[MeasuredNovelty] | None:
    if not run.decision.novelty_reference_flows:
        return None
    benign = data.classes.benign
    is_valid, is_benign = np.zeros((2, data.profile.num_rows), bool)
    is_valid[valid_flows.rows] = True
    is_benign[valid_flows.rows] = benign is None or np.asarray(
        valid_flows.class_ids
    ) == data.classes.classes.index(benign)
    novelty = CompanionProcess(
        measure_novelty, is_separate=has_companions(run.training), num_threads=num_processors() // 4
    )
    novelty.send(
        NoveltyRows(
            flows=data.flows,
            is_train=np.ones(len(is_benign), bool) if data.train.rows is None else data.train.rows,
            is_valid=is_valid,
            is_benign=is_benign,
            num_kept=run.decision.novelty_reference_flows,
            seed=run.seed,
            joins_attack_score=run.decision.alert_score == "attack_and_novelty",
        )
    )
    return novelty


def has_companions(config: TrainConfig) -> bool:
    """Whether work of the processor is done by other processes: beside a GPU, which waits for this one."""
    return choose_training_device(config).type != "cpu"


def resolve_auto(run: RunConfig, folder: RunFolder, *, num_flows: int, width: int) -> RunConfig:
    """The run with the settings that depend on data and model resolved, and saved to run.toml."""
    # A model of wirebert learns as one from scratch does; 5e-5 is for models of the hub.
    is_pretrained = run.model.init_from != "scratch" and not is_wirebert_model(run.model.init_from)
    training = run.training.resolved(num_flows=num_flows, width=width, is_pretrained=is_pretrained)
    resolved_run = replace(run, training=with_threads(training))
    write_run(resolved_run, folder.run_toml)
    return resolved_run


def with_threads(config: TrainConfig) -> TrainConfig:
    """The settings with the number of threads chosen: a resumed run gives the same bits."""
    if config.threads is not None:
        return config
    return replace(config, threads=min(torch.get_num_threads(), num_processors()))


def fit_decision(trained: TrainedModel, data: PreparedData) -> Artifact:
    """The artifact of a trained model: calibration, thresholds and novelty, all fitted on validation rows."""
    run, classes = trained.run, data.classes
    logits = score(trained.model, trained.valid_flows, device=choose_device(run.training.device))
    trained.model.cpu()
    class_ids = np.asarray(trained.valid_flows.class_ids)
    artifact = Artifact(
        architecture=trained.model.architecture,
        weights=numpy_state(trained.model),
        tokenizer=trained.tokenizer,
        classes=classes,
        origin=origin_of(run, data),
    )
    scaling, operating_point = fit_calibration(
        logits,
        class_ids,
        classes,
        run.decision,
        reweights_classes=run.training.reweights_classes,
        seed=run.seed,
        row_hashes=row_hashes(trained.valid_flows),
    )
    artifact = artifact.scaled(scaling, operating_point)
    if trained.novelty is None:
        return with_reference(artifact, trained.valid_flows, scaling.apply(logits))
    attack_scores = None
    if run.decision.alert_score == "attack_and_novelty":
        assert classes.benign is not None, "checked before training"
        attack_scores = calibrated_attack_scores(logits, scaling, classes.classes.index(classes.benign))
    measured = trained.novelty.result()
    operating_point = add_novelty(operating_point, measured, attack_scores, run.decision.novelty_weight)
    artifact = replace(artifact, operating_point=operating_point, novelty=measured.scorer)
    return with_reference(artifact, trained.valid_flows, scaling.apply(logits), measured.scores)


def with_reference(
    artifact: Artifact,
    valid: EncodedFlows,
    logits: Float64[np.ndarray, "valid classes"],
    novelty: Float64[np.ndarray, " valid"] | None = None,
) -> Artifact:
    """The artifact with the drift reference of its validation rows, whose scaled logits these are."""
    tokenizer = artifact.tokenizer
    operating, blocks = artifact.operating_point or NO_OPERATING_POINT, TrafficBlocks(tokenizer)
    is_unseen = marked_tokens(tokenizer)[1]
    for first in range(0, len(valid), REFERENCE_ROWS):
        rows = slice(first, first + REFERENCE_ROWS)
        block = JaggedRows(valid.ids, valid.offsets[first : first + REFERENCE_ROWS + 1])
        scores = Scores(
            probabilities=softmax(logits[rows]),
            classes=artifact.classes.classes,
            benign=artifact.classes.benign,
            row_hashes=row_hashes(block),
            num_truncated=0,
            threshold=operating.threshold_at(None),
            novelty=None if novelty is None else novelty[rows],
            num_unseen=count_marked(is_unseen, block),
            combined_alert=operating.alert_score,
        )
        blocks.add(scores.for_drift(block))
    stride = (int(np.ptp(valid.rows)) + 1) / len(valid) if len(valid) else 1.0
    return replace(artifact, reference=DriftReference.fit(blocks, tokenizer, stride))


def load_trained(run: RunConfig, folder: RunFolder) -> Detector:
    """The detector that the run saved, as its metrics are measured: by PyTorch in single precision."""
    return Detector.load(
        folder.model,
        device=run.training.device,
        precision="fp32",
        backend="torch",
        allow_absent=run.data.allow_absent,
    )


def origin_of(run: RunConfig | LearnConfig, data: PreparedData) -> dict[str, object]:
    """Provenance of a model: versions, settings, and the fingerprint of its training files."""
    origin: dict[str, object] = {
        "wirebert": wirebert.__version__,
        "torch": torch.__version__,
        "settings": settings_to_dict(run),
        "train_sha256": data.fingerprint,
    }
    return origin if data.teacher is None else {**origin, "teacher_sha256": data.teacher.fingerprint}
