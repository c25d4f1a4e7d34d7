"""What each command of the command line does, in the order of `wirebert --help`."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from wirebert.config import RunConfig, resolve_run, write_run
from wirebert.data.conversion import Misfits
from wirebert.data.datasets import dataset, download, known_datasets, verify
from wirebert.data.loading import DataConfig, find_files, open_flows
from wirebert.data.synthetic import write_csv
from wirebert.data.validation import require_no_errors
from wirebert.dataset_tables import show_checked, show_datasets
from wirebert.errors import ConfigError, DataError
from wirebert.evaluation.report import read_json
from wirebert.evaluation.tables import print_comparison
from wirebert.inspection import inspect_data, show_inspection
from wirebert.judging import Part, judge
from wirebert.pipeline import fit
from wirebert.reporting import default_name, evaluation_report, show_report, write_report
from wirebert.run_folder import RunFolder, locked, new_run_folder, next_run_path, open_run_folder
from wirebert.serving.detector import Detector
from wirebert.serving.predictions import CsvWriter, open_writer, predict_blocks

DEMO_EPOCHS = 6
"""Enough to see what the model can do, few enough for minutes on two cores."""

DEMO_TEST_SHARE = 3
"""The demo tests on a third as many flows as it trains on."""


PIPE_WIDTH = 110
"""Columns of text where the output is no terminal and nothing says how wide it is; rich would take 80."""


class Output(Console):
    """Standard output."""

    def __init__(self) -> None:
        is_open = not sys.stdout.isatty() and "COLUMNS" not in os.environ
        super().__init__(width=PIPE_WIDTH if is_open else None)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line what it means that the reader has gone; rich would end the process."""
        raise BrokenPipeError


def demo(options: argparse.Namespace) -> None:
    """Generate traffic, train the mini model on it, report."""
    if options.rows < 1000:
        raise ConfigError(f"--rows must be at least 1000, so that every class occurs, got {options.rows}")
    console = Output()
    path = options.out or next_run_path("demo")
    traffic = path / "traffic"
    given = {
        "train": str(traffic / "train.csv"),
        "test": [str(traffic / "test.csv")],
        "seed": options.seed,
        "model": {"size": "mini"},
        "training": {"epochs": DEMO_EPOCHS},
    }
    run = resolve_run(given=given)
    with new_run_folder(path) as folder:
        traffic.mkdir()
        console.print(
            f"generating {options.rows:,} flows to train on, and others to test on", highlight=False
        )
        # Another seed makes other hosts: the test traffic is that of a network which training has not seen.
        write_csv(traffic / "train.csv", options.rows, options.seed)
        write_csv(traffic / "test.csv", options.rows // DEMO_TEST_SHARE, options.seed + 1)
        write_run(run, folder.run_toml)
        _fit(run, folder, console)


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    names = ("label", "benign", "schema", "positive")
    given: dict[str, object] = {"train": options.data, "data": _given(options, *names)}
    run = resolve_run(options.recipe, options.overrides, given)
    inspection = inspect_data(options.data, run.data, options.test)
    if options.json:
        print(inspection.to_json())
    else:
        show_inspection(inspection, Output())
    if options.strict:
        require_no_errors(inspection.findings, inspection.flows.name)


def train(options: argparse.Namespace) -> None:
    """Train a detector, or go on with an interrupted training."""
    console = Output()
    if options.resume is not None:
        _resume(options, console)
        return
    given: dict[str, object] = {
        "data": _given(options, "label", "benign", "schema", "positive"),
        **_given(options, "seed"),
    }
    # Absolute, so that the run can be resumed from another folder.
    if options.data is not None:
        given["train"] = options.data if options.data == "-" else str(Path(options.data).absolute())
    if options.test:
        given["test"] = [data if data == "-" else str(Path(data).absolute()) for data in options.test]
    run = resolve_run(options.recipe, options.overrides, given)
    if not run.train:
        raise ConfigError(
            "expected training data, got none; name a file, a folder or a glob after `wirebert train`"
        )
    if "-" in (run.train, *run.test):
        raise ConfigError(
            "training reads its data several times and resumes from it, so it can not be `-`; save it to a file"
        )
    for data in run.test:  # a wrong path is found now; the content is opened after the model is saved
        find_files(data)
    with new_run_folder(options.out or next_run_path(default_name(run.train))) as folder:
        write_run(run, folder.run_toml)
        _fit(run, folder, console)


def _resume(options: argparse.Namespace, console: Console) -> None:
    decided = ("data", "test", "recipe", "overrides", "out", "seed", "label", "benign", "schema", "positive")
    given = [name for name in decided if getattr(options, name) not in (None, [])]
    if given:
        raise ConfigError(
            f"--resume continues a run as it was started, so it takes no other option, got {', '.join(given)}"
        )
    folder = open_run_folder(options.resume)
    with locked(folder):
        if folder.is_finished:
            console.print(
                f"{folder.path}: this run is finished; `wirebert report {folder.path}` shows its figures"
            )
            return
        _fit(resolve_run(folder.run_toml), folder, console)


def _fit(run: RunConfig, folder: RunFolder, console: Console) -> None:
    try:
        fit(run, folder, console)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(f"go on with `wirebert train --resume {folder.path}`") from stop


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
        metrics = judge(detector, part, predictions, seed=1, num_resamples=1000)
        if metrics.num_flows == 0:
            raise DataError(
                f"{flows.name}: expected labelled flows, found none with a label; use `wirebert predict`"
            )
        report = evaluation_report(detector, part, metrics)
        if folder:
            write_report(report, folder)
    show_report(report, folder, console)


def predict(options: argparse.Namespace) -> None:
    """Verdicts of every flow of a file, in input order."""
    detector = Detector.load(options.model, device=options.device)
    flows = open_flows(options.data, schema=detector.schema)
    misfits = Misfits()
    if options.out is None:
        writer = CsvWriter(sys.stdout.buffer)
        for table in predict_blocks(detector, flows, misfits):
            writer.write(table)
        writer.close()
        _tell_what_is_left_out(misfits)
        return
    num_flows = 0
    with open_writer(options.out) as writer:
        for table in predict_blocks(detector, flows, misfits):
            writer.write(table)
            num_flows += table.num_rows
    Console(stderr=True).print(f"{num_flows:,} flows: {options.out}", highlight=False, soft_wrap=True)
    _tell_what_is_left_out(misfits)


def _tell_what_is_left_out(misfits: Misfits) -> None:
    """Say on standard error which rows have no verdict and which values were read as missing."""
    lines = misfits.lines
    if lines.num_set_aside:
        first = lines.examples[0]
        told = f"{lines.num_set_aside:,} rows can not be used and have no verdict ({first.place}: {first.reason})"
        print(f"wirebert: {told}", file=sys.stderr)
    for column, count in misfits.counts.items():
        first = misfits.examples[column][0]
        told = f"column {column!r} holds no number in {count:,} rows, read as missing ({first.place}: {first.value!r})"
        print(f"wirebert: {told}", file=sys.stderr)


def report(options: argparse.Namespace) -> None:
    """Figures of one run, or of several side by side."""
    console = Output()
    folders = [RunFolder(path) for path in options.runs]
    reports = [read_json(folder.report_json) for folder in folders]
    if len(reports) == 1:
        show_report(reports[0], folders[0], console)
    else:
        print_comparison(reports, console)


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


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "demo": demo,
    "inspect": inspect,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "datasets": datasets,
}


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
