"""All commands in the order of `wirebert --help`, and the commands that neither train nor score."""

import argparse
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

from wirebert.cli.arguments import DATA_OPTIONS, given_options
from wirebert.cli.datasets import show_checked, show_datasets
from wirebert.cli.inference_commands import calibrate, evaluate, export
from wirebert.cli.scoring_commands import predict, serve
from wirebert.cli.training_commands import compare, demo, train
from wirebert.comparison.runs import compare_runs
from wirebert.config import find_recipe, resolve_run
from wirebert.console import SafeConsole
from wirebert.data.registry import known_datasets, verify
from wirebert.data.schema.library import write_schema
from wirebert.report.comparison_page import write_comparison
from wirebert.report.comparison_terminal import print_comparison
from wirebert.report.report import read_json
from wirebert.run_folder import RunFolder, open_run_folder
from wirebert.workflows.findings import require_no_warnings
from wirebert.workflows.inspect import inspect_data, show_inspection
from wirebert.workflows.pretrain import read_pretraining, show_pretraining
from wirebert.workflows.report import draw_page, show_report
from wirebert.workflows.watch import watch_run


def inspect(options: argparse.Namespace) -> None:
    """Show format, columns, classes and findings of a file."""
    given: dict[str, object] = {"train": options.data, "data": given_options(options, *DATA_OPTIONS)}
    recipe = None if options.recipe is None else find_recipe(options.recipe)
    run = resolve_run(recipe, options.overrides, given)
    inspection = inspect_data(options.data, run.data, options.test)
    if options.write_schema is not None:
        write_schema(inspection.flows.schema, options.write_schema)
    if options.json:
        print(inspection.to_json())
    else:
        show_inspection(inspection, SafeConsole())
    require_no_warnings(inspection.findings, strict=options.strict, can_accept=True)


def watch(options: argparse.Namespace) -> None:
    """Follow a training run in another process, or show a finished one."""
    with suppress(KeyboardInterrupt):  # Ctrl-C ends watching, which is not an error
        watch_run(open_run_folder(options.run), SafeConsole(), os.environ)


def report(options: argparse.Namespace) -> None:
    """Print the metrics of one run, or a comparison of several."""
    console = SafeConsole()
    if len(options.runs) == 1:
        folder = RunFolder(options.runs[0])
        pretraining = read_pretraining(folder.report_json)
        if pretraining is not None and options.out is None:
            show_pretraining(pretraining, folder, console)
            return
        run_report = read_json(folder.report_json)
        show_report(run_report, folder, console)
        if options.out is not None:
            draw_page(run_report, folder, options.out)
            console.print(f"page: {options.out}", highlight=False, soft_wrap=True)
        return
    comparison, histories = compare_runs(options.runs)
    print_comparison(comparison, console)
    if options.out is not None:
        write_comparison(comparison, options.out, histories)
        console.print(f"comparison: {options.out}", highlight=False, soft_wrap=True)


def datasets(options: argparse.Namespace) -> None:
    """List public data sets, or verify files."""
    console = SafeConsole()
    if options.action == "verify":
        show_checked(verify(options.folder), console)
    else:
        show_datasets(known_datasets().values(), console)


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "demo": demo,
    "inspect": inspect,
    "pretrain": train,
    "train": train,
    "distill": train,
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
