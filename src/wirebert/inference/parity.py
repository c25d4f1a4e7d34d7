"""Parity: how much the scores of an engine differ from PyTorch, and how much they may.

Close probabilities need not give the same verdicts. Users see the class and the alert, so these are compared
too.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import SPECIAL_TOKENS
from wirebert.inference.artifact import Artifact
from wirebert.inference.engines import Bounds
from wirebert.metrics.thresholds import attack_scores
from wirebert.shapes import Bool, Float, Float64


class Alerts(NamedTuple):
    """The rule by which probabilities raise an alert."""

    benign: int
    """Id of the benign class."""
    threshold: float
    """Alert score from which a flow raises an alert."""
    alert_score: CombinedAlertScore | None = None
    """Combines attack score and novelty; None: alerts use the attack score alone."""

    @classmethod
    def of(cls, artifact: Artifact) -> "Alerts | None":
        """The rule of the artifact; None: it raises no alerts."""
        threshold = (artifact.operating_point or NO_OPERATING_POINT).threshold_at(None)
        benign = artifact.classes.benign
        if threshold is None or benign is None:
            return None
        alert_score = None if artifact.operating_point is None else artifact.operating_point.alert_score
        return cls(artifact.classes.classes.index(benign), threshold, alert_score)

    def raised(
        self,
        probabilities: Float[np.ndarray, "rows classes"],
        novelty: Float64[np.ndarray, " rows"] | None = None,
    ) -> Bool[np.ndarray, " rows"]:
        """Which rows raise an alert. Without `novelty`, each row gets a benign one, by a fixed seed."""
        scores = attack_scores(probabilities, self.benign)
        if self.alert_score is not None:
            if novelty is None:
                novelty = np.random.default_rng(1).choice(self.alert_score.novelty.scores, len(scores))
            scores = self.alert_score.scores(scores, novelty)
        return scores >= self.threshold


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """How the scores of an engine compare with PyTorch in single precision."""

    num_rows: int
    rows: str
    """The source of the rows: `given` or `generated`."""
    max_difference: float
    """The largest difference of a class probability."""
    mean_difference: float
    same_class: float
    """Fraction of rows with the same class."""
    same_verdict: float | None = None
    """Fraction of rows for which both or neither raise an alert; None if the model raises no alerts."""

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        verdict = "" if self.same_verdict is None else f", {self.same_verdict:.2%} the same verdict"
        return (
            f"{self.same_class:.2%} of {self.num_rows:,} {self.rows} flows get the same class as from "
            f"PyTorch{verdict}; "
            f"probabilities differ by at most {self.max_difference:.2g}, {self.mean_difference:.2g} on "
            "average"
        )

    def fault(self, bounds: Bounds) -> str | None:
        """Why the engine must not be used; None if it may. NaN is a fault."""
        for what, share in (("class", self.same_class), ("verdict", self.same_verdict)):
            if share is not None and not share >= bounds.same:
                return f"{share:.1%} of rows get the same {what}, at least {bounds.same:.1%} is required"
        if not self.max_difference <= bounds.max_difference:
            return (
                f"probabilities differ by up to {self.max_difference:.2g}, "
                f"at most {bounds.max_difference} is allowed"
            )
        if not self.mean_difference <= bounds.mean_difference:
            return (
                f"probabilities differ by {self.mean_difference:.2g} on average, "
                f"at most {bounds.mean_difference} is allowed"
            )
        return None


def compare_scores(
    found: Float[np.ndarray, "rows classes"],
    expected: Float[np.ndarray, "rows classes"],
    alerts: Alerts | None,
    source: str,
    novelty: Float64[np.ndarray, " rows"] | None = None,
) -> ParityReport:
    """Compare two tables of probabilities of the same rows; `novelty` counts if alerts use it."""
    difference = np.abs(found - expected)
    return ParityReport(
        num_rows=len(found),
        rows=source,
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        same_class=float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        same_verdict=None
        if alerts is None
        else float((alerts.raised(found, novelty) == alerts.raised(expected, novelty)).mean()),
    )


def random_rows(tokenizer: FlowTokenizer, num_rows: int, seed: int = 1) -> JaggedRows:
    """Random valid rows: in each slot a token of that slot, or none if the tokenizer omits defaults.

    Rows differ in how much they omit. Text columns get random pieces.
    """
    rng = np.random.default_rng(seed)
    num_slots = len(tokenizer.slots)
    sizes = np.array([len(slot) for slot in tokenizer.slots])
    starts = tokenizer.slot_special[:, 0]
    tokens = starts + rng.integers(0, sizes, (num_rows, num_slots))
    is_written = np.ones((num_rows, num_slots), np.bool_)
    if tokenizer.omits_most_frequent:
        is_written = rng.random((num_rows, num_slots)) < rng.random((num_rows, 1))
    if tokenizer.text_columns and tokenizer.subwords is not None:
        pieces = np.flatnonzero(tokenizer.token_slots < 0)[len(SPECIAL_TOKENS) :]
        texts = rng.choice(pieces, (num_rows, tokenizer.text_budget))
        is_text = np.arange(tokenizer.text_budget) < rng.integers(0, tokenizer.text_budget, (num_rows, 1))
        tokens = np.concatenate([tokens, texts], axis=1)
        is_written = np.concatenate([is_written, is_text], axis=1)
    tokens = np.insert(tokens, 0, tokenizer.cls_id, axis=1).astype(tokenizer.dtype)
    is_written = np.insert(is_written, 0, True, axis=1)
    offsets = np.insert(np.cumsum(is_written.sum(axis=1)), 0, 0).astype(np.int64)
    return JaggedRows(tokens[is_written], offsets, 0)
