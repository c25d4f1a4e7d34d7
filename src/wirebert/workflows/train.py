"""A whole training on one page: traffic files in, a trained detector and its report out. Start reading here.

The order of the steps keeps the report honest. The split is made before anything is fitted. The tokenizer
and the model see training rows only. The best epoch is chosen on validation rows. Test files are opened after
the model is saved.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypedDict, TypeVar

from rich.console import Console

from wirebert.baselines.fitted import ColumnBaseline, fit_columns
from wirebert.config import RunConfig
from wirebert.console import printable_name, warn
from wirebert.data.checks.checks import Finding, check_unscored_rows, compare_with_training, mark_accepted
from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError
from wirebert.evaluation.evaluate import evaluate_baseline_on, evaluate_detector
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.inference.artifact import save_artifact
from wirebert.inference.coverage import TrafficFit, coverage_of
from wirebert.inference.export import add_default_export
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import TeacherGap
from wirebert.model.checkpoints import hugging_face_state
from wirebert.model.config import resolve
from wirebert.report.environment import hardware, versions
from wirebert.report.report import FITTED_TEACHER, GBDT, Baseline, DataSection, FileUsage, Report
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict
from wirebert.training.loop import check_machine, choose_device, compile_kernels
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.workflows.fit import TrainedModel, fit_decision, load_trained, train_model
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import PreparedData, prepare, write_typed_rows
from wirebert.workflows.report import (
    RunLog,
    command_line,
    data_section,
    show_data,
    show_findings,
    show_report,
    split_names,
    write_report,
)
from wirebert.workflows.teacher import compare_with_teacher

Result = TypeVar("Result")


def train(
    run: RunConfig, folder: RunFolder, console: Console, group: ProcessGroup = SINGLE_PROCESS
) -> Report:
    """Train the run's detector in `folder` and write its report.

    An interrupted run continues from its newest checkpoint. The other processes of the group only train.
    """
    check_machine(run.training)
    if run.model.init_from == "scratch":  # a GPU's kernels are compiled while the rows are read
        compile_kernels(run.training, resolve(run.model, vocab_size=1, num_classes=1))
    log = RunLog(console)
    rows = write_typed_rows(run, folder)  # the training file is parsed once: later passes read these rows
    data = prepare(run, rows)  # classes, findings, split; nothing is fitted yet
    show_prepared(data, log)
    trees = beside_gpu(run, partial(train_trees, run, data)) if run.evaluation.baseline else None
    trained = train_model(run, data, folder, log, group)  # tokenizer, encoding, distillation, model, training
    artifact = fit_decision(trained, data)  # calibration, thresholds, novelty: from validation rows
    save_artifact(artifact, folder.model, card=model_card(artifact))
    log.end_stage("training")
    add_export(folder)
    log.end_stage("export")
    group.release_workers()
    # Test files are opened only from here on: nothing below changes the model.
    run = trained.run
    tests = open_tests(run, data.flows.schema)
    fits = {test.name: TrafficFit.of(trained.tokenizer, test.flows) for test in tests}
    profiles = {test.name: profile_table(test.flows) for test in tests}
    other_classes = classes_of_tests(data.classes, profiles)
    usage = record_test_reads(run, folder, data, tests)
    splits = [*data.evaluated, *tests]
    detector = load_trained(run, folder)
    evaluate = partial(evaluate_detector, detector, train_hashes=trained.train_hashes, **resampling(run))
    metrics = {
        split.name: evaluate(
            split,
            folder.predictions(split.name),
            fit=fits.get(split.name),
            classes=other_classes.get(split.name),
        )
        for split in splits
    }
    log.end_stage("scoring")
    same_classes = [split for split in splits if split.name not in other_classes]
    teacher_gap = evaluate_teacher(trained, data, folder, same_classes, log)
    baselines = evaluate_baselines(trained, data, folder, splits, other_classes, trees, log)
    findings = check_tests(run, data, profiles, other_classes, fits, log)
    untrusted = artifact.operating_point.findings() if artifact.operating_point else ()
    show_findings(untrusted, console, num_rows=data.profile.num_rows)
    section = describe_data(data, splits, metrics, [*untrusted, *findings], usage)
    report = run_report(trained, folder, section, metrics, baselines, teacher_gap, log)
    write_report(report, folder, card=model_card(artifact, report))
    folder.discard_working_files()
    show_report(report, folder, console)
    return report


def add_export(folder: RunFolder) -> None:
    """Write the ONNX export for scoring without PyTorch, or warn why there is none."""
    if (reason := add_default_export(folder.model)) is not None:
        warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")


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


def beside_gpu(run: RunConfig, work: Callable[[], Result]) -> Callable[[], Result]:
    """What waits for work of the processor: a thread does it beside a busy GPU, else the call itself does."""
    if choose_device(run.training).type == "cpu":
        return work
    pool = ThreadPoolExecutor(1, thread_name_prefix="beside-gpu")
    done = pool.submit(work)
    pool.shutdown(wait=False)
    return done.result


def evaluate_baselines(
    trained: TrainedModel,
    data: PreparedData,
    folder: RunFolder,
    splits: Sequence[FlowSubset],
    other_classes: Mapping[str, ClassMap],
    trees: Callable[[], ColumnBaseline] | None,
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
        fitted = trees()
        metrics, differences = evaluate(fitted)
        baselines[GBDT] = Baseline(summary=fitted.summary, splits=metrics, differences=differences)
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
) -> tuple[Finding, ...]:
    """Findings on test files: whether they fit the model and rows left out of metrics, which are printed too,
    and drift from the training file."""
    findings: list[Finding] = []
    for name, profile in profiles.items():
        classes = other_classes.get(name, data.classes)
        found = [*fits[name].findings, *check_unscored_rows(profile, classes)]
        unscored = mark_accepted(found, run.data.accepted_findings)
        show_findings(unscored, log.console, num_rows=profile.num_rows)
        differences = compare_with_training(data.profile, profile, classes)
        findings += [*unscored, *mark_accepted(differences, run.data.accepted_findings)]
    return tuple(findings)


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
    valid = [part for part in (data.valid, data.held_out) if part is not None]
    usage = {part.name: FileUsage(sha256=data.fingerprint) for part in valid}
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


def train_trees(run: RunConfig, data: PreparedData) -> ColumnBaseline:
    """The quick baseline, fitted on the training rows of the model."""
    label = data.flows.require_label()
    blocks = ((table, data.classes.encode(table.column(label))) for table in data.train.tables())
    return fit_columns(
        "gbdt",
        {},
        blocks,
        data.flows.schema,
        len(data.classes.classes),
        seed=run.seed,
        max_rows=run.evaluation.baseline_rows,
    )
