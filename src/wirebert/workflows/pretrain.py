"""Pretraining: unlabelled rows in, a model that predicts masked features out; detectors are trained from it.

The order is that of a training. Rows are split before anything is fitted, with equal rows in one split. The
tokenizer and the model see training rows only. The best epoch is chosen on held-out rows. No label is read.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from rich.console import Console

import wirebert
from wirebert.config import PretrainConfig
from wirebert.console import printable_name
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, SchemaError
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.files import write_atomic
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import choose_device
from wirebert.metrics.masked_lm import column_metrics, masked_metrics
from wirebert.model.batches import SCORE_WINDOW
from wirebert.model.checkpoints import build, numpy_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.model.masked_predictions import MaskedPredictions, predict_masked
from wirebert.report.environment import hardware, versions
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.serialization import settings_to_dict, to_builtins
from wirebert.training.feeding import NO_STEP
from wirebert.training.loop import check_machine
from wirebert.training.masking import Masking
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.training.result import TrainingResult
from wirebert.training.seeding import Purpose, mix
from wirebert.workflows.fit import resolve_auto, run_training
from wirebert.workflows.prepare import PreparedData, encode, encoded_folder, fit_tokenizer, split_data
from wirebert.workflows.pretrained import is_wirebert_model
from wirebert.workflows.pretraining_report import PretrainingReport, show_pretraining
from wirebert.workflows.report import RunLog, command_line, show_data
from wirebert.workflows.typed_rows import parse_once

NO_CLASSES: Final = ClassMap(classes=())
CARD: Final = """# Pretrained on network flows

A DistilBERT that predicts masked features of flows under the schema `{schema}` ({num_features} features). It
has no classes. Train a detector from it, on labelled flows with the same columns:

```bash
wirebert train DATA --init-from MODEL
```

Stock `transformers` loads it as `DistilBertForMaskedLM`. `wirebert.json` holds every setting and the sha256
of each file.
"""


def fit_masked(
    run: PretrainConfig, folder: RunFolder, console: Console, group: ProcessGroup = SINGLE_PROCESS
) -> None:
    """Pretrain the run's model in `folder` and write its report.

    An interrupted run continues from its newest checkpoint. The other processes of the group only train.
    """
    check_machine(run.training)
    log = RunLog(console)
    data, schema = prepare_rows(run, folder)
    show_data(data.flows, {}, data.findings, console, num_rows=data.profile.num_rows)
    log.end_stage("reading_and_checks")
    cache = encoded_folder(run, folder)
    tokenizer = replace(fit_tokenizer(run, data, cache), schema=schema)
    masking = Masking.of(tokenizer, run.masking)
    train_flows = encode(data.train, data, tokenizer, cache)
    plain_flows = encode(data.valid, data, tokenizer, cache)
    valid_flows = mask_once(plain_flows, masking, folder.encoded / "masked", run.seed)
    log.end_stage("encoding")
    model = build(run.model, TokenLayout.of(tokenizer), seed=run.seed, max_masked=masking.max_masked)
    # The head is as new as the other layers, so it learns at the same rate.
    run = replace(run, training=replace(run.training, classifier_lr_multiplier=1.0))
    run = resolve_auto(run, folder, num_flows=len(train_flows), width=model.architecture.dim)
    result = run_training(run, folder, model, tokenizer, train_flows, valid_flows, console, group, masking)
    group.release_workers()
    save_pretrained(run, folder, model, tokenizer, data.fingerprint)
    log.end_stage("training")
    predictions = predict_masked(model, valid_flows, device=str(choose_device(run.training.device)))
    log.end_stage("scoring")
    report = describe(run, folder, data, (len(train_flows), len(valid_flows)), tokenizer, predictions, result)
    report = replace(report, timing=log.seconds)
    write_atomic(folder.report_json, json.dumps(to_builtins(report), indent=1, allow_nan=False))
    folder.discard_working_files()
    show_pretraining(report, folder, console)


def prepare_rows(run: PretrainConfig, folder: RunFolder) -> tuple[PreparedData, FlowSchema]:
    """The rows, checked, split and recorded in the test ledger; and the schema with its labels."""
    sources = open_rows(run)
    flows = without_labels(together(sources))
    is_new = not folder.inputs_json.exists()
    fingerprint = None if is_new else flows.fingerprint()
    if fingerprint is not None:
        check_inputs(folder, fingerprint, flows.dialect.to_dict())
    parsed = parse_once(flows, encoded_folder(run, folder), fingerprint)
    check_inputs(folder, parsed.fingerprint, flows.dialect.to_dict())
    if is_new:  # a resumed run reads the same files again
        for data, source in zip(run.rows, sources, strict=True):
            record_test_read(
                folder.path,
                data=data,
                sha256=source.fingerprint(),
                command=command_line(),
                settings=settings_to_dict(run),
            )
    return split_data(run, parsed, NO_CLASSES), sources[0].schema


def open_rows(run: PretrainConfig) -> list[Flows]:
    """Each data set under the schema of the first, which is detected or given as in a training.

    Raises:
        ConfigError: no data is named, or the start model has another tokenizer.
        SchemaError: a file lacks a feature that the first one has.
    """
    if not run.rows:
        raise ConfigError("expected data to pretrain on, got none; name files, folders or globs")
    if is_wirebert_model(run.model.init_from):
        raise ConfigError(
            "model.init_from must not be a model of `wirebert pretrain`, whose tokenizer is fixed, got "
            f"{run.model.init_from!r}; pretrain on all data at once"
        )
    first = open_flows(run.rows[0], run.data)
    sources = [first, *(open_flows(data, run.data, schema=first.schema) for data in run.rows[1:])]
    for source in sources:
        lacking = [name for name in source.absent if name not in first.absent]
        if lacking:
            raise SchemaError(
                f"{source.parts[0].where}: expected the features of {first.parts[0].where}, found no column "
                f"{lacking[0]!r}; name files of one layout, or leave the column out with --drop"
            )
    return sources


def together(sources: Sequence[Flows]) -> Flows:
    """All rows as one data set; a column that some files lack is absent in their rows."""
    return replace(
        sources[0],
        files=tuple(path for source in sources for path in source.files),
        parts=tuple(part for source in sources for part in source.parts),
    )


def without_labels(flows: Flows) -> Flows:
    """The same rows without labels and columns derived from them, which are not even read."""
    kinds = (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED)
    columns = tuple(column for column in flows.schema.columns if column.kind not in kinds)
    return replace(flows, schema=replace(flows.schema, columns=columns))


def mask_once(flows: EncodedFlows, masking: Masking, folder: Path, seed: int) -> EncodedFlows:
    """The flows with fixed masks, the same in every evaluation; written to `folder`."""
    with StoreWriter(folder, masking.dtype) as store:
        for first in range(0, len(flows), SCORE_WINDOW):
            window = np.arange(first, min(first + SCORE_WINDOW, len(flows)))
            rows = masking.apply(take_rows(flows, window), mix(seed, Purpose.CORRUPTION, NO_STEP, first))
            block = JaggedRows(rows.ids, rows.offsets, 0)
            store.append(block, np.asarray(flows.class_ids[window]), np.asarray(flows.rows[window]))
    return EncodedFlows.open(folder)


def save_pretrained(
    run: PretrainConfig, folder: RunFolder, model: DistilBert, tokenizer: FlowTokenizer, fingerprint: str
) -> None:
    """Write the model folder that `wirebert train --init-from` takes."""
    artifact = Artifact(
        architecture=model.architecture,
        weights=numpy_state(model),
        tokenizer=tokenizer,
        classes=NO_CLASSES,
        origin={
            "wirebert": wirebert.__version__,
            "torch": torch.__version__,
            "settings": settings_to_dict(run),
            "rows_sha256": fingerprint,
        },
    )
    card = CARD.format(schema=tokenizer.schema.name, num_features=len(tokenizer.schema.features))
    save_artifact(artifact, folder.model, card=card)


def describe(
    run: PretrainConfig,
    folder: RunFolder,
    data: PreparedData,
    sizes: tuple[int, int],
    tokenizer: FlowTokenizer,
    predictions: MaskedPredictions,
    result: TrainingResult,
) -> PretrainingReport:
    """The report, from the saved model's predictions of masked features in held-out rows."""
    slots = tokenizer.default_ids, tokenizer.token_slots
    return PretrainingReport(
        name=printable_name(folder.path.name),
        command=command_line(),
        seed=run.seed,
        files=tuple(map(str, data.flows.files)),
        fingerprint=data.fingerprint,
        num_train=sizes[0],
        num_valid=sizes[1],
        split=data.split,
        findings=data.findings,
        valid=masked_metrics(*predictions, *slots),
        columns=column_metrics(*predictions, *slots, tokenizer.slot_names),
        training=result.to_report(),
        settings=settings_to_dict(run),
        versions=versions(),
        hardware=hardware(),
        timing={},
    )
