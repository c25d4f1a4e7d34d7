"""Arguments in, exit code out.

Exit codes: 0 done, 1 our bug (with its traceback), 2 the user can fix it (one message), 130 interrupted (resumable).
"""

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

import wirebert
from wirebert.errors import UserError


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
    for add in (_add_demo, _add_inspect, _add_train, _add_evaluate, _add_predict, _add_report, _add_datasets):
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    try:
        # Imported here so that `--help` and a mistyped option answer at once, without loading torch.
        from wirebert.commands import COMMANDS

        COMMANDS[options.command](options)
    except UserError as error:
        print(f"wirebert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        way_on = f"; {stop}" if str(stop) else ""
        print(f"wirebert: interrupted{way_on}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`wirebert predict ... | head`): that is its right. What is still in
        # Python's buffer goes nowhere, or flushing it on exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        print(
            f"wirebert: {error.filename or 'writing'}: {error.strerror}; {_DISK_TROUBLE[error.errno]}",
            file=sys.stderr,
        )
        return 2
    return 0


_DISK_TROUBLE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within your quota",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "change its permissions, or choose another place",
}
"""What no check can foresee, with the way out."""

_DATA = (
    "a traffic file (Zeek, Suricata, nfdump or Argus log, delimited text, JSON lines, Parquet, Arrow; compressed or not), "
    "a folder, a glob, or - for standard input"
)


@runtime_checkable
class Commands(Protocol):
    """What commands are added to."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """A parser for the arguments of one more command."""
        ...


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="generated traffic -> trained mini model -> report, in minutes on a laptop",
        description="Generate labelled traffic, train the mini model on it, and write a report.",
    )
    demo.add_argument("--rows", type=int, default=40_000, help="flows to train on (default: %(default)s)")
    demo.add_argument(
        "--seed", type=int, default=1, help="seed of the traffic and the training (default: %(default)s)"
    )
    demo.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/demo)")


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="detected format, schema, class distribution, findings",
        description="Show what wirebert makes of a traffic file: format, columns, classes, and what is wrong with it.",
    )
    inspect.add_argument("data", metavar="DATA", help=_DATA)
    inspect.add_argument(
        "--test",
        metavar="DATA",
        action="append",
        default=[],
        help="test data to compare with; may be given more than once",
    )
    _add_data_options(inspect)
    _add_recipe_options(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON, for programs")
    inspect.add_argument(
        "--strict", action="store_true", help="fail on findings of severity error that are not accepted"
    )


def _add_train(commands: Commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a detector and report on it",
        description="Train a detector on labelled traffic; test files are opened only after the model is saved.",
    )
    train.add_argument("data", metavar="DATA", nargs="?", help=_DATA)
    train.add_argument(
        "--test", metavar="DATA", action="append", default=[], help="test data; may be given more than once"
    )
    _add_data_options(train)
    _add_recipe_options(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/NAME)")
    train.add_argument(
        "--resume", type=Path, metavar="DIR", help="continue an interrupted run in its own folder"
    )
    train.add_argument(
        "--seed", type=int, help="decides the split, the initial weights and the order of flows (default: 1)"
    )


def _add_evaluate(commands: Commands) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="report on another labelled file",
        description="Score a labelled file with a saved model and print its figures.",
    )
    evaluate.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")
    evaluate.add_argument("data", metavar="DATA", help=_DATA)
    evaluate.add_argument("--label", metavar="COL", help="label column")
    evaluate.add_argument(
        "--out", type=Path, metavar="DIR", help="new folder for report.json, report.html and predictions/"
    )
    _add_device_option(evaluate)


def _add_predict(commands: Commands) -> None:
    predict = commands.add_parser(
        "predict",
        help="class, probabilities and attack score of every flow",
        description="Score a file; one line of output per flow, in input order, at any file size.",
    )
    predict.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")
    predict.add_argument("data", metavar="DATA", help=_DATA)
    predict.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="new .csv, .jsonl or .parquet file (default: CSV on standard output)",
    )
    _add_device_option(predict)


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="figures of one run, or of several side by side",
        description="Print the figures of a finished run, or compare several.",
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder")


def _add_datasets(commands: Commands) -> None:
    datasets = commands.add_parser(
        "datasets",
        help="public data sets: what to cite, how to split, files checked by content",
        description="List the public data sets that wirebert knows, check files by their content, or download some.",
    )
    actions = datasets.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="citation, licence, schema and split of each (the default)")
    verify = actions.add_parser("verify", help="recognise the files of a folder by their content")
    verify.add_argument("folder", metavar="DIR", type=Path)
    download = actions.add_parser(
        "download", help="fetch the files of a set, kept only if their content is right"
    )
    download.add_argument("name", metavar="NAME", help="a name of `wirebert datasets list`")
    download.add_argument(
        "--from", metavar="URL", dest="base_url", required=True, help="the address under which the files lie"
    )
    download.add_argument(
        "--to", metavar="DIR", dest="folder", type=Path, help="where to put them (default: data/NAME)"
    )


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", metavar="COL", help="label column (default: found by name and content)")
    parser.add_argument(
        "--benign", metavar="CLASS", help="the class that means no attack (default: found by name)"
    )
    parser.add_argument(
        "--positive", metavar="CLASS", help="tell only this label or class from all the others"
    )
    parser.add_argument(
        "--schema",
        metavar="NAME|FILE",
        help="a known schema, or a TOML file (default: recognised or inferred)",
    )


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="TOML file of settings")
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="one setting over the recipe, for example model.size=mini; may be given more than once",
    )


def _add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute (default: %(default)s)",
    )


if __name__ == "__main__":
    sys.exit(main())
