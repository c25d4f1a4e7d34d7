"""What each command of the command line does, in the order of `wirebert --help`."""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from wirebert.config import RunConfig, resolve_run, write_run
from wirebert.data.labels import ClassMap, distribution, imbalance_ratio
from wirebert.data.loading import DataConfig, Flows, open_flows
from wirebert.data.survey import survey
from wirebert.data.synthetic import write_csv
from wirebert.data.validation import Finding, validate
from wirebert.errors import ConfigError, RunError
from wirebert.evaluation.report import print_report
from wirebert.judging import Part, judge
from wirebert.pipeline import fit
from wirebert.run_folder import RunFolder, create_run_folder, locked, next_run_path, open_run_folder
from wirebert.serving.detector import Detector
from wirebert.serving.predictions import CsvWriter, open_writer, predict_blocks
