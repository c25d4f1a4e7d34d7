"""Arguments in, exit code out.

Exit codes: 0 success, 1 a bug (with traceback), 2 an error that the user can fix (one message), 3 drift (of
`wirebert drift`), 130 interrupted, 143 terminated by the system (both resumable).
"""

import argparse
import errno
import os
import re
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import NoReturn, cast

import wirebert
from wirebert.cli.arguments import (
    DATA,
    Commands,
    add_data_options,
    add_executor,
    add_recipe_options,
    add_strict,
    add_test,
)
from wirebert.cli.commands import run_command
from wirebert.cli.inference import (
    add_calibrate,
    add_drift,
    add_evaluate,
    add_export,
    add_hunt,
    add_monitor,
    add_predict,
    add_serve,
)
from wirebert.cli.quick_start import collect_later, leave_out_unused
from wirebert.cli.training import add_compare, add_demo, add_distill, add_learn, add_train
from wirebert.errors import Terminated, UserError
from wirebert.run_folder import model_folder
from wirebert.telemetry.processors import has_nvidia_gpu

_EXAMPLES = """\
examples:
  wirebert demo                                        train on generated traffic, in minutes
  wirebert train flows.csv --test later.csv            train on your own labelled traffic
  wirebert predict runs/flows new.csv --out out.csv    verdicts on traffic without labels
  wirebert hunt conn.log                               unusual hosts of a log, by the model in the box
"""


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments in one line, like every error that the user can fix."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        from wirebert.untrusted_text import escape_control_chars

        chosen = re.fullmatch(r"(argument .+: invalid choice: '(.*)') \(choose from (.*)\)", message)
        if chosen is not None:
            message = chosen[1] + guess(chosen[2], re.findall(r"'([^']*)'", chosen[3]), shows_all=True)
        self.exit(2, escape_control_chars(f"wirebert: {message}; see `{self.prog} --help`\n"))


def guess(given: str, known: Sequence[str], *, shows_all: bool = False) -> str:
    """`, did you mean X?`; without a similar name nothing, or all names.

    >>> guess("trian", ["train", "demo"])
    ", did you mean 'train'?"
    """
    import difflib

    similar = difflib.get_close_matches(given, known, n=1)
    if similar:
        return f", did you mean {similar[0]!r}?"
    return f" (choose from {', '.join(known)})" if shows_all else ""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of every command and option; with the name of a command, of its options alone."""
    parser = Parser(
        prog="wirebert",
        description="Train, evaluate and deploy DistilBERT for network intrusion detection.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wirebert {wirebert.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    known = {
        "demo": add_demo,
        "inspect": _add_inspect,
        "learn": add_learn,
        "train": add_train,
        "distill": add_distill,
        "watch": _add_watch,
        "evaluate": add_evaluate,
        "predict": add_predict,
        "hunt": add_hunt,
        "monitor": add_monitor,
        "calibrate": add_calibrate,
        "drift": add_drift,
        "export": add_export,
        "serve": add_serve,
        "report": _add_report,
        "compare": add_compare,
        "datasets": _add_datasets,
    }
    for add in [known[command]] if command in known else known.values():
        add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = build_parser(words[0] if words else None)
    options, unknown = parser.parse_known_args(words)
    if unknown:
        _refuse(parser, options.command, unknown[0])
    if options.command is None:
        parser.print_help()
        return 0
    if arguments is None:  # the process is this command's alone
        collect_later()
        if options.command != "datasets":
            leave_out_unused()
    if has_nvidia_gpu():
        share_cores(os.environ)
    try:
        return _run(options)
    except UserError as error:
        _warn(str(error))
        return 2
    except KeyboardInterrupt as stop:
        hint = f"; {stop}" if str(stop) else ""
        how, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
        _warn(how + hint)
        return code
    except BrokenPipeError:
        # The reader closed the pipe (`wirebert predict ... | head`), which is not an error. The rest of
        # Python's buffer goes to /dev/null, or flushing it on exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        _warn(f"{error.filename or 'writing'}: {error.strerror}; {_DISK_ERRORS[error.errno]}")
        return 2
    return 0


def _refuse(parser: argparse.ArgumentParser, command: str | None, argument: str) -> NoReturn:
    """Exit with code 2 because of an argument that the command does not have."""
    for action in parser._actions:  # argparse tells its options in no other way
        if isinstance(action.choices, dict) and command in action.choices:
            parser = cast(argparse.ArgumentParser, action.choices[command])
    name = argument.partition("=")[0]
    known = [option for action in parser._actions for option in action.option_strings]
    what = f"unknown option {name!r}" if name.startswith("-") else f"unexpected argument {argument!r}"
    parser.error(what + (guess(name, known) if name.startswith("-") else ""))


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Give each process of torchrun its part of the cores, before any library reads their number.

    torchrun sets one thread per process, which slows down all that is not computed on a GPU. Without GPUs
    more threads would change the weights.
    """
    if "TORCHELASTIC_RUN_ID" in environment and environment.get("OMP_NUM_THREADS") == "1":
        num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        num_processes = int(environment.get("LOCAL_WORLD_SIZE", "1"))
        environment["OMP_NUM_THREADS"] = str(max(1, num_cores // num_processes))


def _run(options: argparse.Namespace) -> int:
    if getattr(options, "model", None) is not None:
        options.model = model_folder(options.model, getattr(options, "data", None), options.command)
    if getattr(options, "cascade", None) is not None:
        options.cascade = model_folder(options.cascade)
    if getattr(options, "init_from", None) is not None:
        options.init_from = model_folder(options.init_from)
    return run_command(options)


def _warn(sentence: str) -> None:
    from wirebert.untrusted_text import warn

    warn(sentence)


_DISK_ERRORS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room within your quota",
    errno.EROFS: "choose a writable folder",
    errno.EACCES: "change its permissions or choose another folder",
}
"""System errors that no check can foresee, with the remedy."""


def _add_inspect(commands: Commands) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="detected format, schema, class distribution, findings",
        description="Show the detected format, columns and classes of a traffic file, and the findings of "
        "the data checks.",
    )
    inspect.add_argument("data", metavar="DATA", help=DATA)
    add_test(inspect, "test data to compare with")
    add_data_options(inspect)
    add_recipe_options(inspect)
    add_executor(inspect)
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.add_argument(
        "--write-schema",
        type=Path,
        metavar="FILE",
        help="write the schema to this new TOML file, to edit and pass to --schema",
    )
    add_strict(inspect)


def _add_watch(commands: Commands) -> None:
    watch = commands.add_parser(
        "watch",
        help="follow a training run, or show a finished one",
        description="Follow a training run in another process, or show how a finished one went.",
    )
    watch.add_argument("run", metavar="RUN", type=Path, help="run folder")


def _add_report(commands: Commands) -> None:
    report = commands.add_parser(
        "report",
        help="metrics of one run, or a comparison of several",
        description="Print the metrics of a finished run, or compare several.",
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder")
    report.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the page of the run or of the comparison, or the tables of --format, to this file",
    )
    report.add_argument(
        "--format",
        choices=("latex", "csv"),
        help="tables of one run, for papers: metrics with intervals, beside the baselines",
    )
    report.add_argument(
        "--redact",
        action="store_true",
        help="leave out addresses, names, times, payloads and paths, so that the page can be shown around "
        "(default file: RUN/report-redacted.html)",
    )


def _add_datasets(commands: Commands) -> None:
    datasets = commands.add_parser(
        "datasets",
        help="list and cite public data sets, verify downloaded files",
        description="List or cite the public data sets that wirebert knows, or verify checksums.",
    )
    actions = datasets.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="citation, licence, schema and split of each data set (default)")
    cite = actions.add_parser("cite", help="print BibTeX entries")
    cite.add_argument("names", metavar="NAME", nargs="*", help="data sets (default: all)")
    verify = actions.add_parser("verify", help="identify the files of a folder by checksum")
    verify.add_argument("folder", metavar="DIR", type=Path)
