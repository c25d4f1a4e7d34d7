import argparse
import subprocess
import sys
from dataclasses import fields

import pytest

from wirebert.cli.arguments import DATA_OPTIONS, add_data_options, executor_of, given_options
from wirebert.cli.main import build_parser
from wirebert.cluster.executors import InProcess, Pool
from wirebert.config import resolve_run
from wirebert.data.config import DataConfig
from wirebert.errors import ConfigError


def test_data_options_are_settings_of_the_section_data():
    parser = argparse.ArgumentParser()
    add_data_options(parser)
    assert set(vars(parser.parse_args([]))) == set(DATA_OPTIONS)
    assert set(DATA_OPTIONS) <= {field.name for field in fields(DataConfig)}


def test_what_is_not_given_is_left_to_the_recipe():
    options = build_parser().parse_args(["inspect", "flows.csv", "--drop", "port"])
    assert given_options(options, *DATA_OPTIONS) == {"drop": ["port"]}


def test_help_answers_without_loading_anything_heavy():
    program = """
import sys
from wirebert.cli.main import main
try:
    main(["train", "--help"])
finally:
    heavy = {"torch", "numpy", "pyarrow", "rich"} & set(sys.modules)
    assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["train", "learn", "distill", "compare"])
def test_short_options_set_settings_and_the_last_one_counts(command: str):
    given = ["--set", "training.epochs=9", "--epochs", "2", "--lr", "1e-4", "--batch-size", "64"]
    options = build_parser().parse_args([command, "x", *given])
    assert options.overrides == [
        *("training.epochs=9", "training.epochs=2"),
        *("training.learning_rate=1e-4", "training.batch_size=64"),
    ]
    assert build_parser().parse_args([command, "x"]).overrides == []


def test_a_short_option_is_a_setting_of_the_run():
    options = build_parser().parse_args(["train", "x.csv", "--size", "mini", "--epochs", "2"])
    run = resolve_run(None, options.overrides, {"train": "x.csv"})
    assert (run.model.size, run.training.epochs) == ("mini", 2)


def test_the_executor_follows_the_options():
    assert isinstance(executor_of(argparse.Namespace()), InProcess)
    assert executor_of(argparse.Namespace(workers=3, cluster=None)) == Pool(3)
    with pytest.raises(ConfigError, match="at least 1"):
        executor_of(argparse.Namespace(workers=0))
