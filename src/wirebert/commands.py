"""What each command of the command line does, in the order of `wirebert --help`."""

import argparse
import sys
from collections.abc import Callable, Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from wirebert.config import resolve_run, write_run
from wirebert.data.labels import ClassMap
from wirebert.data.loading import DataConfig, find_files, open_flows
from wirebert.data.survey import Survey, survey
from wirebert.data.synthetic import write_csv
from wirebert.data.validation import validate
from wirebert.errors import ConfigError, DataError
from wirebert.evaluation.report import read_json
from wirebert.evaluation.tables import print_comparison
from wirebert.judging import Part, judge
from wirebert.pipeline import fit
from wirebert.reporting import default_name, evaluation_report, show_data, show_report, write_report
from wirebert.run_folder import RunFolder, create_run_folder, locked, next_run_path, open_run_folder
from wirebert.serving.detector import Detector
from wirebert.serving.predictions import CsvWriter, open_writer, predict_blocks

DEMO_TEST_SHARE = 3
"""The demo tests on a third as many flows as it trains on."""


def demo(options: argparse.Namespace) -> None:
    """Generate traffic, train the mini model on it, report."""
    if options.rows < 1000:
        raise ConfigError(f"--rows must be at least 1000, so that every class occurs, got {options.rows}")
    console = Console()
    folder = create_run_folder(options.out or next_run_path("demo"))
    traffic = folder.path / "traffic"
    traffic.mkdir()
    console.print(f"generating {options.rows:,} flows to train on, and others to test on", highlight=False)
    # Another seed makes other hosts: the test traffic is that of a network which training has not seen.
    write_csv(traffic / "train.csv", options.rows, options.seed)
    write_csv(traffic / "test.csv", options.rows // DEMO_TEST_SHARE, options.seed + 1)
    given = {
        "train": str(traffic / "train.csv"),
        "test": [str(traffic / "test.csv")],
        "seed": options.seed,
        "model": {"size": "mini"},
    }
    run = resolve_run(given=given)
    with locked(folder):
        write_run(run, folder.run_toml)
        fit(run, folder, console)


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    console = Console()
    flows = open_flows(
        options.data, DataConfig(label=options.label, benign=options.benign, schema=options.schema)
    )
    seen = survey(flows)
    classes = ClassMap.fit(flows.schema, seen.label_counts) if flows.schema.label else None
    counts = classes.counts(seen.label_counts) if classes else {}
    show_data(flows, counts, validate(seen, classes), console)
    console.print(_column_table(seen, plain=not console.is_terminal))


def train(options: argparse.Namespace) -> None:
    """Train a detector, or go on with an interrupted training."""
    console = Console()
    if options.resume is not None:
        _resume(options, console)
        return
    given: dict[str, object] = {
        "data": _given(options, "label", "benign", "schema"),
        **_given(options, "seed"),
    }
    if options.data is not None:
        given["train"] = options.data
    if options.test:
        given["test"] = options.test
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
    open_flows(run.train, run.data).require_label()  # so that a file that can not be used makes no folder
    folder = create_run_folder(options.out or next_run_path(default_name(run.train)))
    with locked(folder):
        write_run(run, folder.run_toml)
        fit(run, folder, console)


def _resume(options: argparse.Namespace, console: Console) -> None:
    decided = ("data", "test", "recipe", "overrides", "out", "seed", "label", "benign", "schema")
    given = [name for name in decided if getattr(options, name)]
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
        fit(resolve_run(folder.run_toml), folder, console)


def evaluate(options: argparse.Namespace) -> None:
    """Figures of a saved model on another labelled file."""
    console = Console()
    detector = Detector.load(options.model, device=options.device)
    config = DataConfig(label=options.label)
    flows = open_flows(options.data, config, schema=detector.schema)
    flows.require_label()
    folder = create_run_folder(options.out) if options.out else None
    part = Part(flows.name, flows)
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
    if options.out is None:
        writer = CsvWriter(sys.stdout.buffer)
        for table in predict_blocks(detector, flows):
            writer.write(table)
        writer.close()
        return
    num_flows = 0
    with open_writer(options.out) as writer:
        for table in predict_blocks(detector, flows):
            writer.write(table)
            num_flows += table.num_rows
    Console(stderr=True).print(f"{num_flows:,} flows: {options.out}", highlight=False, soft_wrap=True)


def report(options: argparse.Namespace) -> None:
    """Figures of one run, or of several side by side."""
    console = Console()
    folders = [RunFolder(path) for path in options.runs]
    reports = [read_json(folder.report_json) for folder in folders]
    if len(reports) == 1:
        show_report(reports[0], folders[0], console)
    else:
        print_comparison(reports, console)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "demo": demo,
    "inspect": inspect,
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
}


def _given(options: argparse.Namespace, *names: str) -> dict[str, object]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _column_table(seen: Survey, *, plain: bool) -> Table:
    table = Table(box=None if plain else box.HORIZONTALS, title=None)
    for heading in ("column", "kind", "feature", "missing", "distinct", "range"):
        table.add_column(
            heading, overflow="fold", justify="right" if heading in ("missing", "distinct") else "left"
        )
    for column in seen.columns:
        span = "" if column.minimum is None else f"{column.minimum:g} to {column.maximum:g}"
        table.add_row(
            column.column.name,
            column.column.kind.value,
            "yes" if column.column.is_feature else column.column.note or "no",
            f"{column.num_missing:,}",
            column.distinct_text,
            span,
        )
    return table
