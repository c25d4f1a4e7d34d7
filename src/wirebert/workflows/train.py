"""A whole training on one page: traffic files in, a trained detector and its report out. Start reading here.

The order of the steps keeps the report honest. The split is made before anything is fitted. The tokenizer
and the model see training rows only. The best epoch is chosen on validation rows. Test files are opened after
the model is saved.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypedDict, final

from rich.console import Console

from wirebert.companion_process import CompanionProcess
from wirebert.config import RunConfig
from wirebert.data.checks.checks import Finding, check_unscored_rows, compare_with_training, mark_accepted
from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.split_manifest import SplitManifest, hash_rows
from wirebert.errors import DataError
from wirebert.evaluation.evaluate import evaluate_baseline_on, evaluate_detector
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.files import write_atomic
from wirebert.inference.artifact import save_artifact
from wirebert.inference.coverage import TrafficFit, coverage_of
from wirebert.inference.detector import Detector
from wirebert.inference.export import export_in_companion, rows_to_check
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import TeacherGap
from wirebert.model.checkpoints import hugging_face_state
from wirebert.model.config import resolve
from wirebert.report.columns import ColumnDrift, column_drift, describe_columns
from wirebert.report.environment import hardware, versions
from wirebert.report.report import FITTED_TEACHER, GBDT, Baseline, DataSection, FileUsage, Report
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict, to_builtins
from wirebert.telemetry.processors import num_processors
from wirebert.training.device import check_machine, compile_kernels
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.untrusted_text import printable_name, warn
from wirebert.workflows.fit import TrainedModel, fit_decision, has_companions, load_trained, train_model
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import PreparedData, prepare, write_typed_rows
from wirebert.workflows.quick_trees import LastParts, QuickTrees, TreeRows, evaluate_trees
from wirebert.workflows.rank_jobs import KernelJob
from wirebert.workflows.report import (
    Artist,
    Drawing,
    RunLog,
    command_line,
    data_section,
    now,
    show_data,
    show_findings,
    show_report,
    split_names,
    start_artists,
    write_report,
)
from wirebert.workflows.teacher import compare_with_teacher


def train(
    run: RunConfig,
    folder: RunFolder,
    console: Console,
    group: ProcessGroup = SINGLE_PROCESS,
    read: Callable[[], PreparedData] | None = None,
) -> Report:
    """Train the run's detector in `folder` and write its report.

    An interrupted run continues from its newest checkpoint. The other processes of the group only train.
    `read` gives the training data, which others have read and may have encoded; None: it is read here.
    """
    warm_up(run, group)
    log = RunLog(console)
    # Classes, findings, split; nothing is fitted yet. The file is parsed once: later passes read typed rows.
    data = prepare(run, write_typed_rows(run, folder)) if read is None else read()
    show_prepared(data, log)
    companions = Companions(run, TreeRows(run, data.train, data.classes, data.validation))
    # Tokenizer, encoding, distillation, model, training.
    trained = train_model(run, data, folder, log, group, before_training=companions.start)
    artifact = fit_decision(trained, data)  # calibration, thresholds, novelty: from validation rows
    save_artifact(artifact, folder.model, card=model_card(artifact))
    companions.export.send(folder.model)
    log.end_stage("training")
    run, detector = trained.run, load_trained(trained.run, folder)
    companions.check_export(folder, detector, log)
    group.release_workers()
    evaluate = partial(evaluate_detector, detector, train_hashes=trained.train_hashes, **resampling(run))
    metrics = evaluate_parts(data.validation, evaluate, folder, companions)
    # Test rows are scored and test files opened only from here on: nothing below changes the model.
    tests = open_tests(run, data.flows.schema)
    fits = {test.name: TrafficFit.of(trained.tokenizer, test.flows) for test in tests}
    profiles = {test.name: profile_table(test.flows) for test in tests}
    other_classes, splits = classes_of_tests(data.classes, profiles), [*data.evaluated, *tests]
    usage = record_test_reads(run, folder, data, tests)
    last = splits[len(data.validation) :]
    companions.send_to_trees(LastParts(last, other_classes))
    metrics |= evaluate_parts(last, evaluate, folder, companions, fits, other_classes)
    log.end_stage("scoring")
    same_classes = [split for split in splits if split.name not in other_classes]
    teacher_gap = evaluate_teacher(trained, data, folder, same_classes, log)
    baselines = evaluate_baselines(trained, data, folder, splits, other_classes, companions.trees, log)
    findings, drift = check_tests(run, data, profiles, other_classes, fits, log)
    untrusted = artifact.operating_point.findings() if artifact.operating_point else ()
    show_findings(untrusted, console, num_rows=data.profile.num_rows)
    write_split_manifest(folder, data, profiles, usage)
    section = describe_data(data, splits, metrics, [*untrusted, *findings], usage)
    report = run_report(trained, folder, section, metrics, baselines, teacher_gap, log)
    columns = describe_columns(data.profile.sample.table, data.flows.schema, data.classes)
    report = replace(report, columns=replace(columns, drift=drift), model_sha256=detector.artifact.sha256)
    drawing = Drawing.start(report, folder, companions.artists)
    companions.finish(log)
    write_report(report, folder, model_card(artifact, report), drawing)
    folder.discard_working_files()
    show_report(report, folder, console)
    return report


@final
class Companions:
    """Work of the processor that other processes do beside a GPU; without one, this process does it."""

    trees: CompanionProcess[QuickTrees] | None = None
    export: CompanionProcess[str | None]
    artists: list[Artist]

    def __init__(self, run: RunConfig, rows: TreeRows) -> None:
        """Start the trees, which take longer than a short training on a GPU."""
        self._are_separate = has_companions(run.training)
        if run.evaluation.baseline:
            self.trees = CompanionProcess(
                evaluate_trees, is_separate=self._are_separate, num_threads=num_processors() // 2
            )
            self.trees.send(rows)

    def start(self) -> None:
        """Start the others. They import much, which would slow down the imports of this process before."""
        self.export = CompanionProcess(export_in_companion, is_separate=self._are_separate)
        self.artists = start_artists(is_separate=self._are_separate)

    def send_to_trees(self, message: object) -> None:
        """Pass the next message of `evaluate_trees`."""
        if self.trees is not None:
            self.trees.send(message)

    def check_export(self, folder: RunFolder, detector: Detector, log: RunLog) -> None:
        """Send the scores with which the ONNX export of the saved model is checked."""
        rows = rows_to_check(detector.artifact, folder.model)
        self.export.send(detector.score_encoded(rows).probabilities)
        if not self._are_separate:
            self._finish_export(log)

    def finish(self, log: RunLog) -> None:
        """Wait for what the report does not need."""
        if self._are_separate:
            self._finish_export(log)

    def _finish_export(self, log: RunLog) -> None:
        if (reason := self.export.result()) is not None:
            warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")
        log.end_stage("export")


def evaluate_parts(
    parts: Sequence[FlowSubset],
    evaluate: Callable[..., SplitMetrics],
    folder: RunFolder,
    companions: Companions,
    fits: Mapping[str, TrafficFit] | None = None,
    other_classes: Mapping[str, ClassMap] | None = None,
) -> dict[str, SplitMetrics]:
    """Metrics of the model on each part; the trees get its predictions of those that have its classes."""
    metrics: dict[str, SplitMetrics] = {}
    for part in parts:
        predictions, classes = folder.predictions(part.name), (other_classes or {}).get(part.name)
        metrics[part.name] = evaluate(part, predictions, fit=(fits or {}).get(part.name), classes=classes)
        if classes is None:
            companions.send_to_trees(predictions)
    return metrics


def warm_up(run: RunConfig, group: ProcessGroup) -> None:
    """Check device and precision, and begin to compile the GPUs' kernels while the rows are read."""
    check_machine(run.training)
    if run.model.init_from == "scratch":
        job = KernelJob(run.training, resolve(run.model, vocab_size=1, num_classes=1))
        compile_kernels(job.training, job.architecture)
        group.send_job(job)


def show_prepared(data: PreparedData, log: RunLog) -> None:
    """Print the detected format, the classes, and the findings on the training data."""
    counts = data.classes.counts(data.profile.label_counts)
    show_data(data.flows, counts, data.findings, log.console, num_rows=data.profile.num_rows)
    log.end_stage("reading_and_checks")


class Resampling(TypedDict):
    """Settings of the bootstrap intervals of all metrics."""

    seed: int
    num_resamples: int


def resampling(run: RunConfig) -> Resampling:
    """The run's seed and number of resamples, the same for every method."""
    return {"seed": run.seed, "num_resamples": run.evaluation.num_resamples}


def evaluate_teacher(
    trained: TrainedModel, data: PreparedData, folder: RunFolder, splits: Sequence[FlowSubset], log: RunLog
) -> TeacherGap | None:
    """The gap between the student and its teacher model on the same rows; None without a teacher model."""
    if data.teacher is None:
        return None
    gap = compare_with_teacher(
        trained.run,
        folder,
        data.teacher,
        splits,
        fingerprint=data.fingerprint,
        num_unlabelled=len(trained.train_hashes) - sum(data.train_counts),
    )
    log.end_stage("teacher_scoring")
    return gap


def evaluate_baselines(
    trained: TrainedModel,
    data: PreparedData,
    folder: RunFolder,
    splits: Sequence[FlowSubset],
    other_classes: Mapping[str, ClassMap],
    trees: CompanionProcess[QuickTrees] | None,
    log: RunLog,
) -> dict[str, Baseline]:
    """Boosted trees, and a teacher fitted on the training rows, evaluated on the same rows as the model."""
    run = trained.run
    evaluate = partial(
        evaluate_baseline_on,
        classes=data.classes,
        parts=splits,
        predictions=folder.predictions,
        part_classes=other_classes,
        **resampling(run),
    )
    baselines: dict[str, Baseline] = {}
    if trees is not None:
        baselines[GBDT] = Baseline(**trees.result()._asdict())
        log.end_stage("boosted_trees")
    if trained.distillation.fitted_teacher is not None:
        teacher = trained.distillation.fitted_teacher()
        metrics, differences = evaluate(teacher)
        baselines[FITTED_TEACHER] = Baseline(summary=teacher.summary, splits=metrics, differences=differences)
        log.end_stage("teacher_scoring")
    return baselines


def describe_data(
    data: PreparedData,
    splits: Sequence[FlowSubset],
    metrics: Mapping[str, SplitMetrics],
    findings: Sequence[Finding],
    usage: Mapping[str, FileUsage],
) -> DataSection:
    """The data section of the report: files, classes of every split, findings on training and test files."""
    train_counts = dict(zip(data.classes.classes, data.train_counts, strict=True))
    section = data_section(
        [data.train, *splits], train_counts, metrics, [*data.findings, *findings], data.split
    )
    return replace(section, benign=data.classes.benign, test_usage=usage)


def run_report(
    trained: TrainedModel,
    folder: RunFolder,
    section: DataSection,
    metrics: Mapping[str, SplitMetrics],
    baselines: Mapping[str, Baseline],
    teacher_gap: TeacherGap | None,
    log: RunLog,
) -> Report:
    """The report of the run, from the results of each step."""
    num_parameters = sum(weight.numel() for weight in hugging_face_state(trained.model).values())
    return Report(
        name=printable_name(folder.path.name),
        command=command_line(),
        seed=trained.run.seed,
        splits=metrics,
        data=section,
        settings=settings_to_dict(trained.run),
        versions=versions(),
        hardware=hardware(),
        training={"parameters": num_parameters, **trained.result.to_report()},
        timing=log.seconds,
        date=now(),
        baselines=baselines,
        teacher=teacher_gap,
    )


def check_tests(
    run: RunConfig,
    data: PreparedData,
    profiles: Mapping[str, TableProfile],
    other_classes: Mapping[str, ClassMap],
    fits: Mapping[str, TrafficFit],
    log: RunLog,
) -> tuple[tuple[Finding, ...], dict[str, tuple[ColumnDrift, ...]]]:
    """Findings on test files: whether they fit the model and rows left out of metrics, which are printed too,
    and drift from the training file; and the drift of each column."""
    findings: list[Finding] = []
    drift: dict[str, tuple[ColumnDrift, ...]] = {}
    for name, profile in profiles.items():
        classes = other_classes.get(name, data.classes)
        found = [*fits[name].findings, *check_unscored_rows(profile, classes)]
        unscored = mark_accepted(found, run.data.accepted_findings)
        show_findings(unscored, log.console, num_rows=profile.num_rows)
        drift[name] = column_drift(data.profile.sample.table, profile.sample.table, data.flows.schema)
        differences = compare_with_training(data.profile, profile, classes)
        findings += [*unscored, *mark_accepted(differences, run.data.accepted_findings)]
    return tuple(findings), drift


def classes_of_tests(classes: ClassMap, profiles: Mapping[str, TableProfile]) -> dict[str, ClassMap]:
    """The classes of each test file whose labels name none of `classes` but the benign one.

    Of such a file only attack or benign can be told. A file without even benign flows keeps the classes of
    the model: its flows are counted as those of unknown classes, since the model is trained by now.
    """
    other: dict[str, ClassMap] = {}
    for name, profile in profiles.items():
        with suppress(DataError):
            of_file = classes.for_file(profile.label_names, {}, None, name)
            if of_file.classes != classes.classes:
                other[name] = of_file
    return other


def write_split_manifest(
    folder: RunFolder,
    data: PreparedData,
    tests: Mapping[str, TableProfile],
    usage: Mapping[str, FileUsage],
) -> None:
    """Write the hashes of the rows of every split: those of the training file, then the test files."""
    splits = {
        part.name: hash_rows(data.profile, part.rows, data.fingerprint)
        for part in (data.train, *data.evaluated)
    }
    splits |= {name: hash_rows(profile, None, usage[name].sha256) for name, profile in tests.items()}
    features = tuple(column.name for column in data.flows.schema.features)
    manifest = to_builtins(SplitManifest(features=features, splits=splits))
    write_atomic(folder.split_manifest, json.dumps(manifest, indent=1) + "\n")


def open_tests(run: RunConfig, schema: FlowSchema) -> list[FlowSubset]:
    """The test files, under the schema of the training file; a SchemaError for one without its features."""
    flows = [open_flows(data, run.data, schema=schema) for data in run.test]
    for test in flows:
        coverage_of(test, schema)
    names = split_names(run.test, [test.name for test in flows], has_test=run.data.test_fraction > 0)
    return [FlowSubset(name, test) for name, test in zip(names, flows, strict=True)]


def record_test_reads(
    run: RunConfig,
    folder: RunFolder,
    data: PreparedData,
    tests: Sequence[FlowSubset],
    settings: Mapping[str, object] | None = None,
) -> dict[str, FileUsage]:
    """The file of each split. Each test is recorded in the ledger next to the run before it is scored.

    Args:
        settings: Settings of the evaluated method, if it is not the run's own model.
    """
    usage = {part.name: FileUsage(sha256=data.fingerprint) for part in data.validation}
    files = {} if data.test is None else {data.test.name: (run.train, data.fingerprint)}
    files |= {test.name: (path, test.flows.fingerprint()) for path, test in zip(run.test, tests, strict=True)}
    for name, (path, sha256) in files.items():
        usage[name] = record_test_read(
            folder.path,
            data=path,
            sha256=sha256,
            command=command_line(),
            settings=settings or settings_to_dict(run),
            recipe=folder.recipe_toml,
        )
    return usage
