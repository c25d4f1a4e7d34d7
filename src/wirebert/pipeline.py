"""The whole story on one page: traffic files in, a trained detector and an honest report out.

The order is the promise. The split is made before anything is fitted; the tokenizer and the model see training rows
only; the best epoch is chosen on validation rows; test rows are scored, and test files opened, after the model is saved.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt64
from rich.console import Console

import wirebert
from wirebert.ablation import bare, measure_context, require_context
from wirebert.card import model_card
from wirebert.config import RunConfig, write_run
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.loading import Flows, open_flows
from wirebert.data.schema import FlowSchema
from wirebert.data.splitting import split_rows
from wirebert.data.survey import Survey, survey
from wirebert.data.validation import Finding, compare, left_out, mark_accepted, validate
from wirebert.deciding import calibrated, with_strangeness
from wirebert.encoding.cache import find_or_encode, find_or_fit, store_key, tokenizer_key
from wirebert.encoding.overlap import row_hashes
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.baselines import Trees, fit_trees
from wirebert.evaluation.report import JudgedFile, Report
from wirebert.joining import learn
from wirebert.judging import Part, judge, judge_trees_on
from wirebert.ledger import count_read
from wirebert.model.batches import score
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.reporting import (
    command_line,
    data_section,
    run_report,
    show_data,
    show_findings,
    show_report,
    split_names,
    write_report,
)
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.serving.artifact import Artifact, save_artifact, write_card
from wirebert.serving.detector import Detector, choose_device
from wirebert.settings import to_mapping
from wirebert.training.distributed import ALONE, Crew
from wirebert.training.standing import TrainingResult
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
    test: Part | None
    """Rows of the training file that are scored once the model is saved, if some are set apart."""
    split: str
    """What the split can and can not show."""
    train_counts: tuple[int, ...]
    """Training rows of each class."""


def fit(run: RunConfig, folder: RunFolder, console: Console, crew: Crew = ALONE) -> None:
    """Train the run's detector in `folder` and report on it; checkpoints of an earlier, killed call are gone on from.

    The other processes of the crew join the trainings; the rest is this one's alone.
    """
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
    result = learn(run, folder, model, tokenizer, train_flows, valid_flows, console, crew)
    artifact = save(run, folder, model, tokenizer, data, valid_flows)
    clock.lap("training")
    if run.evaluation.ablate_context:
        train_without_context(run, folder.without_context, data, cache, console, crew)
        clock.lap("training without context")
    crew.dismiss()
    # From here on test files may be opened: nothing that follows changes the model.
    report = examine(run, folder, data, result, row_hashes(train_flows), clock, console)
    write_card(folder.model, model_card(artifact, report))
    write_report(report, folder)
    folder.discard_encoded()
    folder.discard_checkpoints()
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
    if run.evaluation.ablate_context:
        require_context(flows)
    fingerprint = flows.fingerprint()
    check_inputs(folder, fingerprint, flows.dialect.to_dict())
    seen = survey(Watched(flows))
    left_out = run.data.left_out_class if run.data.split == "leave_attack_out" else None
    classes = fit_classes(flows.schema, seen.label_counts, run.data, left_out)
    class_ids = seen.class_ids(classes)
    split_seed = run.seed if run.data.split_seed is None else run.data.split_seed
    split = split_rows(flows, seen, class_ids, run.data, split_seed)
    return Prepared(
        flows=flows,
        fingerprint=fingerprint,
        seen=seen,
        classes=classes,
        findings=mark_accepted([*validate(seen, classes), *split.findings], run.data.accept),
        train=Part("train", flows, split.is_train),
        valid=Part("valid", flows, split.is_valid),
        held_out=Part("held_out", flows, split.is_held_out) if split.is_held_out.any() else None,
        test=Part("test", flows, split.is_test) if split.is_test.any() else None,
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


def save(
    run: RunConfig,
    folder: RunFolder,
    model: DistilBert,
    tokenizer: FlowTokenizer,
    data: Prepared,
    valid_flows: EncodedFlows,
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
    artifact = decide(run, artifact, model, data, valid_flows)
    save_artifact(artifact, folder.model, card=model_card(artifact))
    return artifact


def decide(
    run: RunConfig, artifact: Artifact, model: DistilBert, data: Prepared, valid_flows: EncodedFlows
) -> Artifact:
    """The artifact with its probabilities calibrated on validation rows, and with thresholds fitted there."""
    logits = score(model, valid_flows, device=choose_device(run.training.device))
    model.cpu()
    is_tilted = run.training.class_weights != "none" or run.training.logit_adjustment > 0
    class_ids = np.asarray(valid_flows.class_ids)
    artifact = calibrated(artifact, logits, class_ids, run.operating, is_tilted=is_tilted, seed=run.seed)
    if not run.operating.unknown_flows:
        return artifact
    is_train = np.ones(data.seen.num_rows, bool) if data.train.rows is None else data.train.rows
    is_normal = np.zeros(data.seen.num_rows, bool)
    benign = data.classes.benign
    is_normal[valid_flows.rows] = True if benign is None else class_ids == data.classes.classes.index(benign)
    return with_strangeness(
        artifact, data.flows, is_train, is_normal, num_kept=run.operating.unknown_flows, seed=run.seed
    )


def train_without_context(
    run: RunConfig, folder: RunFolder, data: Prepared, cache: Path, console: Console, crew: Crew
) -> None:
    """Train a second model, with the same settings on the same rows, that sees no context."""
    folder.make()
    train, valid = bare(data.train), bare(data.valid)
    data = replace(data, flows=train.flows, train=train, valid=valid)
    tokenizer = fit_tokenizer(run, data, cache)
    train_flows, valid_flows = (encode(part, data, tokenizer, cache) for part in (train, valid))
    model = build(run.model, TokenLayout.of(tokenizer), classes=data.classes.classes, seed=run.seed)
    learn(run, folder, model, tokenizer, train_flows, valid_flows, console, crew)
    save(run, folder, model, tokenizer, data, valid_flows)


def examine(
    run: RunConfig,
    folder: RunFolder,
    data: Prepared,
    result: TrainingResult,
    train_hashes: UInt64[np.ndarray, " train"],
    clock: Clock,
    console: Console,
) -> Report:
    """Judge the saved artifact, and boosted trees beside it, on validation and test rows."""
    detector = Detector.load(folder.model, device=run.training.device)
    tests = open_tests(run, data.flows.schema)
    judged = count_reads(run, folder, data, tests)
    parts = [data.valid, *(part for part in (data.held_out, data.test) if part is not None), *tests]
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    splits = {
        part.name: judge(detector, part, folder.predictions(part.name), train_hashes=train_hashes, **how)
        for part in parts
    }
    clock.lap("scoring")
    gain = None
    if run.evaluation.ablate_context:
        gain = measure_context(run, folder.without_context, parts, splits, data.classes.benign)
        clock.lap("scoring without context")
    trees, trees_splits = None, {}
    if run.evaluation.baseline:
        trees = train_trees(run, data)
        trees_splits = judge_trees_on(trees, data.classes, parts, **how)
        clock.lap("boosted trees")
    findings = [
        *data.findings,
        *(found for part in tests for found in beside(run, data, part.flows, console)),
    ]
    train_counts = dict(zip(data.classes.classes, data.train_counts, strict=True))
    return run_report(
        run,
        folder,
        data=replace(
            data_section([data.train, *parts], train_counts, splits, findings, data.split),
            benign=data.classes.benign,
            judged=judged,
        ),
        result=result,
        num_parameters=detector.num_parameters,
        splits=splits,
        trees=trees,
        trees_splits=trees_splits,
        timing=clock.laps,
        context=gain,
    )


def beside(run: RunConfig, data: Prepared, test: Flows, console: Console) -> tuple[Finding, ...]:
    """What a test file is beside the training file, and what of it counts in no figure; the latter is shown."""
    seen = survey(test)
    aside = mark_accepted(left_out(seen), run.data.accept)
    show_findings(aside, console, num_rows=seen.num_rows)
    return (*aside, *mark_accepted(compare(data.seen, seen, data.classes), run.data.accept))


def open_tests(run: RunConfig, schema: FlowSchema) -> list[Part]:
    """The test files, under the schema of the training file."""
    flows = [open_flows(data, run.data, schema=schema) for data in run.test]
    names = split_names(run.test, [test.name for test in flows], has_test=run.data.test_fraction > 0)
    return [Part(name, test) for name, test in zip(names, flows, strict=True)]


def count_reads(
    run: RunConfig,
    folder: RunFolder,
    data: Prepared,
    tests: Sequence[Part],
    settings: Mapping[str, object] | None = None,
) -> dict[str, JudgedFile]:
    """What each split is read from; each test goes into the ledger beside the run before it is scored.

    Args:
        settings: What is judged, where it is not the run's own model.
    """
    own = [part for part in (data.valid, data.held_out) if part is not None]
    judged = {part.name: JudgedFile(sha256=data.fingerprint) for part in own}
    asked = {} if data.test is None else {data.test.name: (run.train, data.fingerprint)}
    asked |= {test.name: (path, test.flows.fingerprint()) for path, test in zip(run.test, tests, strict=True)}
    for name, (path, sha256) in asked.items():
        judged[name] = count_read(
            folder.path,
            data=path,
            sha256=sha256,
            command=command_line(),
            settings=settings or to_mapping(run),
            recipe=folder.recipe_toml,
        )
    return judged


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
