"""Unlabelled traffic: files under one schema, without labels, and the latest flows split off."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from wirebert.config import LearnConfig
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import ColumnKind
from wirebert.data.splits import RowSplit, column_seconds, duplicate_safe_split, time_split
from wirebert.errors import ConfigError, SchemaError
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.serialization import settings_to_dict
from wirebert.shapes import UInt64
from wirebert.workflows.prepare import PreparedData, encoded_folder, split_data
from wirebert.workflows.pretrained import is_wirebert_model
from wirebert.workflows.report import command_line
from wirebert.workflows.typed_rows import parse_once

NO_CLASSES: Final = ClassMap(classes=())

NO_LABELS: Final = " Labels were not read: attacks in this traffic count as normal where they are frequent."
LATER: Final = (
    "The latest {count:,} flows by {column} were kept from training and set the thresholds, which hold as "
    "long as traffic stays as it was then."
)
NOT_BY_TIME: Final = (
    "The traffic has no times to split by, so {count:,} flows drawn at random set the thresholds, with equal "
    "flows on one side. Later traffic may differ more from the training flows."
)


def prepare_rows(run: LearnConfig, folder: RunFolder) -> PreparedData:
    """The rows, checked, split and recorded in the test ledger."""
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
    seed = run.seed if run.data.split_seed is None else run.data.split_seed
    split = later_rows(parsed.flows, parsed.profile.feature_hashes, run.data.valid_fraction, seed)
    data = split_data(run, parsed, NO_CLASSES, split)
    return replace(data, schema=sources[0].schema)


def later_rows(flows: Flows, hashes: UInt64[np.ndarray, " rows"], fraction: float, seed: int) -> RowSplit:
    """The latest rows for the thresholds; drawn at random where the traffic has no times or only one."""
    times = [column.name for column in flows.schema.columns if column.kind is ColumnKind.TIME]
    everything = np.ones(len(hashes), bool)
    is_later = ~everything
    if times:
        seconds = column_seconds(flows, times[0])
        if np.isfinite(seconds).any():
            is_later = time_split(seconds, everything, fraction)
    statement = LATER.format(count=int(is_later.sum()), column=times[0] if times else "")
    if is_later.all() or not is_later.any():
        is_later = duplicate_safe_split(hashes, np.zeros(len(hashes), np.int64), fraction, seed)
        statement = NOT_BY_TIME.format(count=int(is_later.sum()))
    return RowSplit(
        is_train=~is_later,
        is_valid=is_later,
        is_test=~everything,
        is_held_out=~everything,
        statement=statement + NO_LABELS,
        findings=(),
    )


def open_rows(run: LearnConfig) -> list[Flows]:
    """Each data set under the schema of the first, which is detected or given as in a training.

    Raises:
        ConfigError: no data is named, or the start model has another tokenizer.
        SchemaError: a file lacks a feature that the first one has.
    """
    if not run.rows:
        raise ConfigError("expected traffic to learn from, got none; name files, folders or globs")
    if is_wirebert_model(run.model.init_from):
        raise ConfigError(
            "model.init_from must not be a model of wirebert, whose tokenizer is fixed, got "
            f"{run.model.init_from!r}; learn from all traffic at once"
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
