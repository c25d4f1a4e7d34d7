"""Arguments that several commands take. Imports nothing heavy: `--help` answers at once."""

import argparse
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from wirebert.inference.engines import ENGINES

DATA: Final = (
    "a traffic file (Zeek, Suricata, nfdump or Argus log, delimited text, JSON lines, Parquet, Arrow; compressed or not), "
    "a folder, a glob, or - for standard input"
)

DATA_OPTIONS: Final = ("label", "benign", "positive", "drop", "schema")
"""Options that are settings of the section `data`."""


@runtime_checkable
class Commands(Protocol):
    """What commands are added to."""

    def add_parser(self, name: str, *, help: str, description: str) -> argparse.ArgumentParser:
        """A parser for the arguments of one more command."""
        ...


def given_options(options: argparse.Namespace, *names: str) -> dict[str, object]:
    """Those of the named options that were given."""
    values = {name: vars(options).get(name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def add_model(parser: argparse.ArgumentParser) -> None:
    """The folder of a trained model."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder (RUN/model)")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Training data, test data, and all that describes a run."""
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA)
    add_test(parser, "test data")
    add_data_options(parser)
    add_recipe_options(parser)


def add_test(parser: argparse.ArgumentParser, what: str) -> None:
    """Test files."""
    parser.add_argument(
        "--test", metavar="DATA", action="append", default=[], help=f"{what}; may be given more than once"
    )


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """What the columns of the data mean (`DATA_OPTIONS`)."""
    add_column_options(parser)
    parser.add_argument(
        "--benign", metavar="CLASS", help="the class that means no attack (default: found by name)"
    )
    parser.add_argument(
        "--positive", metavar="CLASS", help="tell only this label or class from all the others"
    )


def add_column_options(parser: argparse.ArgumentParser) -> None:
    """Which columns there are, and what the model is to see of them."""
    parser.add_argument("--label", metavar="COL", help="label column (default: found by name and content)")
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


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """A recipe, and settings over it."""
    parser.add_argument("--recipe", type=Path, metavar="FILE", help="TOML file of settings")
    parser.add_argument(
        "--set",
        metavar="SECTION.NAME=VALUE",
        dest="overrides",
        action="append",
        default=[],
        help="one setting over the recipe, for example model.size=mini; may be given more than once",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where to compute."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute (default: %(default)s)",
    )


def add_verdict_options(parser: argparse.ArgumentParser) -> None:
    """By what flows are judged, and who computes."""
    parser.add_argument(
        "--fpr",
        type=float,
        metavar="RATE",
        help="alert at the threshold for this false positive rate: 0.01, 0.001 or 0.0001 (default: where the model was set)",
    )
    parser.add_argument(
        "--novelty",
        action="store_true",
        help="also tell flows that are like nothing in training: verdict `unknown`, and a column `novelty`",
    )
    parser.add_argument(
        "--backend",
        choices=("auto", *ENGINES),
        default="auto",
        help="inference engine; auto picks the fastest export whose scores match PyTorch on this machine "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of PyTorch's matrix products; auto takes fp16 on a GPU if it agrees with fp32 on the model, else fp32 "
        "(default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="processors to use (default: all)")
    add_device(parser)
