"""The whole story on one page: traffic files in, a trained detector and an honest report out.

The order is the promise. The split is made before anything is fitted; the tokenizer and the model see training rows
only; the best epoch is chosen on validation rows; test rows are scored, and test files opened, after the model is saved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt64
from rich.console import Console

import wirebert
from wirebert.baselines.quick_trees import QuickTrees, fit_trees
from wirebert.config import RunConfig
from wirebert.console import warn
from wirebert.data.checks.checks import Finding, check_unscored_rows, compare_with_training, mark_accepted
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import Flows, FlowSubset, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.fit import calibrated_attack_scores, fit_calibration, fit_novelty
from wirebert.encoding.store import EncodedFlows, row_hashes
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.evaluate import evaluate_baseline_on, evaluate_detector
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.inference.artifact import Artifact, save_artifact, write_card
from wirebert.inference.detector import Detector, choose_device
from wirebert.inference.export import add_default_export
from wirebert.model.batches import score
from wirebert.model.checkpoints import build, numpy_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.report.report import TREES, Baseline, FileUsage, Report
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict
from wirebert.training.loop import check_machine
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.training.result import TrainingResult
from wirebert.workflows.distill import DistillationData, build_distillation_data
from wirebert.workflows.fit import Clock, resolve_auto, run_training
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import PreparedData, encode, fit_tokenizer, prepare
from wirebert.workflows.report import (
    TEACHER,
    command_line,
    data_section,
    run_report,
    show_data,
    show_distillation,
    show_findings,
    show_report,
    split_names,
    write_report,
)
from wirebert.workflows.teacher import compare_with_teacher


def train(run: RunConfig, folder: RunFolder, console: Console, crew: ProcessGroup = SINGLE_PROCESS) -> None:
    """Train the run's detector in `folder` and report on it; checkpoints of an earlier, killed call are gone on from.

    The other processes of the crew join the trainings; the rest is this one's alone.
    """
    check_machine(run.training)
    clock = Clock()
    data = prepare(run, folder)
    counts = data.classes.counts(data.profile.label_counts)
    show_data(data.flows, counts, data.findings, console, num_rows=data.profile.num_rows)
    clock.lap("reading and checking")
    if data.tokenizer is not None:
        run = replace(run, encoding=data.tokenizer.config)
    cache = folder.encoded if run.data.cache is None else Path(run.data.cache)
    tokenizer = fit_tokenizer(run, data, cache)
    train_flows = encode(data.train, data, tokenizer, cache, data.unlabelled)
    valid_flows = encode(data.valid, data, tokenizer, cache)
    clock.lap("encoding")
    hashes = row_hashes(train_flows)
    lesson = build_distillation_data(run, data, tokenizer, train_flows, valid_flows, cache)
    if lesson.soft_targets is not None:
        show_distillation(run.distillation, len(lesson.flows) - len(hashes), console)
        clock.lap("asking the teacher")
    model = build(run.model, TokenLayout.of(tokenizer), classes=data.classes.classes, seed=run.seed)
    run = resolve_auto(run, folder, num_flows=len(lesson.flows), width=model.architecture.dim)
    result = run_training(
        run, folder, model, tokenizer, lesson.flows, valid_flows, console, crew, soft=lesson.soft_targets
    )
    artifact = save_detector(run, folder, model, tokenizer, data, valid_flows)
    if (reason := add_default_export(folder.model)) is not None:
        warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")
    clock.lap("training")
    crew.release_workers()
    # From here on test files may be opened: nothing that follows changes the model.
    report = evaluate_run(run, folder, data, result, lesson, hashes, clock, console)
    write_card(folder.model, model_card(artifact, report))
    write_report(report, folder)
    folder.discard_encoded()
    folder.discard_checkpoints()
    show_report(report, folder, console)


def save_detector(
    run: RunConfig,
    folder: RunFolder,
    model: DistilBert,
    tokenizer: FlowTokenizer,
    data: PreparedData,
    valid_flows: EncodedFlows,
) -> Artifact:
    """Write the artifact."""
    artifact = Artifact(
        architecture=model.architecture,
        weights=numpy_state(model),
        tokenizer=tokenizer,
        classes=data.classes,
        origin={
            "wirebert": wirebert.__version__,
            "torch": torch.__version__,
            "settings": settings_to_dict(run),
            "train_sha256": data.fingerprint,
            **({} if data.teacher is None else {"teacher_sha256": data.teacher.fingerprint}),
        },
    )
    artifact = fit_decision(run, artifact, model, data, valid_flows)
    save_artifact(artifact, folder.model, card=model_card(artifact))
    return artifact


def fit_decision(
    run: RunConfig, artifact: Artifact, model: DistilBert, data: PreparedData, valid_flows: EncodedFlows
) -> Artifact:
    """The artifact with its probabilities calibrated on validation rows, and with thresholds fitted there."""
    logits = score(model, valid_flows, device=choose_device(run.training.device))
    model.cpu()
    classes, class_ids = data.classes, np.asarray(valid_flows.class_ids)
    is_tilted = run.training.reweights_classes
    scaling, operating = fit_calibration(
        logits, class_ids, classes, run.decision, reweights_classes=is_tilted, seed=run.seed
    )
    artifact = artifact.scaled(scaling, operating)
    if not run.decision.novelty_reference_flows:
        return artifact
    is_train = np.ones(data.profile.num_rows, bool) if data.train.rows is None else data.train.rows
    is_benign, attack_scores = np.zeros(data.profile.num_rows, bool), None
    benign_id = None if classes.benign is None else classes.classes.index(classes.benign)
    is_benign[valid_flows.rows] = True if benign_id is None else class_ids == benign_id
    if run.decision.alert_score == "attack_and_novelty":
        assert benign_id is not None, "checked before training"
        attack_scores = np.full(data.profile.num_rows, np.nan)
        attack_scores[valid_flows.rows] = calibrated_attack_scores(logits, scaling, benign_id)
    strangeness, operating = fit_novelty(
        *(operating, data.flows, is_train, is_benign),
        num_kept=run.decision.novelty_reference_flows,
        seed=run.seed,
        attack_scores=attack_scores,
        novelty_weight=run.decision.novelty_weight,
    )
    return replace(artifact, operating_point=operating, novelty=strangeness)


def evaluate_run(
    run: RunConfig,
    folder: RunFolder,
    data: PreparedData,
    result: TrainingResult,
    lesson: DistillationData,
    train_hashes: UInt64[np.ndarray, " train"],
    clock: Clock,
    console: Console,
) -> Report:
    """Judge the saved artifact, and boosted trees beside it, on validation and test rows."""
    detector = Detector.load(folder.model, device=run.training.device, precision="fp32", backend="torch")
    tests = open_tests(run, data.flows.schema)
    judged = record_test_reads(run, folder, data, tests)
    parts = [*data.evaluated, *tests]
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    splits = {
        part.name: evaluate_detector(
            detector, part, folder.predictions(part.name), train_hashes=train_hashes, **how
        )
        for part in parts
    }
    clock.lap("scoring")
    distance = None
    if data.teacher is not None:
        num_unlabelled = len(train_hashes) - sum(data.train_counts)
        distance = compare_with_teacher(
            *(run, folder, data.teacher, parts), fingerprint=data.fingerprint, num_unlabelled=num_unlabelled
        )
        clock.lap("scoring by the teacher")
    baselines = evaluate_baselines(run, data, lesson, parts, clock)
    findings = [
        *data.findings,
        *(found for part in tests for found in check_test_file(run, data, part.flows, console)),
    ]
    train_counts = dict(zip(data.classes.classes, data.train_counts, strict=True))
    return run_report(
        run,
        folder,
        data=replace(
            data_section([data.train, *parts], train_counts, splits, findings, data.split),
            benign=data.classes.benign,
            test_usage=judged,
        ),
        result=result,
        num_parameters=detector.num_parameters,
        splits=splits,
        baselines=baselines,
        timing=clock.laps,
        teacher=distance,
    )


def evaluate_baselines(
    run: RunConfig, data: PreparedData, lesson: DistillationData, parts: Sequence[FlowSubset], clock: Clock
) -> dict[str, Baseline]:
    """Boosted trees, and those that taught the model, judged on the same rows."""
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    found: dict[str, Baseline] = {}
    if run.evaluation.baseline:
        trees = train_trees(run, data)
        splits = evaluate_baseline_on(trees, data.classes, parts, **how)
        found[TREES] = Baseline(summary=asdict(trees.summary), splits=splits)
        clock.lap("boosted trees")
    if lesson.fitted_teacher is not None:
        teacher = lesson.fitted_teacher()
        splits = evaluate_baseline_on(teacher, data.classes, parts, **how)
        found[TEACHER] = Baseline(summary=teacher.summary, splits=splits)
        clock.lap("scoring by the teacher")
    return found


def check_test_file(run: RunConfig, data: PreparedData, test: Flows, console: Console) -> tuple[Finding, ...]:
    """What a test file is beside the training file, and what of it counts in no figure; the latter is shown."""
    seen = profile_table(test)
    aside = mark_accepted(check_unscored_rows(seen), run.data.accepted_findings)
    show_findings(aside, console, num_rows=seen.num_rows)
    return (
        *aside,
        *mark_accepted(compare_with_training(data.profile, seen, data.classes), run.data.accepted_findings),
    )


def open_tests(run: RunConfig, schema: FlowSchema) -> list[FlowSubset]:
    """The test files, under the schema of the training file."""
    flows = [open_flows(data, run.data, schema=schema) for data in run.test]
    names = split_names(run.test, [test.name for test in flows], has_test=run.data.test_fraction > 0)
    return [FlowSubset(name, test) for name, test in zip(names, flows, strict=True)]


def record_test_reads(
    run: RunConfig,
    folder: RunFolder,
    data: PreparedData,
    tests: Sequence[FlowSubset],
    settings: Mapping[str, object] | None = None,
) -> dict[str, FileUsage]:
    """What each split is read from; each test goes into the ledger beside the run before it is scored.

    Args:
        settings: What is judged, where it is not the run's own model.
    """
    own = [part for part in (data.valid, data.held_out) if part is not None]
    judged = {part.name: FileUsage(sha256=data.fingerprint) for part in own}
    asked = {} if data.test is None else {data.test.name: (run.train, data.fingerprint)}
    asked |= {test.name: (path, test.flows.fingerprint()) for path, test in zip(run.test, tests, strict=True)}
    for name, (path, sha256) in asked.items():
        judged[name] = record_test_read(
            folder.path,
            data=path,
            sha256=sha256,
            command=command_line(),
            settings=settings or settings_to_dict(run),
            recipe=folder.recipe_toml,
        )
    return judged


def train_trees(run: RunConfig, data: PreparedData) -> QuickTrees:
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
