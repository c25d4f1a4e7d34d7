"""The whole story on one page: traffic files in, a trained detector and an honest report out.

The order is the promise. The split is made before anything is fitted; the tokenizer and the model see training rows
only; the best epoch is chosen on validation rows; test files are opened after the model is saved.
"""

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt64
from rich.console import Console

import wirebert
from wirebert.config import RunConfig, write_run
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.loading import Flows, open_flows
from wirebert.data.schema import FlowSchema
from wirebert.data.splitting import split_rows
from wirebert.data.survey import Survey, survey
from wirebert.data.validation import Finding, compare, mark_accepted, validate
from wirebert.encoding.cache import find_or_encode, find_or_fit, store_key, tokenizer_key
from wirebert.encoding.overlap import row_hashes
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.baselines import Trees, fit_trees
from wirebert.evaluation.report import Report
from wirebert.judging import Part, judge, judge_trees
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.reporting import (
    data_section,
    model_card,
    run_report,
    show_data,
    show_report,
    split_names,
    write_report,
)
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.serving.artifact import Artifact, save_artifact, write_card
from wirebert.serving.detector import Detector
from wirebert.settings import to_mapping
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.corruption import Corruption
from wirebert.training.monitoring import MetricsLog
from wirebert.training.progress import display
from wirebert.training.session import TrainingResult, fit_model
from wirebert.watching import Watched, watch


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


@dataclass(frozen=True)
class Prepared:
    """Labelled training data, looked at once and split, with nothing fitted on it yet."""

    flows: Flows
    fingerprint: str
    """Of the files' content."""
    seen: Survey
    classes: ClassMap
    findings: tuple[Finding, ...]
    train: Part
    valid: Part
    held_out: Part | None
    """Rows of the class that training is not to see, if there is one."""
    split: str
    """What the split can and can not show."""
    train_counts: tuple[int, ...]
    """Training rows of each class."""


def fit(run: RunConfig, folder: RunFolder, console: Console) -> None:
    """Train the run's detector in `folder` and report on it; checkpoints of an earlier, killed call are gone on from."""
    clock = Clock()
    data = prepare(run, folder)
    counts = data.classes.counts(data.seen.label_counts)
    show_data(data.flows, counts, data.findings, console, num_rows=data.seen.num_rows)
    clock.lap("reading and checking")
    cache = folder.encoded if run.data.cache is None else Path(run.data.cache)
    tokenizer = fit_tokenizer(run, data, cache)
    train_flows = encode(data.train, data, tokenizer, cache)
    valid_flows = encode(data.valid, data, tokenizer, cache)
    clock.lap("encoding")
    model = build(run.model, TokenLayout.of(tokenizer), classes=data.classes.classes, seed=run.seed)
    run = settle(run, folder, num_flows=len(train_flows), width=model.architecture.dim)
    result = learn(run, folder, model, tokenizer, train_flows, valid_flows, console)
    artifact = save(run, folder, model, tokenizer, data)
    clock.lap("training")
    # From here on test files may be opened: nothing that follows changes the model.
    report = examine(run, folder, data, result, row_hashes(train_flows), clock)
    write_card(folder.model, model_card(artifact, report.splits))
    write_report(report, folder)
    folder.discard_encoded()
    show_report(report, folder, console)


def settle(run: RunConfig, folder: RunFolder, *, num_flows: int, width: int) -> RunConfig:
    """The run with the settings that depend on data and model decided, and written down."""
    is_pretrained = run.model.start != "scratch"
    training = run.training.settled(num_flows=num_flows, width=width, is_pretrained=is_pretrained)
    settled = replace(run, training=training)
    write_run(settled, folder.run_toml)
    return settled


def prepare(run: RunConfig, folder: RunFolder) -> Prepared:
    """Read the training data once, check it, and split it."""
    flows = open_flows(run.train, run.data)
    flows.require_label()
    fingerprint = flows.fingerprint()
    check_inputs(folder, fingerprint, flows.dialect.to_dict())
    seen = survey(Watched(flows))
    left_out = run.data.left_out_class if run.data.split == "leave_attack_out" else None
    classes = fit_classes(flows.schema, seen.label_counts, run.data, left_out)
    class_ids = seen.class_ids(classes)
    split = split_rows(flows, seen, class_ids, run.data, run.seed)
    return Prepared(
        flows=flows,
        fingerprint=fingerprint,
        seen=seen,
        classes=classes,
        findings=mark_accepted([*validate(seen, classes), *split.findings], run.data.accept),
        train=Part("train", flows, split.is_train),
        valid=Part("valid", flows, split.is_valid),
        held_out=Part("held_out", flows, split.is_held_out) if split.is_held_out.any() else None,
        split=split.statement,
        train_counts=tuple(np.bincount(class_ids[split.is_train], minlength=len(classes.classes)).tolist()),
    )


def fit_tokenizer(run: RunConfig, data: Prepared, cache: Path) -> FlowTokenizer:
    """The tokenizer fitted on the training rows, or found where an earlier run on the same content left it."""
    schema, rows = data.flows.schema, data.train.rows
    key = tokenizer_key(data.fingerprint, schema, run.encoding, *([] if rows is None else [rows]))
    return find_or_fit(cache, key, lambda: FlowTokenizer.fit(schema, data.train.tables, run.encoding))


def encode(part: Part, data: Prepared, tokenizer: FlowTokenizer, cache: Path) -> EncodedFlows:
    """The part's rows as token ids on disk, memory-mapped; found again where the same content was encoded before."""
    label = part.flows.require_label()

    def write(store: StoreWriter) -> None:
        total = data.seen.num_rows if part.rows is None else int(part.rows.sum())
        for table, rows in watch(part.blocks(), "encoding", lambda block: len(block[1]), total=total):
            store.append(tokenizer.encode(table), data.classes.encode(table.column(label)), rows)

    note = json.dumps([label, data.classes.classes, dict(data.classes.label_map)])
    key = store_key(data.fingerprint, tokenizer, *([] if part.rows is None else [part.rows]), note=note)
    return find_or_encode(cache, key, tokenizer, write)[0]


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
        slot_columns=tokenizer.slot_columns,
        slot_marks=tokenizer.slot_marks,
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


def save(
    run: RunConfig, folder: RunFolder, model: DistilBert, tokenizer: FlowTokenizer, data: Prepared
) -> Artifact:
    """Write the artifact."""
    artifact = Artifact(
        architecture=model.architecture,
        weights=hugging_face_state(model),
        tokenizer=tokenizer,
        classes=data.classes,
        origin={
            "wirebert": wirebert.__version__,
            "torch": torch.__version__,
            "settings": to_mapping(run),
            "train_sha256": data.fingerprint,
        },
    )
    save_artifact(artifact, folder.model, card=model_card(artifact, {}))
    return artifact


def examine(
    run: RunConfig,
    folder: RunFolder,
    data: Prepared,
    result: TrainingResult,
    train_hashes: UInt64[np.ndarray, " train"],
    clock: Clock,
) -> Report:
    """Judge the saved artifact, and boosted trees beside it, on validation and test rows."""
    detector = Detector.load(folder.model, device=run.training.device)
    tests = open_tests(run, data.flows.schema)
    parts = [data.valid, *([data.held_out] if data.held_out else []), *tests]
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    splits = {
        part.name: judge(detector, part, folder.predictions(part.name), train_hashes=train_hashes, **how)
        for part in parts
    }
    clock.lap("scoring")
    trees, trees_splits = None, {}
    if run.evaluation.baseline:
        trees = train_trees(run, data)
        trees_splits = {part.name: judge_trees(trees, data.classes, part, **how) for part in parts}
        clock.lap("boosted trees")
    beside = [found for part in tests for found in compare(data.seen, survey(part.flows), data.classes)]
    findings = [*data.findings, *mark_accepted(beside, run.data.accept)]
    train_counts = dict(zip(data.classes.classes, data.train_counts, strict=True))
    return run_report(
        run,
        folder,
        data=data_section([data.train, *parts], train_counts, splits, findings, data.split),
        result=result,
        num_parameters=detector.num_parameters,
        splits=splits,
        trees=trees,
        trees_splits=trees_splits,
        timing=clock.laps,
    )


def open_tests(run: RunConfig, schema: FlowSchema) -> list[Part]:
    """The test files, under the schema of the training file."""
    flows = [open_flows(data, run.data, schema=schema) for data in run.test]
    names = split_names(run.test, [test.name for test in flows])
    return [Part(name, test) for name, test in zip(names, flows, strict=True)]


def train_trees(run: RunConfig, data: Prepared) -> Trees:
    """The quick baseline, on the rows that the model was trained on."""
    label = data.flows.require_label()
    blocks = ((table, data.classes.encode(table.column(label))) for table in data.train.tables())
    return fit_trees(
        blocks,
        data.flows.schema,
        len(data.classes.classes),
        seed=run.seed,
        max_rows=run.evaluation.baseline_rows,
    )
