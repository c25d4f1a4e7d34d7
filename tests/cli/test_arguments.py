import argparse
import subprocess
import sys
from dataclasses import fields

from wirebert.cli.arguments import DATA_OPTIONS, add_data_options, given_options
from wirebert.cli.main import build_parser
from wirebert.data.config import DataConfig


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
