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
from wirebert.baselines.quick_trees import Trees, fit_trees
from wirebert.config import RunConfig
from wirebert.data.checks.checks import Finding, compare, left_out, mark_accepted
from wirebert.data.checks.profile import survey
from wirebert.data.flows import Flows, Part, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.fit import calibrated_attack_scores, fit_calibration, fit_novelty
from wirebert.encoding.store import EncodedFlows, row_hashes
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.evaluation.evaluate import judge, judge_trees_on
from wirebert.evaluation.test_ledger import count_read
from wirebert.inference.artifact import Artifact, save_artifact, write_card
from wirebert.inference.detector import Detector, choose_device
from wirebert.model.batches import score
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.report.report import TREES, Baseline, JudgedFile, Report
from wirebert.run_folder import RunFolder
from wirebert.serialization import to_mapping
from wirebert.training.loop import check_machine
from wirebert.training.parallel.process_group import ALONE, Crew
from wirebert.training.result import TrainingResult
from wirebert.workflows.distill import Lesson, taught
from wirebert.workflows.fit import Clock, learn, settle
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import Prepared, encode, fit_tokenizer, prepare
from wirebert.workflows.report import (
    TEACHER,
    command_line,
    data_section,
    run_report,
    show_data,
    show_findings,
    show_lesson,
    show_report,
    split_names,
    write_report,
)
from wirebert.workflows.teacher import compare_with_teacher


def fit(run: RunConfig, folder: RunFolder, console: Console, crew: Crew = ALONE) -> None:
    """Train the run's detector in `folder` and report on it; checkpoints of an earlier, killed call are gone on from.

    The other processes of the crew join the trainings; the rest is this one's alone.
    """
    check_machine(run.training)
    clock = Clock()
    data = prepare(run, folder)
    counts = data.classes.counts(data.seen.label_counts)
    show_data(data.flows, counts, data.findings, console, num_rows=data.seen.num_rows)
    clock.lap("reading and checking")
    if data.tokenizer is not None:
        run = replace(run, encoding=data.tokenizer.config)
    cache = folder.encoded if run.data.cache is None else Path(run.data.cache)
    tokenizer = fit_tokenizer(run, data, cache)
    train_flows = encode(data.train, data, tokenizer, cache, data.unlabelled)
    valid_flows = encode(data.valid, data, tokenizer, cache)
    clock.lap("encoding")
    hashes = row_hashes(train_flows)
    lesson = taught(run, data, tokenizer, train_flows, valid_flows, cache)
    if lesson.soft is not None:
        show_lesson(run.distillation, len(lesson.flows) - len(hashes), console)
        clock.lap("asking the teacher")
    model = build(run.model, TokenLayout.of(tokenizer), classes=data.classes.classes, seed=run.seed)
    run = settle(run, folder, num_flows=len(lesson.flows), width=model.architecture.dim)
    result = learn(run, folder, model, tokenizer, lesson.flows, valid_flows, console, crew, soft=lesson.soft)
    artifact = save(run, folder, model, tokenizer, data, valid_flows)
    clock.lap("training")
    crew.dismiss()
    # From here on test files may be opened: nothing that follows changes the model.
    report = examine(run, folder, data, result, lesson, hashes, clock, console)
    write_card(folder.model, model_card(artifact, report))
    write_report(report, folder)
    folder.discard_encoded()
    folder.discard_checkpoints()
    show_report(report, folder, console)


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
            **({} if data.teacher is None else {"teacher_sha256": data.teacher.fingerprint}),
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
    classes, class_ids = data.classes, np.asarray(valid_flows.class_ids)
    is_tilted = run.training.tilts_classes
    scaling, operating = fit_calibration(
        logits, class_ids, classes, run.operating, is_tilted=is_tilted, seed=run.seed
    )
    artifact = artifact.scaled(scaling, operating)
    if not run.operating.unknown_flows:
        return artifact
    is_train = np.ones(data.seen.num_rows, bool) if data.train.rows is None else data.train.rows
    is_benign, attack_scores = np.zeros(data.seen.num_rows, bool), None
    benign_id = None if classes.benign is None else classes.classes.index(classes.benign)
    is_benign[valid_flows.rows] = True if benign_id is None else class_ids == benign_id
    if run.operating.alert_on == "attack_and_novelty":
        assert benign_id is not None, "checked before training"
        attack_scores = np.full(data.seen.num_rows, np.nan)
        attack_scores[valid_flows.rows] = calibrated_attack_scores(logits, scaling, benign_id)
    strangeness, operating = fit_novelty(
        *(operating, data.flows, is_train, is_benign),
        num_kept=run.operating.unknown_flows,
        seed=run.seed,
        attack_scores=attack_scores,
        novelty_weight=run.operating.novelty_weight,
    )
    return replace(artifact, operating=operating, strangeness=strangeness)


def examine(
    run: RunConfig,
    folder: RunFolder,
    data: Prepared,
    result: TrainingResult,
    lesson: Lesson,
    train_hashes: UInt64[np.ndarray, " train"],
    clock: Clock,
    console: Console,
) -> Report:
    """Judge the saved artifact, and boosted trees beside it, on validation and test rows."""
    detector = Detector.load(folder.model, device=run.training.device, precision="fp32")
    tests = open_tests(run, data.flows.schema)
    judged = count_reads(run, folder, data, tests)
    parts = [*data.judged, *tests]
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    splits = {
        part.name: judge(detector, part, folder.predictions(part.name), train_hashes=train_hashes, **how)
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
    baselines = methods_beside(run, data, lesson, parts, clock)
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
        baselines=baselines,
        timing=clock.laps,
        teacher=distance,
    )


def methods_beside(
    run: RunConfig, data: Prepared, lesson: Lesson, parts: Sequence[Part], clock: Clock
) -> dict[str, Baseline]:
    """Boosted trees, and those that taught the model, judged on the same rows."""
    how = {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}
    found: dict[str, Baseline] = {}
    if run.evaluation.baseline:
        trees = train_trees(run, data)
        splits = judge_trees_on(trees, data.classes, parts, **how)
        found[TREES] = Baseline(summary=asdict(trees.summary), splits=splits)
        clock.lap("boosted trees")
    if lesson.fitted is not None:
        teacher = lesson.fitted()
        splits = judge_trees_on(teacher, data.classes, parts, **how)
        found[TEACHER] = Baseline(summary=teacher.summary, splits=splits)
        clock.lap("scoring by the teacher")
    return found


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
