"""What each command of the command line does, in the order of `wirebert --help`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from wirebert.attaching import watch_run
from wirebert.budgeting import Allowance, within
from wirebert.card import model_card
from wirebert.comparing import compare_runs
from wirebert.competing import compete
from wirebert.config import RunConfig, resolve_run, write_run
from wirebert.data.conversion import Misfits
from wirebert.data.datasets import dataset, download, known_datasets, verify
from wirebert.data.layouts import write_schema
from wirebert.data.loading import DataConfig, find_files, open_flows
from wirebert.data.survey import survey
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.validation import left_out, require_no_errors
from wirebert.dataset_tables import show_checked, show_datasets
from wirebert.errors import ConfigError, DataError
from wirebert.evaluation.comparison_page import write_comparison
from wirebert.evaluation.comparison_tables import print_comparison
from wirebert.evaluation.report import read_json
from wirebert.files import write_whole
from wirebert.following import follow_until_asked
from wirebert.inspection import inspect_data, show_inspection
from wirebert.joining import follow
from wirebert.judging import Part, judge
from wirebert.pipeline import fit
from wirebert.printing import Output
from wirebert.reporting import (
    count_evaluation,
    default_name,
    draw_page,
    evaluation_report,
    show_findings,
    show_report,
    write_report,
)
from wirebert.run_folder import RunFolder, locked, new_run_folder, next_run_path, open_run_folder
from wirebert.serving.artifact import save_artifact
from wirebert.serving.detector import Detector
from wirebert.serving.export import export_model
from wirebert.serving.predictions import CsvWriter, open_writer, predict_blocks
from wirebert.training.distributed import ALONE, Crew, joined
from wirebert.training.stopping import terminable

DEMO_EPOCHS = 6
"""Enough to see what the model can do, few enough for minutes on two cores."""

DEMO_TEST_SHARE = 3
"""The demo tests on a third as many flows as it trains on."""


DATA_OPTIONS = ("label", "benign", "positive", "drop", "schema")
"""Options that are settings of the section `data`."""


def demo(options: argparse.Namespace) -> None:
    """Generate traffic, train the mini model on it, report."""
    if options.rows < 1000:
        raise ConfigError(f"--rows must be at least 1000, so that every class occurs, got {options.rows}")
    console = Output()
    path = options.out or next_run_path("demo")
    traffic = path / "traffic"
    files = [traffic / f"{name}.{'conn.log' if options.quiet else 'csv'}" for name in ("train", "test")]
    given = {
        "train": str(files[0]),
        "test": [str(files[1])],
        "seed": options.seed,
        "model": {"size": "mini"},
        "training": {"epochs": DEMO_EPOCHS},
        "evaluation": {"ablate_context": options.quiet},
    }
    run = resolve_run(given=given)
    with new_run_folder(path) as folder:
        traffic.mkdir()
        console.print(
            f"generating {options.rows:,} flows to train on, and others to test on", highlight=False
        )
        # Another seed makes other hosts: the test traffic is that of a network which training has not seen.
        for file, num_rows, seed in zip(
            files,
            (options.rows, options.rows // DEMO_TEST_SHARE),
            (options.seed, options.seed + 1),
            strict=True,
        ):
            if options.quiet:
                write_conn_log(file, generate(num_rows, seed, quiet=True), seed)
            else:
                write_csv(file, num_rows, seed)
        write_run(run, folder.run_toml)
        _fit(run, folder, console)


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    given: dict[str, object] = {"train": options.data, "data": _given(options, *DATA_OPTIONS)}
    run = resolve_run(options.recipe, options.overrides, given)
    inspection = inspect_data(options.data, run.data, options.test)
    if options.write_schema is not None:
        write_schema(inspection.flows.schema, options.write_schema)
    if options.json:
        print(inspection.to_json())
    else:
        show_inspection(inspection, Output())
    if options.strict:
        require_no_errors(inspection.findings, inspection.flows.name)


def train(options: argparse.Namespace) -> None:
    """Train a detector, or go on with an interrupted training."""
    with joined(os.environ) as crew:
        if not crew.world.is_first:
            with terminable():
                follow(crew)
        elif options.resume is not None:
            _resume(options, Output(), crew)
        else:
            _begin(options, Output(), crew)


def _begin(options: argparse.Namespace, console: Console, crew: Crew) -> None:
    run = _described(options)
    with new_run_folder(options.out or next_run_path(default_name(run.train))) as folder:
        write_run(run, folder.run_toml)
        if options.recipe is not None:
            write_whole(folder.recipe_toml, options.recipe.read_text(encoding="utf-8"))
        _fit(run, folder, console, crew)


def _described(options: argparse.Namespace) -> RunConfig:
    """The run that data, recipe and options of a command describe."""
    given: dict[str, object] = {"data": _given(options, *DATA_OPTIONS), **_given(options, "seed")}
    # Absolute, so that the run can be resumed from another folder.
    if options.data is not None:
        given["train"] = options.data if options.data == "-" else str(Path(options.data).absolute())
    if options.test:
        given["test"] = [data if data == "-" else str(Path(data).absolute()) for data in options.test]
    run = resolve_run(options.recipe, options.overrides, given)
    if not run.train:
        raise ConfigError(
            "expected training data, got none; name a file, a folder or a glob after "
            f"`wirebert {options.command}`"
        )
    if "-" in (run.train, *run.test):
        raise ConfigError(
            "training reads its data several times and resumes from it, so it can not be `-`; save it to a file"
        )
    for data in run.test:  # a wrong path is found now; the content is opened after the model is saved
        find_files(data)
    return run


def _resume(options: argparse.Namespace, console: Console, crew: Crew) -> None:
    decided = ("data", "test", "recipe", "overrides", "out", "seed", *DATA_OPTIONS)
    given = [name for name in decided if getattr(options, name) not in (None, [])]
    if given:
        raise ConfigError(
            f"--resume continues a run as it was started, so it takes no other option, got {', '.join(given)}"
        )
    folder = open_run_folder(options.resume)
    with locked(folder):
        if folder.is_finished:
            folder.discard_checkpoints()  # a kill may have left some
            console.print(
                f"{folder.path}: this run is finished; `wirebert report {folder.path}` shows its figures"
            )
            return
        _fit(resolve_run(folder.run_toml), folder, console, crew)


def _fit(run: RunConfig, folder: RunFolder, console: Console, crew: Crew = ALONE) -> None:
    try:
        with terminable():
            fit(run, folder, console, crew)
    except KeyboardInterrupt as stop:
        raise type(stop)(f"go on with `wirebert train --resume {folder.path}`") from stop


def watch(options: argparse.Namespace) -> None:
    """Show how a training goes that another process makes, or how it went."""
    with suppress(KeyboardInterrupt):  # to stop looking is no failure
        watch_run(open_run_folder(options.run), Output(), os.environ)


def evaluate(options: argparse.Namespace) -> None:
    """Figures of a saved model on another labelled file."""
    console = Output()
    detector = Detector.load(options.model, device=options.device)
    config = DataConfig(label=options.label)
    flows = open_flows(options.data, config, schema=detector.schema)
    flows.require_label()
    part = Part(flows.name, flows)
    with new_run_folder(options.out) if options.out else nullcontext() as folder:
        predictions = folder.predictions(part.name) if folder else None
        judged = count_evaluation(options.model, options.out, options.data, detector, flows)
        metrics = judge(detector, part, predictions, seed=1, num_resamples=1000)
        if metrics.num_flows == 0:
            raise DataError(
                f"{flows.name}: expected labelled flows, found none with a label; use `wirebert predict`"
            )
        findings = left_out(survey(flows))
        show_findings(findings, console, num_rows=metrics.num_flows)
        report = evaluation_report(detector, part, metrics, findings)
        benign = detector.artifact.classes.benign
        report = replace(report, data=replace(report.data, benign=benign, judged={part.name: judged}))
        if folder:
            write_report(report, folder)
    show_report(report, folder, console)


def predict(options: argparse.Namespace) -> None:
    """Verdicts of every flow of a file, in input order."""
    detector = _detector(options)
    if options.follow:
        follow_until_asked(detector, options)
        return
    flows = open_flows(options.data, schema=detector.schema)
    misfits = Misfits()
    if options.out is None:
        writer = CsvWriter(sys.stdout.buffer)
        for table in predict_blocks(detector, flows, misfits, explained=options.explain):
            writer.write(table)
        writer.close()
        _tell_what_is_left_out(misfits)
        return
    num_flows = 0
    with open_writer(options.out) as writer:
        for table in predict_blocks(detector, flows, misfits, explained=options.explain):
            writer.write(table)
            num_flows += table.num_rows
    done = f"{num_flows:,} flows by {detector.backend} on {detector.device}: {options.out}"
    Console(stderr=True).print(done, highlight=False, soft_wrap=True)
    _tell_what_is_left_out(misfits)


def export(options: argparse.Namespace) -> None:
    """Write the model as an ONNX file into its folder."""
    path, agreement = export_model(options.model, "onnx-int8" if options.int8 else "onnx", data=options.data)
    Output().print(f"{agreement.said}\n{path}", highlight=False, markup=False, soft_wrap=True)


def _detector(options: argparse.Namespace) -> Detector:
    """The detector as the options say; on standard error, which exports it can not use."""
    detector = Detector.load(
        options.model,
        device=options.device,
        backend=options.backend,
        threads=options.threads,
        at=options.at,
        unknown=options.unknown,
    )
    for reason in detector.passed_over.values():
        print(f"wirebert: {reason}", file=sys.stderr)
    return detector


def serve(options: argparse.Namespace) -> None:
    """Verdicts over HTTP."""
    try:
        from wirebert.serving import limits, service
    except ImportError as error:
        raise ConfigError(
            "the service needs packages that are not installed; install them with `pip install 'wirebert[serve]'`"
        ) from error
    place = {name: getattr(options, name) for name in ("host", "port", "keys", "allow_anonymous")}
    bounds = {name: getattr(options, name) for name in ("max_body_mb", "max_rows", "max_waiting")}
    service.serve(_detector(options), service.Place(**place), limits.Limits(**bounds))


def calibrate(options: argparse.Namespace) -> None:
    """Write a model folder whose alerts are as many as the user can look at."""
    out = options.out or options.model.with_name(f"{options.model.name}-calibrated")
    if out.exists():
        raise ConfigError(
            f"--out {out}: expected a new folder, found one that exists; it is left as it is, choose another"
        )
    allowance = Allowance(
        per_day=options.alerts_per_day,
        per_10000=options.alerts_per_10000,
        days=options.days,
        prior=tuple(entry for entry in options.prior if entry != "estimate"),
        estimates_prior="estimate" in options.prior,
    )
    detector = Detector.load(options.model, device=options.device, backend="torch")
    artifact = within(detector, open_flows(options.data, schema=detector.schema), allowance)
    save_artifact(artifact, out, card=model_card(artifact))
    console = Output()
    for line in (*(artifact.operating.notes if artifact.operating else ()), f"model: {out}"):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _tell_what_is_left_out(misfits: Misfits) -> None:
    """Say on standard error which rows have no verdict and which values were read as missing."""
    lines = misfits.lines
    if lines.num_set_aside:
        first = lines.examples[0]
        told = f"{lines.num_set_aside:,} rows can not be used and have no verdict ({first.place}: {first.reason})"
        print(f"wirebert: {told}", file=sys.stderr)
    if lines.num_footer:
        first = lines.footer[0]
        told = f"{lines.num_footer:,} lines after the table are no rows and have no verdict ({first.place}: {first.text!r})"
        print(f"wirebert: {told}", file=sys.stderr)
    for column, count in misfits.counts.items():
        first = misfits.examples[column][0]
        told = f"column {column!r} holds no number in {count:,} rows, read as missing ({first.place}: {first.value!r})"
        print(f"wirebert: {told}", file=sys.stderr)


def report(options: argparse.Namespace) -> None:
    """Figures of one run, or of several side by side."""
    console = Output()
    if len(options.runs) == 1:
        folder = RunFolder(options.runs[0])
        found = read_json(folder.report_json)
        show_report(found, folder, console)
        if options.out is not None:
            draw_page(found, folder, options.out)
            console.print(f"page: {options.out}", highlight=False, soft_wrap=True)
        return
    comparison, histories = compare_runs(options.runs)
    print_comparison(comparison, console)
    if options.out is not None:
        write_comparison(comparison, options.out, histories)
        console.print(f"comparison: {options.out}", highlight=False, soft_wrap=True)


def datasets(options: argparse.Namespace) -> None:
    """List public data sets, recognise files of them, or fetch some."""
    console = Output()
    if options.action == "verify":
        show_checked(verify(options.folder), console)
    elif options.action == "download":
        chosen = dataset(options.name)
        folder = options.folder or Path("data") / options.name
        download(chosen, options.base_url, folder, lambda line: console.print(line, highlight=False))
    else:
        show_datasets(known_datasets().values(), console)


def compare(options: argparse.Namespace) -> None:
    """A recipe against other methods on the same rows."""
    if options.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {options.jobs}")
    run = _described(options)
    if not run.test and not run.data.test_fraction:
        raise ConfigError("expected a test, got none; name --test DATA, or set data.test_fraction")
    console = Output()
    out = options.out or Path("runs") / f"compare-{options.recipe.stem if options.recipe else 'defaults'}"
    text = options.recipe.read_text(encoding="utf-8") if options.recipe else ""
    with terminable():
        comparison = compete(run, out, text, options.run, options.jobs, console)
    print_comparison(comparison, console)
    console.print(f"comparison: {out / 'compare.html'}", highlight=False, soft_wrap=True)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "demo": demo,
    "inspect": inspect,
    "train": train,
    "watch": watch,
    "evaluate": evaluate,
    "predict": predict,
    "calibrate": calibrate,
    "export": export,
    "serve": serve,
    "report": report,
    "compare": compare,
    "datasets": datasets,
}


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
