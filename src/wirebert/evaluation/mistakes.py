"""The most confident errors of a detector, with the main evidence for each."""

from typing import final

import numpy as np
import pyarrow as pa

from wirebert.inference.detector import Detector, Scores
from wirebert.metrics.split_metrics import Mistake, most_confident_errors
from wirebert.shapes import Float, Float64, Int64, UInt64

_MOST_TEXT = 300
"""Characters shown of a value."""

_NUM_EXPLAINED = 20
"""Errors with evidence, the most confident ones; each costs as much as many verdicts."""

_NUM_CARRIERS = 8
"""Features named as evidence per error."""

_LEAST = 0.005
"""Contributions below this (nats) would be shown as 0.00."""


@final
class MistakenFlows:
    """Collects the most confident errors of a file, block by block; keeps no more than will be shown."""

    def __init__(self) -> None:
        self._confusions: dict[tuple[str, str], int] = {}
        self._flows: pa.Table | None = None
        self._rows = np.empty(0, dtype=np.int64)
        self._labels: list[str] = []
        self._probabilities = np.empty(0)
        self._attack_scores = np.empty(0)
        self._kinds = np.empty(0, dtype=np.int64)
        self._hashes = np.empty(0, dtype=np.uint64)

    def add(
        self,
        table: pa.Table,
        scores: Scores,
        rows: Int64[np.ndarray, " flows"],
        labels: pa.Array,
        true_classes: pa.Array,
    ) -> None:
        """Add the errors of one block; unlabelled flows are skipped.

        Args:
            rows: Row number of each flow in its file.
        """
        coded = true_classes.dictionary_encode()
        names = [str(name) for name in coded.dictionary.to_pylist()]
        truth = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        num_classes = len(scores.classes)
        class_ids = {name: class_id for class_id, name in enumerate(scores.classes)}
        true_ids = np.array([*(class_ids.get(name, -1) for name in names), -1], dtype=np.int64)
        wrong = np.flatnonzero((true_ids[truth] != scores.class_ids) & (truth >= 0))
        pairs, of_pair = np.unique(truth[wrong] * num_classes + scores.class_ids[wrong], return_inverse=True)
        numbers = [
            self._number(names[pair // num_classes], scores.classes[pair % num_classes])
            for pair in pairs.tolist()
        ]
        probabilities = scores.probabilities.max(axis=1, initial=0.0)[wrong].astype(np.float64)
        kinds = np.array(numbers, dtype=np.int64)[of_pair]
        hashes = scores.row_hashes[wrong]
        # First the most confident of this block, then of these and the ones kept before.
        top = most_confident_errors(probabilities, kinds, hashes)
        positions = wrong[top]
        attack = (
            np.full(len(scores.class_ids), np.nan) if scores.attack_score is None else scores.attack_score
        )
        given = labels.take(pa.array(positions, pa.int64())).to_pylist()
        self._keep(
            table.take(positions),
            rows[positions],
            [str(label) for label in given],
            attack[positions],
            self._choose(probabilities[top], kinds[top], hashes[top]),
        )

    def merge(self, later: "MistakenFlows") -> None:
        """Add the errors that were kept of later flows."""
        if later._flows is not None:
            numbers = np.array([self._number(*pair) for pair in later._confusions], np.int64)
            chosen = self._choose(later._probabilities, numbers[later._kinds], later._hashes)
            self._keep(later._flows, later._rows, later._labels, later._attack_scores, chosen)

    def _keep(
        self,
        flows: pa.Table,
        rows: Int64[np.ndarray, " new"],
        labels: list[str],
        attack_scores: Float[np.ndarray, " new"],
        chosen: Int64[np.ndarray, " chosen"],
    ) -> None:
        """Keep the flows that `_choose` chose of the old and new ones."""
        if self._flows is not None:
            flows = pa.concat_tables([self._flows, flows], promote_options="permissive")
        self._flows = flows.unify_dictionaries().take(chosen)
        self._rows = np.concatenate([self._rows, rows])[chosen]
        self._attack_scores = np.concatenate([self._attack_scores, attack_scores])[chosen]
        given = [*self._labels, *labels]
        self._labels = [given[position] for position in chosen.tolist()]

    def _number(self, true_class: str, verdict: str) -> int:
        return self._confusions.setdefault((true_class, verdict), len(self._confusions))

    def _choose(
        self,
        probabilities: Float64[np.ndarray, " new"],
        kinds: Int64[np.ndarray, " new"],
        hashes: UInt64[np.ndarray, " new"],
    ) -> Int64[np.ndarray, " chosen"]:
        """Keep the most confident of the old and new errors; returns their positions, old ones first."""
        self._probabilities = np.concatenate([self._probabilities, probabilities])
        self._kinds = np.concatenate([self._kinds, kinds])
        self._hashes = np.concatenate([self._hashes, hashes])
        chosen = most_confident_errors(self._probabilities, self._kinds, self._hashes)
        self._probabilities = self._probabilities[chosen]
        self._kinds, self._hashes = self._kinds[chosen], self._hashes[chosen]
        return chosen

    def found(self, detector: Detector) -> tuple[Mistake, ...]:
        """The mistakes, the most confident first, each with its main evidence by the detector."""
        if self._flows is None or not len(self._kinds):
            return ()
        pairs = list(self._confusions)
        confusions = [pairs[kind] for kind in self._kinds.tolist()]
        explained = confusions[:_NUM_EXPLAINED]
        carried = _carriers(detector, self._flows.slice(0, len(explained)), [name for _, name in explained])
        carried += [{}] * (len(confusions) - len(explained))
        return tuple(
            Mistake(
                row=int(self._rows[position]),
                label=self._labels[position],
                true_class=true_class,
                predicted_class=verdict,
                probability=float(self._probabilities[position]),
                attack_score=None
                if np.isnan(self._attack_scores[position])
                else float(self._attack_scores[position]),
                flow={
                    name: _shown(value)
                    for name, value in flow.items()
                    if value is not None and name != detector.schema.label
                },
                top_features=carried[position],
            )
            for position, ((true_class, verdict), flow) in enumerate(
                zip(confusions, self._flows.to_pylist(), strict=True)
            )
        )


def _carriers(detector: Detector, flows: pa.Table, verdicts: list[str]) -> list[dict[str, float]]:
    """For each flow, the columns with the largest contributions to its verdict, largest first."""
    tokenizer = detector.artifact.tokenizer
    names = [*(encoder.column for encoder in tokenizer.encoders), *tokenizer.text_columns]
    class_ids = np.array([detector.classes.index(name) for name in verdicts], dtype=np.int64)
    slots = detector.explain(flows, class_ids).contributions
    is_of = np.arange(len(names)) == tokenizer.slot_columns[:, None]
    columns = slots.astype(np.float64) @ is_of
    order = np.argsort(-columns, axis=1, kind="stable")[:, :_NUM_CARRIERS]
    return [
        {names[column]: round(float(row[column]), 4) for column in strongest if row[column] >= _LEAST}
        for row, strongest in zip(columns, order.tolist(), strict=True)
    ]


def _shown(value: object) -> str:
    """A value as text, cut if it is long.

    >>> _shown(80.0), _shown("x" * 400)[-3:]
    ('80', 'xx…')
    """
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"
