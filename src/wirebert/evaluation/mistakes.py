"""The most confident errors of a detector, with the main evidence for each."""

import json
from typing import Any, final

import numpy as np
import pyarrow as pa

from wirebert.inference.detector import Detector, Scores
from wirebert.metrics.split_metrics import Mistake, most_confident_errors
from wirebert.shapes import Int64

_MOST_TEXT = 300
"""Characters shown of a value."""

_NUM_EXPLAINED = 20
"""Errors with evidence, the most confident ones; each costs as much as many verdicts."""

_NUM_CARRIERS = 8
"""Features named as evidence per error."""

_LEAST = 0.005
"""Contributions below this (nats) would be shown as 0.00."""


_OWN = "\0"
"""No column of a flow begins with it: it marks our own ones beside them."""


@final
class MistakenFlows:
    """Collects the most confident errors of a file, block by block; keeps no more than will be shown."""

    def __init__(self) -> None:
        self._confusions: dict[tuple[str, str], int] = {}
        """True and predicted class -> their number."""
        self._kept: pa.Table | None = None
        """The flows, with columns of our own (`_OWN`)."""

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
        own: dict[str, Any] = {
            "row": rows[positions],
            "label": labels.take(pa.array(positions, pa.int64())),
            "attack_score": attack[positions],
            "probability": probabilities[top],
            "kind": kinds[top],
            "hash": hashes[top],
        }
        flows = table.take(positions)
        for name, values in own.items():
            flows = flows.append_column(_OWN + name, pa.array(values))
        self._keep(flows)

    def merge(self, later: "MistakenFlows") -> None:
        """Add the errors that were kept of later flows."""
        if later._kept is not None:
            numbers = np.array([self._number(*pair) for pair in later._confusions], np.int64)
            kinds, at = _own(later._kept, "kind"), later._kept.column_names.index(f"{_OWN}kind")
            self._keep(later._kept.set_column(at, f"{_OWN}kind", pa.array(numbers[kinds])))

    def to_bytes(self) -> bytes:
        """What was kept, for `from_bytes`."""
        if self._kept is None:
            return b""
        confusions = {"confusions": json.dumps([*self._confusions])}
        kept, sink = self._kept.replace_schema_metadata(confusions), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, kept.schema) as writer:
            writer.write_table(kept)
        return sink.getvalue().to_pybytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "MistakenFlows":
        """What another one has kept."""
        found = cls()
        if content:
            with pa.ipc.open_stream(content) as reader:
                found._kept = reader.read_all()
            for true_class, verdict in json.loads(found._kept.schema.metadata[b"confusions"]):
                found._number(true_class, verdict)
            found._kept = found._kept.replace_schema_metadata(None)
        return found

    def _keep(self, flows: pa.Table) -> None:
        """Keep the most confident of the old and new errors, old ones first."""
        if self._kept is not None:
            flows = pa.concat_tables([self._kept, flows], promote_options="permissive")
        chosen = most_confident_errors(*(_own(flows, name) for name in ("probability", "kind", "hash")))
        self._kept = flows.unify_dictionaries().take(chosen)

    def _number(self, true_class: str, verdict: str) -> int:
        return self._confusions.setdefault((true_class, verdict), len(self._confusions))

    def found(self, detector: Detector) -> tuple[Mistake, ...]:
        """The mistakes, the most confident first, each with its main evidence by the detector."""
        if self._kept is None or not self._kept.num_rows:
            return ()
        pairs = list(self._confusions)
        confusions = [pairs[kind] for kind in _own(self._kept, "kind").tolist()]
        explained = confusions[:_NUM_EXPLAINED]
        flows = self._kept.drop_columns([name for name in self._kept.column_names if name.startswith(_OWN)])
        carried = _carriers(detector, flows.slice(0, len(explained)), [name for _, name in explained])
        carried += [{}] * (len(confusions) - len(explained))
        return tuple(
            Mistake(
                row=own[f"{_OWN}row"],
                label=str(own[f"{_OWN}label"]),
                true_class=true_class,
                predicted_class=verdict,
                probability=own[f"{_OWN}probability"],
                attack_score=None if np.isnan(own[f"{_OWN}attack_score"]) else own[f"{_OWN}attack_score"],
                flow={
                    name: _shown(value)
                    for name, value in flow.items()
                    if value is not None and name != detector.schema.label
                },
                top_features=top_features,
            )
            for (true_class, verdict), own, flow, top_features in zip(
                confusions, self._kept.to_pylist(), flows.to_pylist(), carried, strict=True
            )
        )


def _own(flows: pa.Table, name: str) -> np.ndarray:
    return flows.column(_OWN + name).to_numpy()


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
