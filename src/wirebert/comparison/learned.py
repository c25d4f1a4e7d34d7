"""`wirebert learn` on chosen rows of a labelled file, for protocols that judge it by the labels."""

import io
from dataclasses import replace
from typing import Final

import numpy as np
from rich.console import Console

from wirebert.config import LearnConfig
from wirebert.data.splits import RowSplit
from wirebert.inference.detector import Detector
from wirebert.run_folder import RunFolder
from wirebert.shapes import Bool
from wirebert.workflows.learn import learn_detector
from wirebert.workflows.prepare import split_data
from wirebert.workflows.report import RunLog
from wirebert.workflows.typed_rows import ParsedFlows
from wirebert.workflows.unlabelled_rows import NO_CLASSES, without_labels

LATER: Final = 0.2
"""Fraction of the rows, drawn at random, on which `learn` sets its own thresholds."""


def fit_learned(
    run: LearnConfig, parsed: ParsedFlows, is_train: Bool[np.ndarray, " rows"], folder: RunFolder
) -> tuple[Detector, float]:
    """The detector that learns from these rows without their labels, in `folder`.

    Also the rank correlation of its score with the full leave-one-out surprisal.
    """
    rows = np.random.default_rng(run.seed).permutation(np.flatnonzero(is_train))
    is_later = np.zeros(len(is_train), bool)
    is_later[rows[: round(LATER * len(rows))]] = True
    nothing = np.zeros(len(is_train), bool)
    split = RowSplit(
        is_train=is_train & ~is_later,
        is_valid=is_later,
        is_test=nothing,
        is_held_out=nothing,
        statement="",
        findings=(),
    )
    data = split_data(run, replace(parsed, flows=without_labels(parsed.flows)), NO_CLASSES, split)
    learned = learn_detector(run, folder, data, RunLog(Console(file=io.StringIO())))
    device = run.training.device
    return Detector(learned.artifact, device=device, backend="torch", precision="fp32"), learned.correlation
