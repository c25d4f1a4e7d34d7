"""What `choices.py` makes of what methods say of rows whose attacks they have not seen: figures, and tables of them."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from wirebert.evaluation.alarm import AlarmScore
from wirebert.evaluation.calibration import METHODS, choose_scaling, softmax
from wirebert.evaluation.curves import OperatingCurve
from wirebert.evaluation.metrics import attack_scores, cross_entropy
from wirebert.training.validation import macro_f1

FEWEST_ROWS = 50
"""Rows of a name that counts in the means over names."""
FIGURES = {
    "log_loss": "log-loss",
    "macro_f1": "macro-F1",
    "detection_1": "found at 1 %",
    "detection_01": "at 0.1 %",
    "auroc": "AUROC",
    "name_detection_1": "names at 1 %",
    "name_auroc": "names AUROC",
    "valid_log_loss": "known log-loss",
}
"""The first five are of all rows held out; those of names are means over attack names with at least 50 rows, against the
benign rows held out; the last is of validation rows, whose attack names training has seen."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a method said of a fold's rows."""

    valid: np.ndarray
    """Logits of validation rows; of novelty, scores."""
    held_out: np.ndarray
    valid_ids: np.ndarray
    held_out_ids: np.ndarray
    name_ids: np.ndarray
    """Of the rows held out."""
    benign_id: int


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Probabilities of classes, and scores of being an attack."""

    valid: np.ndarray
    held_out: np.ndarray
    valid_scores: np.ndarray
    held_out_scores: np.ndarray


def calibrated(said: Said, is_tilted: bool) -> Verdicts:
    """Probabilities as the product gives them: scaled on validation rows (`wirebert.deciding`)."""
    methods = METHODS[:2] if is_tilted else METHODS
    scaling = choose_scaling(said.valid, said.valid_ids, methods=methods, seed=0)
    return scored(softmax(scaling.apply(said.valid)), softmax(scaling.apply(said.held_out)), said.benign_id)


def scored(valid: np.ndarray, held_out: np.ndarray, benign_id: int) -> Verdicts:
    """Probabilities with the attack score that they make."""
    return Verdicts(valid, held_out, *(attack_scores(each, benign_id) for each in (valid, held_out)))


def judge(said: Said, verdicts: Verdicts) -> dict[str, float]:
    """All figures of one task."""
    true_ids = said.held_out_ids
    is_attack = true_ids != said.benign_id
    curve = OperatingCurve.of(verdicts.held_out_scores, is_attack)
    names, counts = np.unique(said.name_ids[is_attack], return_counts=True)
    by_name = [
        OperatingCurve.of(verdicts.held_out_scores[chosen], is_attack[chosen])
        for name in names[counts >= FEWEST_ROWS]
        for chosen in [~is_attack | (said.name_ids == name)]
    ]
    return {
        "log_loss": cross_entropy(true_ids, verdicts.held_out) or 0.0,
        "macro_f1": macro_f1(true_ids, verdicts.held_out.argmax(axis=1)),
        "detection_1": curve.detection_at(0.01) or 0.0,
        "detection_01": curve.detection_at(0.001) or 0.0,
        "auroc": curve.auroc or 0.0,
        "name_detection_1": float(np.mean([each.detection_at(0.01) or 0.0 for each in by_name])),
        "name_auroc": float(np.mean([each.auroc or 0.0 for each in by_name])),
        "valid_log_loss": cross_entropy(said.valid_ids, verdicts.valid) or 0.0,
    }


def joined(verdicts: Verdicts, novelty: Said) -> Verdicts:
    """The attack score and the novelty joined, as `operating.alert_on=attack_and_novelty` does it."""
    is_benign = novelty.valid_ids == novelty.benign_id
    alarm = AlarmScore.fit(verdicts.valid_scores[is_benign], novelty.valid[is_benign])
    return replace(
        verdicts,
        valid_scores=alarm.scores(verdicts.valid_scores, novelty.valid),
        held_out_scores=alarm.scores(verdicts.held_out_scores, novelty.held_out),
    )


def table(figures: Mapping[str, Mapping[tuple[int, int], Mapping[str, float]]], figure: str) -> list[str]:
    """Lines of one figure: mean, spread, and the paired difference to the default with its 95 % interval."""
    default = figures.get("default", {})
    lines: list[tuple[float, str]] = []
    for name, found in figures.items():
        values = np.array([found[place][figure] for place in found])
        shared = [place for place in found if place in default]
        gaps = np.array([found[place][figure] - default[place][figure] for place in shared])
        text = f"{name:34}{values.mean():9.4f} ± {values.std(ddof=1) if len(values) > 1 else 0:.4f}{len(values):4}"
        gap = float(gaps.mean()) if len(gaps) else 0.0
        if name != "default" and len(gaps) > 1:
            half = float(student.ppf(0.975, len(gaps) - 1)) * gaps.std(ddof=1) / len(gaps) ** 0.5
            mark = "  *" if abs(gap) > half else ""
            text += f"{gap:+10.4f}  [{gap - half:+.4f}, {gap + half:+.4f}]{mark}"
        lines.append((gap if "loss" in figure else -gap, text))
    head = f"\n{FIGURES[figure]:34}{'mean ± spread':>18}{'n':>4}{'difference':>10}  95 % interval (t, paired)"
    return [head, *(text for _, text in sorted(lines))]


def write_pickle(path: Path, content: object) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".aside")
    with aside.open("wb") as file:
        pickle.dump(content, file)
    aside.rename(path)


def read_pickle(path: Path) -> Any:
    """What this benchmark wrote itself."""
    with path.open("rb") as file:
        return pickle.load(file)
