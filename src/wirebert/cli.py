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
from wirebert.errors import Terminated, UserError
from wirebert.serve_options import Commands, add_serve


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
        *(_add_demo, _add_inspect, _add_train, _add_watch, _add_evaluate, _add_predict, _add_calibrate),
        *(_add_export, add_serve, _add_report, _add_compare, _add_datasets),
    ):
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
        from wirebert.printing import harmless

        print(harmless(f"wirebert: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        way_on = f"; {stop}" if str(stop) else ""
        how, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        print(f"wirebert: {how}{way_on}", file=sys.stderr)
        return code
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


def _add_demo(commands: Commands) -> None:
    demo = commands.add_parser(
        "demo",
        help="generated traffic -> trained mini model -> report, in minutes on a laptop",
        description="Generate labelled traffic, train the mini model on it, and write a report.",
    )
    demo.add_argument(
        "--quiet",
        action="store_true",
        help="a Zeek log whose attacks no single flow gives away, and what the columns of context find of them",
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
        "--write-schema",
        type=Path,
        metavar="FILE",
        help="write the schema to this new TOML file, to be edited and given to --schema",
    )
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


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="follow a training as it goes, or see how it went",
        description="Show how a training goes that another process makes; of one that is over, how it went.",
    )
    watch.add_argument("run", metavar="RUN", type=Path, help="run folder")


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
    predict.add_argument(
        "--at",
        type=float,
        metavar="RATE",
        help="alert at the threshold for this false positive rate: 0.01, 0.001 or 0.0001 (default: where the model was set)",
    )
    predict.add_argument(
        "--unknown",
        action="store_true",
        help="also tell flows that are like nothing in training: verdict `unknown`, and a column `novelty`",
    )
    predict.add_argument(
        "--follow",
        action="store_true",
        help="go on with the flows that are appended to a log, until Ctrl-C; verdicts are JSON lines, and with --out FILE.jsonl "
        "the next call continues where this one stopped",
    )
    predict.add_argument(
        "--explain",
        nargs="?",
        choices=("alerts", "all"),
        const="alerts",
        help="add a column `why`: the features that carried the verdict (default: of flows that are not benign)",
    )
    predict.add_argument(
        "--backend",
        choices=("auto", "torch", "onnx", "onnx-int8"),
        default="auto",
        help="who computes; auto takes the fastest export of the model that agrees with it (default: %(default)s)",
    )
    predict.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all)")
    _add_device_option(predict)


def _add_calibrate(commands: Commands) -> None:
    calibrate = commands.add_parser(
        "calibrate",
        help="set the alert threshold from your own unlabelled traffic",
        description="Set the score that raises an alert so that no more alerts come on your own unlabelled traffic than "
        "you can look at, and write a new model folder; the old one stays as it is.",
    )
    calibrate.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")
    calibrate.add_argument("data", metavar="LOGS", help=_DATA)
    allowed = calibrate.add_mutually_exclusive_group(required=True)
    allowed.add_argument(
        "--alerts-per-day", type=float, metavar="N", help="alerts that you can look at in a day"
    )
    allowed.add_argument(
        "--alerts-per-10000",
        type=float,
        metavar="N",
        help="the same for logs without times: per 10,000 flows",
    )
    calibrate.add_argument(
        "--days", type=float, metavar="D", help="time that the logs span (default: by their column of times)"
    )
    calibrate.add_argument(
        "--prior",
        metavar="CLASS=SHARE",
        action="append",
        default=[],
        help="share of a class in your traffic, which changes all probabilities; may be given more than once. `estimate` "
        "takes the shares that make the traffic likeliest, which is right only where attacks look as in training",
    )
    calibrate.add_argument(
        "--out", type=Path, metavar="DIR", help="new model folder (default: MODEL-calibrated)"
    )
    _add_device_option(calibrate)


def _add_export(commands: Commands) -> None:
    export = commands.add_parser(
        "export",
        help="an ONNX file of the model, for fast scoring without a GPU",
        description="Write the model as an ONNX file into its folder, checked against PyTorch first; `predict` then uses it.",
    )
    export.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")
    export.add_argument("--format", choices=("onnx",), default="onnx", help="(default: %(default)s)")
    export.add_argument(
        "--int8", action="store_true", help="8-bit matrix products: smaller and faster, almost equal"
    )
    export.add_argument(
        "--data",
        metavar="DATA",
        help="traffic to make the 8-bit ranges from and to check on (default: generated rows)",
    )


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


def _add_compare(commands: Commands) -> None:
    compare = commands.add_parser(
        "compare",
        help="a recipe against other methods on the same rows, by one protocol",
        description="Train the recipe and other methods (boosted trees, random forest, linear models, TabM) on the same rows "
        "with several seeds, give every method the same steps, and test the differences. Choices are made on folds of "
        "the training data; test data is opened when they are written down. The same command goes on where it stopped.",
    )
    compare.add_argument("data", metavar="DATA", nargs="?", help=_DATA)
    compare.add_argument(
        "--test", metavar="DATA", action="append", default=[], help="test data; may be given more than once"
    )
    _add_data_options(compare)
    _add_recipe_options(compare)
    compare.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        action="append",
        default=[],
        help="a finished run of the recipe, instead of training it here; may be given more than once",
    )
    compare.add_argument("--out", type=Path, metavar="DIR", help="folder (default: runs/compare-RECIPE)")
    compare.add_argument("--jobs", type=int, default=1, help="processes at once (default: %(default)s)")
    compare.add_argument("--seed", type=int, help="the first seed (default: 1)")


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
        "--drop",
        metavar="COL|KIND",
        action="append",
        help="column, or all columns of a kind such as port or address, that the model is not to see; may be given more "
        "than once",
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
