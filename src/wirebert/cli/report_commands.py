"""The commands `report` and `watch`, which read run folders."""

import argparse
import os
from contextlib import suppress

from wirebert.comparison.runs import compare_runs
from wirebert.console import SafeConsole, say
from wirebert.errors import ConfigError
from wirebert.files import write_atomic
from wirebert.report.comparison_page import write_comparison
from wirebert.report.comparison_terminal import print_comparison
from wirebert.report.html.learning import learning_page
from wirebert.report.learning import print_learning, read_learning
from wirebert.report.redact import redacted, redacted_learning
from wirebert.report.report import read_json
from wirebert.report.tables import as_csv, as_latex
from wirebert.run_folder import RunFolder, open_run_folder
from wirebert.workflows.report import draw_page, show_report
from wirebert.workflows.watch import watch_run


def watch(options: argparse.Namespace) -> None:
    """Follow a training run in another process, or show a finished one."""
    with suppress(KeyboardInterrupt):  # Ctrl-C ends watching, which is not an error
        watch_run(open_run_folder(options.run), SafeConsole(), os.environ)


def report(options: argparse.Namespace) -> None:
    """Print the metrics of one run, or a comparison of several."""
    console = SafeConsole()
    if options.format is not None:
        write_tables(options, console)
        return
    if len(options.runs) == 1:
        folder = RunFolder(options.runs[0])
        learned, out = read_learning(folder.report_json), options.out
        if options.redact:
            out = out or folder.path / "report-redacted.html"
        if learned is not None:
            learned = redacted_learning(learned) if options.redact else learned
            print_learning(learned, console)
            if out is not None:
                write_atomic(out, learning_page(learned))
        else:
            run_report = read_json(folder.report_json)
            run_report = redacted(run_report) if options.redact else run_report
            show_report(run_report, None if options.redact else folder, console)
            if out is not None:
                draw_page(run_report, folder, out)
        if out is not None:
            say(console, f"page: {out}")
        return
    if options.redact:
        raise ConfigError("--redact is for the report of one run, got several; name one")
    comparison, histories = compare_runs(options.runs)
    print_comparison(comparison, console)
    if options.out is not None:
        write_comparison(comparison, options.out, histories)
        say(console, f"comparison: {options.out}")


def write_tables(options: argparse.Namespace, console: SafeConsole) -> None:
    """Print the metrics of one run as LaTeX or CSV, or write them to the file `--out`.

    Raises:
        ConfigError: several runs.
    """
    if len(options.runs) > 1:
        raise ConfigError(f"--format {options.format}: expected one run, found {len(options.runs)}; name one")
    run_report = read_json(RunFolder(options.runs[0]).report_json)
    text = {"latex": as_latex, "csv": as_csv}[options.format](run_report)
    if options.out is None:
        console.print(text, end="", highlight=False, markup=False, soft_wrap=True)
    else:
        write_atomic(options.out, text)
