"""Arguments in, exit code out.

Exit codes: 0 done, 1 our bug (with its traceback), 2 the user can fix it (one message), 130 interrupted, 143 terminated by the
system (both resumable).
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import wirebert
from wirebert.cli.arguments import DATA, Commands, add_data_options, add_recipe_options, add_test
from wirebert.cli.inference import add_calibrate, add_evaluate, add_export, add_predict, add_serve
from wirebert.cli.training import add_compare, add_demo, add_distill, add_pretrain, add_train
from wirebert.errors import Terminated, UserError


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, like everything else that the user can fix."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"wirebert: {message}; see `{self.prog} --help`\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command and option."""
    parser = Parser(
        prog="wirebert",
        description="Train DistilBERT to detect intrusions in network traffic, and see honestly how well it does.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wirebert {wirebert.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for add in (
        *(add_demo, _add_inspect, add_pretrain, add_train, add_distill, _add_watch, add_evaluate),
        *(add_predict, add_calibrate, add_export, add_serve, _add_report, add_compare, _add_datasets),
    ):
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        _run(options)
    except UserError as error:
        _tell(str(error))
        return 2
    except KeyboardInterrupt as stop:
        way_on = f"; {stop}" if str(stop) else ""
        how, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        _tell(how + way_on)
        return code
    except BrokenPipeError:
        # The reader of our output has gone (`wirebert predict ... | head`): that is its right. What is still in
        # Python's buffer goes nowhere, or flushing it on exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        _tell(f"{error.filename or 'writing'}: {error.strerror}; {_DISK_TROUBLE[error.errno]}")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    """Run the command. Imports are here so that `--help` and a mistyped option answer at once, without PyTorch."""
    if options.command in ("predict", "serve"):
        from wirebert.cli.scoring_commands import SCORING_COMMANDS

        SCORING_COMMANDS[options.command](options)
    else:
        from wirebert.cli.commands import COMMANDS

        COMMANDS[options.command](options)


def _tell(sentence: str) -> None:
    from wirebert.console import warn  # loads rich, which `--help` has no use for

    warn(sentence)


_DISK_TROUBLE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within your quota",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "change its permissions, or choose another place",
}
"""What no check can foresee, with the way out."""


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="detected format, schema, class distribution, findings",
        description="Show what wirebert makes of a traffic file: format, columns, classes, and what is wrong with it.",
    )
    inspect.add_argument("data", metavar="DATA", help=DATA)
    add_test(inspect, "test data to compare with")
    add_data_options(inspect)
    add_recipe_options(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON, for programs")
    inspect.add_argument(
        "--write-schema",
        type=Path,
        metavar="FILE",
        help="write the schema to this new TOML file, to be edited and given to --schema",
    )
    inspect.add_argument(
        "--strict", action="store_true", help="fail on findings of severity error that are not accepted"
    )


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="follow a training as it goes, or see how it went",
        description="Show how a training goes that another process makes; of one that is over, how it went.",
    )
    watch.add_argument("run", metavar="RUN", type=Path, help="run folder")


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="figures of one run, or of several side by side",
        description="Print the figures of a finished run, or compare several.",
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder")
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="draw the page anew, or the comparison of several runs as one",
    )


def _add_datasets(commands: Commands) -> None:
    datasets = commands.add_parser(
        "datasets",
        help="public data sets: what to cite, how to split, files checked by content",
        description="List the public data sets that wirebert knows, or check files by their content.",
    )
    actions = datasets.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="citation, licence, schema and split of each (the default)")
    verify = actions.add_parser("verify", help="recognise the files of a folder by their content")
    verify.add_argument("folder", metavar="DIR", type=Path)
