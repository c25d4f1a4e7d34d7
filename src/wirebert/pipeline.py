"""The whole story on one page: traffic files in, a trained detector and an honest report out.

The order is the promise. The split is made before anything is fitted; the tokenizer and the model see training rows
only; the best epoch is chosen on validation rows; test files are opened after the model is saved.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

import wirebert
from wirebert.config import RunConfig
from wirebert.data.labels import ClassMap
from wirebert.data.loading import Flows, open_flows
from wirebert.data.splits import duplicate_safe_split
from wirebert.data.survey import Survey, survey
from wirebert.data.validation import Finding, shared_rows, validate
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.judging import Part
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.distilbert import DistilBert
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.serving.artifact import Artifact, save_artifact
from wirebert.serving.detector import Detector
from wirebert.settings import to_mapping
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.corruption import Corruption
from wirebert.training.monitoring import MetricsLog
from wirebert.training.progress import display
from wirebert.training.session import TrainingResult, fit_model


@dataclass(frozen=True)
class Prepared:
    """Labelled training data, looked at once and split, with nothing fitted on it yet."""

    flows: Flows
    seen: Survey
    classes: ClassMap
    findings: tuple[Finding, ...]
    train: Part
    valid: Part


def fit(run: RunConfig, folder: RunFolder, console: Console) -> None:
    """Train the run's detector in `folder` and report on it; what an earlier, killed call finished is not done again."""
    data = prepare(run, folder)
    tokenizer = FlowTokenizer.fit(data.flows.schema, lambda: (table for table, _ in data.train.blocks()), run.encoding)
    train_flows = encode(data.train, data.classes, tokenizer, folder.encoded / "train")
    valid_flows = encode(data.valid, data.classes, tokenizer, folder.encoded / "valid")
    model = build(run.model, tokenizer, classes=data.classes.classes, seed=run.seed)
    result = learn(run, folder, model, tokenizer, train_flows, valid_flows, console)
    save(run, folder, model, tokenizer, data)
    # From here on test files may be opened: nothing that follows changes the model.


def prepare(run: RunConfig, folder: RunFolder) -> Prepared:
    """Read the training data once, check it, and split it."""
    flows = open_flows(run.train, run.data)
    flows.require_label()
    check_inputs(folder, flows.fingerprint())
    seen = survey(flows)
    classes = ClassMap.fit(flows.schema, seen.label_counts)
    class_ids = seen.class_ids(classes)
    is_valid = duplicate_safe_split(seen.feature_hashes, class_ids, run.data.valid_fraction, run.seed)
    return Prepared(
        flows=flows,
        seen=seen,
        classes=classes,
        findings=validate(seen, classes),
        train=Part("train", flows, (class_ids >= 0) & ~is_valid),
        valid=Part("valid", flows, (class_ids >= 0) & is_valid),
    )


def encode(part: Part, classes: ClassMap, tokenizer: FlowTokenizer, folder: Path) -> EncodedFlows:
    """The part's rows as token ids on disk, memory-mapped."""
    label = part.flows.require_label()
    with StoreWriter(folder, tokenizer.dtype) as store:
        for table, rows in part.blocks():
            store.append(tokenizer.encode(table), classes.encode(table.column(label)), rows)
    return EncodedFlows.open(folder)


def learn(
    run: RunConfig,
    folder: RunFolder,
    model: DistilBert,
    tokenizer: FlowTokenizer,
    train_flows: EncodedFlows,
    valid_flows: EncodedFlows,
    console: Console,
) -> TrainingResult:
    """Train the model in place, on from the newest checkpoint if there is one; it ends with its best weights."""
    corruption = Corruption.from_vocabulary(
        run.training,
        token_slots=tokenizer.token_slots,
        slot_special=tokenizer.slot_special,
        leaves_out=tokenizer.leaves_out,
        max_length=tokenizer.config.max_length,
    )
    with MetricsLog(folder.metrics) as log, display(console, os.environ) as progress:
        return fit_model(
            model,
            train_flows,
            valid_flows,
            run.training,
            seed=run.seed,
            corruption=corruption,
            checkpoints=CheckpointFolder(folder.checkpoints, keep=run.training.keep_checkpoints),
            log=log,
            listeners=[progress],
        )


def save(run: RunConfig, folder: RunFolder, model: DistilBert, tokenizer: FlowTokenizer, data: Prepared) -> None:
    """Write the artifact."""
    weights = {name: tensor.contiguous().clone() for name, tensor in hugging_face_state(model).items()}
    artifact = Artifact(
        architecture=model.architecture,
        weights=weights,
        tokenizer=tokenizer,
        classes=data.classes,
        origin={"wirebert": wirebert.__version__, "torch": torch.__version__, "settings": to_mapping(run)},
    )
    save_artifact(artifact, folder.model, card="")
