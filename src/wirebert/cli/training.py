"""What the commands that train take on the command line. Imports nothing heavy: `--help` answers at once."""

import argparse
from pathlib import Path

from wirebert.cli.arguments import (
    DATA,
    Commands,
    add_column_options,
    add_recipe_options,
    add_run_options,
    add_test,
)


def add_demo(commands: Commands) -> None:
    """Add the command `demo`."""
    demo = commands.add_parser(
        "demo",
        help="generated traffic -> trained mini model -> report, in minutes on a laptop",
        description="Generate labelled traffic, train the mini model on it, and write a report.",
    )
    demo.add_argument(
        "--stealthy",
        action="store_true",
        help="a Zeek log whose attacks no single flow gives away, so that the columns of context are needed",
    )
    demo.add_argument("--rows", type=int, default=40_000, help="flows to train on (default: %(default)s)")
    demo.add_argument(
        "--seed", type=int, default=1, help="seed of the traffic and the training (default: %(default)s)"
    )
    demo.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/demo)")


def add_train(commands: Commands) -> None:
    """Add the command `train`."""
    train = commands.add_parser(
        "train",
        help="train a detector and report on it",
        description="Train a detector on labelled traffic; test files are opened only after the model is saved.",
    )
    add_run_options(train)
    train.add_argument(
        "--init-from",
        type=Path,
        metavar="MODEL",
        dest="init_from",
        help="start from a model of `wirebert pretrain` (RUN/model), with its tokenizer and schema",
    )
    _add_run_folder(train)


def add_pretrain(commands: Commands) -> None:
    """Add the command `pretrain`."""
    pretrain = commands.add_parser(
        "pretrain",
        help="learn from unlabelled traffic, to train detectors from",
        description="Pretrain a model on traffic without looking at labels: features are masked, and the model learns to fill "
        "them in. `wirebert train DATA --init-from RUN/model` makes a detector of it. Files that you will test on are better "
        "left out; each reading is counted in the ledger beside the run.",
    )
    pretrain.add_argument("data", metavar="DATA", nargs="*", help=f"{DATA}; the first decides the schema")
    add_column_options(pretrain)
    add_recipe_options(pretrain)
    _add_run_folder(pretrain)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    """Where a training goes, or goes on, and its seed."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/NAME)")
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="continue an interrupted run in its own folder"
    )
    parser.add_argument(
        "--seed", type=int, help="decides the split, the initial weights and the order of flows (default: 1)"
    )


def add_distill(commands: Commands) -> None:
    """Add the command `distill`."""
    distill = commands.add_parser(
        "distill",
        help="a smaller, faster model that learns from a trained one",
        description="Train a smaller model (the student) on labels and on the probabilities that a trained one (the teacher) "
        "gives each flow, also to flows made up of the columns of several (--set distillation.augmentation_factor=0: without), and compare the "
        "two on the same rows. The student has its teacher's columns, tokens, classes and "
        "split, and does what is not set here as its teacher did.",
    )
    distill.add_argument(
        "model", metavar="MODEL", nargs="?", type=Path, help="model folder of the teacher (RUN/model)"
    )
    distill.add_argument("data", metavar="DATA", nargs="?", help=DATA)
    add_test(distill, "test data")
    distill.add_argument(
        "--unlabelled",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="traffic without labels, which the teacher alone says something about",
    )
    distill.add_argument("--size", help="base, mini, or a DistilBERT config.json (default: mini)")
    add_recipe_options(distill)
    _add_run_folder(distill)


def add_compare(commands: Commands) -> None:
    """Add the command `compare`."""
    compare = commands.add_parser(
        "compare",
        help="a recipe against other methods on the same rows, by one protocol",
        description="Train the recipe and other methods (boosted trees, random forest, linear models, TabM) on the same rows "
        "with several seeds, give every method the same steps, and test the differences. Choices are made on folds of "
        "the training data; test data is opened when they are written down. The same command goes on where it stopped.",
    )
    add_run_options(compare)
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
