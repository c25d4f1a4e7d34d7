"""From traffic files to the encoded flows of each split: the input of a training.

The split is made before anything is fitted. Tokenizer and classes come from training rows only, or from the
pretrained or teacher model of the run.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from wirebert.cluster.encode import EncodePieces, count_by_shards, encode_blocks, encode_by_shards
from wirebert.cluster.executors import Executor
from wirebert.companion_process import CompanionProcess
from wirebert.config import LearnConfig, RunConfig
from wirebert.data.checks.checks import Finding, mark_accepted, validate
from wirebert.data.checks.profile import TableProfile
from wirebert.data.flows import Flows, FlowSubset, open_flows
from wirebert.data.folders import with_rows
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.progress import progress_bar
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.data.splits import RowSplit, split_rows
from wirebert.decision.config import require_classes
from wirebert.encoding.store import (
    EncodedFlows,
    StoreWriter,
    find_or_encode,
    find_or_fit,
    store_key,
    tokenizer_key,
)
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.telemetry.processors import has_nvidia_gpu
from wirebert.workflows.pretrained import open_aligned, pretrained_tokenizer
from wirebert.workflows.teacher import (
    Teacher,
    append_unlabelled,
    distillation_inputs,
    find_teacher,
    unlabelled_parts,
)
from wirebert.workflows.typed_rows import ParsedFlows, parse_once


@dataclass(frozen=True)
class PreparedData:
    """Labelled training data, checked and split; nothing is fitted on it yet."""

    flows: Flows
    fingerprint: str
    """Sha256 of the files' content."""
    profile: TableProfile
    classes: ClassMap
    findings: tuple[Finding, ...]
    train: FlowSubset
    valid: FlowSubset
    held_out: FlowSubset | None
    """Rows of the class that is left out of training, if there is one."""
    test: FlowSubset | None
    """Rows of the training file that are held back as test data, if any; scored after the model is saved."""
    split: str
    """A statement of what the split can and cannot show."""
    train_counts: tuple[int, ...]
    """Training rows of each class."""
    tokenizer: FlowTokenizer | None = None
    """Tokenizer of the teacher or of the pretrained model; None: one is fitted on the training rows."""
    teacher: Teacher | None = None
    """The teacher, if there is one; it determines columns and classes."""
    unlabelled: tuple[FlowSubset, ...] = ()
    """Rows without a label, trained on the teacher's predictions only."""
    schema: FlowSchema | None = None
    """The schema to save with a model where it is another than that of the rows: with labels, unread here."""

    @property
    def validation(self) -> tuple[FlowSubset, ...]:
        """The subsets of the training file that choices are made on."""
        return tuple(part for part in (self.valid, self.held_out) if part is not None)

    @property
    def evaluated(self) -> tuple[FlowSubset, ...]:
        """The subsets of the training file that the model is evaluated on."""
        return self.validation if self.test is None else (*self.validation, self.test)


@dataclass(frozen=True)
class TrainingRows:
    """The training data as typed rows on disk, and the model that determines its columns, if there is one."""

    parsed: ParsedFlows
    tokenizer: FlowTokenizer | None = None
    """Tokenizer of the teacher or of the pretrained model; None: one is fitted on the training rows."""
    teacher: Teacher | None = None


def write_typed_rows(run: RunConfig, folder: RunFolder, executor: Executor | None = None) -> TrainingRows:
    """Parse the training file once, and write its typed rows next to the encoded flows.

    A resumed run reuses the rows, and refuses a file whose content has changed.
    """
    teacher = find_teacher(run)
    tokenizer = pretrained_tokenizer(run) if teacher is None else teacher.tokenizer
    if teacher is not None:
        flows = teacher.require_columns(open_flows(run.train, run.data, schema=teacher.tokenizer.schema))
    elif tokenizer is not None:
        flows = open_aligned(run.train, run.data, tokenizer)
        tokenizer = replace(tokenizer, schema=flows.schema)
    else:
        flows = open_flows(run.train, run.data)
    flows.require_label()
    require_teachable_columns(run, flows)
    others = {} if teacher is None else distillation_inputs(run, teacher)
    fingerprint: str | None = None
    if folder.inputs_json.exists():
        fingerprint = flows.fingerprint()
        check_inputs(folder, fingerprint, flows.dialect.to_dict(), others)
    parsed = parse_once(flows, encoded_folder(run, folder), fingerprint, executor)
    check_inputs(folder, parsed.fingerprint, flows.dialect.to_dict(), others)
    listing = with_rows(flows.listing, parsed.profile.invalid_values.lines.rows_by_file)
    parsed = replace(parsed, flows=replace(parsed.flows, listing=listing))
    return TrainingRows(parsed, tokenizer, teacher)


def encoded_folder(run: RunConfig | LearnConfig, folder: RunFolder) -> Path:
    """Folder of typed rows, tokenizer and encoded flows of a run: `encoded`, or `data.cache`."""
    return folder.encoded if run.data.cache is None else Path(run.data.cache)


def prepare(run: RunConfig, rows: TrainingRows) -> PreparedData:
    """Check the training data, decide its classes, and split it; nothing is fitted yet."""
    teacher, flows, profile = rows.teacher, rows.parsed.flows, rows.parsed.profile
    left_out = run.data.left_out_class if run.data.split == "leave_attack_out" else None
    if teacher is None:
        classes = fit_classes(flows.schema, profile.label_counts, run.data, left_out)
    else:
        classes = teacher.classes_for(profile, left_out)
    require_classes(run.decision, classes)
    prepared = split_data(run, rows.parsed, classes)
    unlabelled = () if teacher is None else unlabelled_parts(run, teacher, flows, profile.labels < 0)
    return replace(prepared, tokenizer=rows.tokenizer, teacher=teacher, unlabelled=unlabelled)


def start_reading(run: RunConfig, folder: RunFolder) -> CompanionProcess[PreparedData]:
    """Begin to `prepare_and_encode` the training data in another process, while this one imports PyTorch.

    Only beside a GPU, whose machine has processors and memory for it; otherwise `result` does it.
    """
    is_own = run.model.init_from == "scratch" and run.distillation.model_folder is None
    is_separate = is_own and run.training.device != "cpu" and has_nvidia_gpu()
    reading = CompanionProcess(_read, is_separate=is_separate)
    reading.send((run, folder))
    return reading


def _read(receive: Callable[[], tuple[RunConfig, RunFolder]]) -> PreparedData:
    return prepare_and_encode(*receive())


def require_teachable_columns(run: RunConfig, flows: Flows) -> None:
    """Raise a ConfigError if a teacher would be fitted on columns that it cannot read."""
    texts = [column.name for column in flows.schema.features if column.kind is ColumnKind.TEXT]
    if run.distillation.teacher == "gbdt" and texts:
        raise ConfigError(
            "distillation.teacher cannot be gbdt for data with text, which trees do not read "
            f"({flows.name}: columns {', '.join(texts)}); leave out these columns with --drop, or set "
            "distillation.teacher=text_svm"
        )
    if run.distillation.teacher == "text_svm" and not texts:
        raise ConfigError(
            f"distillation.teacher cannot be text_svm for data without text columns ({flows.name}); set "
            "distillation.teacher=gbdt"
        )


def split_data(
    run: RunConfig | LearnConfig, parsed: ParsedFlows, classes: ClassMap, split: RowSplit | None = None
) -> PreparedData:
    """The rows of each split (None: the one of `run.data`); without classes all rows count as one class."""
    flows, profile = parsed.flows, parsed.profile
    class_ids = profile.class_ids(classes) if classes.classes else np.zeros(profile.num_rows, np.int64)
    split_seed = run.seed if run.data.split_seed is None else run.data.split_seed
    split = split or split_rows(flows, profile, class_ids, run.data, split_seed)
    return PreparedData(
        flows=flows,
        fingerprint=parsed.fingerprint,
        profile=profile,
        classes=classes,
        findings=mark_accepted(
            [*flows.findings, *validate(profile, classes if classes.classes else None), *split.findings],
            run.data.accepted_findings,
        ),
        train=FlowSubset("train", flows, split.is_train),
        valid=FlowSubset("valid", flows, split.is_valid),
        held_out=FlowSubset("held_out", flows, split.is_held_out) if split.is_held_out.any() else None,
        test=FlowSubset("test", flows, split.is_test) if split.is_test.any() else None,
        split=split.statement,
        train_counts=tuple(np.bincount(class_ids[split.is_train], minlength=len(classes.classes)).tolist()),
    )


def fit_tokenizer(
    run: RunConfig | LearnConfig, data: PreparedData, cache: Path, executor: Executor | None = None
) -> FlowTokenizer:
    """The tokenizer fitted on the training rows, or reused from an earlier run on the same content.

    A run that starts from a pretrained model keeps its tokenizer, and a student that of its teacher.
    """
    if data.tokenizer is not None:
        return data.tokenizer
    schema, rows = data.flows.schema, data.train.rows
    key = tokenizer_key(data.fingerprint, schema, run.encoding, *([] if rows is None else [rows]))

    def fit() -> FlowTokenizer:
        if executor is None:
            return FlowTokenizer.fit(schema, data.train.tables, run.encoding)
        return FlowTokenizer.of_counts(schema, count_by_shards(schema, data.train, executor), run.encoding)

    return find_or_fit(cache, key, fit)


def encode(
    part: FlowSubset,
    data: PreparedData,
    tokenizer: FlowTokenizer,
    cache: Path,
    unlabelled: Sequence[FlowSubset] = (),
    executor: Executor | None = None,
) -> EncodedFlows:
    """The part's rows as memory-mapped token ids on disk, reused if the same content was encoded before.

    Without classes every row has class 0. The `unlabelled` rows follow, without a class.
    """
    label = part.flows.require_label() if data.classes.classes else None

    def write(store: StoreWriter) -> None:
        total = data.profile.num_rows if part.rows is None else int(part.rows.sum())
        if executor is not None:
            folder = cache.absolute() / f".{key}.pieces"
            encode_by_shards(store, part, EncodePieces(tokenizer, data.classes, label, folder), executor)
        else:
            blocks = progress_bar(part.blocks(), "encoding", lambda block: len(block[1]), total=total)
            encode_blocks(store, blocks, tokenizer, data.classes, label)
        if unlabelled:
            blocks = chain.from_iterable(subset.blocks() for subset in unlabelled)
            watched = progress_bar(blocks, "encoding", lambda block: len(block[1]))
            encoded = ((tokenizer.encode(table), rows) for table, rows in watched)
            append_unlabelled(store, tokenizer, encoded, data.evaluated)

    more = [other.flows.fingerprint() for other in unlabelled]
    note = json.dumps([label, data.classes.classes, dict(data.classes.label_map), *more])
    parts = [part, *unlabelled, *(data.evaluated if unlabelled else ())]
    rows = [subset.rows for subset in parts if subset.rows is not None]
    key = store_key(data.fingerprint, tokenizer, *rows, note=note)
    return find_or_encode(cache, key, tokenizer, write)[0]


def prepare_and_encode(run: RunConfig, folder: RunFolder, executor: Executor | None = None) -> PreparedData:
    """`prepare`, and write tokenizer and encoded flows of a training, which then finds them."""
    data, cache = prepare(run, write_typed_rows(run, folder, executor)), encoded_folder(run, folder)
    tokenizer = fit_tokenizer(run, data, cache, executor)
    for part in (data.train, data.valid):
        unlabelled = data.unlabelled if part is data.train else ()
        encode(part, data, tokenizer, cache, unlabelled, executor)
    return data
