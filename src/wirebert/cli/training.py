"""Arguments of the training commands. No heavy imports, so that `--help` is fast."""

import argparse
from pathlib import Path

from wirebert.cli.arguments import (
    DATA,
    Commands,
    add_column_options,
    add_fit_options,
    add_recipe_options,
    add_run_options,
    add_setting_options,
    add_strict,
    add_test,
)


def add_demo(commands: Commands) -> None:
    """Add the command `demo`."""
    demo = commands.add_parser(
        "demo",
        help="train a mini model on generated traffic and show its report, in minutes on a laptop",
        description="Generate labelled traffic, train the mini model on it, and write a report.",
    )
    demo.add_argument(
        "--stealthy",
        action="store_true",
        help="generate a Zeek log with attacks that no single flow reveals, so that context features are "
        "needed",
    )
    demo.add_argument("--rows", type=int, default=40_000, help="training flows (default: %(default)s)")
    demo.add_argument(
        "--seed", type=int, default=1, help="random seed of traffic and training (default: %(default)s)"
    )
    demo.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/demo)")


def add_train(commands: Commands) -> None:
    """Add the command `train`."""
    train = commands.add_parser(
        "train",
        help="train a detector and report on it",
        description="Train a detector on labelled traffic. Test files are opened only after the model is "
        "saved.",
    )
    add_run_options(train)
    add_strict(train)
    train.add_argument(
        "--from",
        type=Path,
        metavar="MODEL",
        dest="init_from",
        help="start from a model of wirebert, such as one of `wirebert learn`, with its tokenizer and schema",
    )
    _add_run_folder(train)
    _add_cluster(train)


def add_learn(commands: Commands) -> None:
    """Add the command `learn`."""
    learn = commands.add_parser(
        "learn",
        help="learn a detector of unusual flows from unlabelled traffic",
        description="Learn what is normal in traffic without labels, and write a detector of unusual flows: "
        "its thresholds are set on the latest flows. `wirebert train DATA --from RUN/model` trains a "
        "detector of named attacks from it. Leave out files that you will test on; each use of a file is "
        "recorded in the test ledger of the folder.",
    )
    learn.add_argument("data", metavar="DATA", nargs="*", help=f"{DATA}; the first one determines the schema")
    add_column_options(learn)
    add_recipe_options(learn)
    add_setting_options(learn)
    _add_run_folder(learn)


def _add_run_folder(parser: argparse.ArgumentParser) -> None:
    """Add the run folder and the seed."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="new run folder (default: runs/NAME)")
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="continue the interrupted run in this folder"
    )
    parser.add_argument(
        "--seed", type=int, help="random seed for split, initialisation and shuffling (default: 1)"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        metavar="N",
        default=1,
        help="GPUs of this machine to train on; on several machines start the command with torchrun "
        "(default: %(default)s)",
    )


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add the cluster that a training runs on."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS|local",
        help="train on a Ray cluster, or on one that is started on this machine; every node reaches the data "
        "and the run folder under the same path",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read and encode by shards; on a cluster also the ranks of the training "
        "(default: as many as it has room for)",
    )


def add_distill(commands: Commands) -> None:
    """Add the command `distill`."""
    distill = commands.add_parser(
        "distill",
        help="train a smaller, faster model from a trained one",
        description="Train a smaller model (the student) on the labels and on the class probabilities of a "
        "trained model (the teacher), and compare both on the same rows. Training flows are augmented by "
        "column mixing; turn that off by --set distillation.augmentation_factor=0. The student takes the "
        "columns, tokens, classes and split of its teacher, and every setting that is not given here.",
    )
    distill.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        type=Path,
        help="model or run folder of the teacher, for example runs/demo",
    )
    distill.add_argument("data", metavar="DATA", nargs="?", help=DATA)
    add_test(distill, "test data")
    distill.add_argument(
        "--unlabelled",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="unlabelled traffic, trained on the teacher's predictions only",
    )
    distill.add_argument("--size", help="model size: base, mini, or a DistilBERT config.json (default: mini)")
    add_recipe_options(distill)
    add_setting_options(distill, with_size=False)
    add_fit_options(distill)
    _add_run_folder(distill)
    _add_cluster(distill)


def add_compare(commands: Commands) -> None:
    """Add the command `compare`."""
    compare = commands.add_parser(
        "compare",
        help="benchmark a recipe against tuned baselines on the same rows",
        description="Train the recipe and the baselines (boosted trees, random forest, linear models, TabM) "
        "on the same rows with several seeds, tune and calibrate every method by the same protocol, and "
        "test the differences. All choices are made on folds of the training data; test data is opened "
        "after they are recorded. The same command resumes an interrupted comparison.",
    )
    add_run_options(compare)
    compare.add_argument(
        "--run",
        type=Path,
        metavar="RUN",
        action="append",
        default=[],
        help="a finished run of the recipe, instead of training it here; repeatable",
    )
    compare.add_argument("--out", type=Path, metavar="DIR", help="folder (default: runs/compare-RECIPE)")
    compare.add_argument(
        "--jobs", type=int, metavar="N", help="parallel processes (default: by processors and free memory)"
    )
    compare.add_argument(
        "--cluster",
        metavar="ADDRESS|local",
        help="run the jobs on a Ray cluster, whose nodes reach the data and the folder under the same path",
    )
    compare.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="time for tuning, after which every method has the same, smaller number of trials",
    )
    compare.add_argument("--seed", type=int, help="first random seed (default: 1)")
