"""Drift of what a running monitor or service has scored lately, for its metrics."""

from collections.abc import Mapping
from threading import Lock
from typing import Final, final

from wirebert.decision.drift import NEW_STATES, DriftReference, MeasureDrift
from wirebert.decision.traffic_blocks import ScoredFlows
from wirebert.encoding.tokenizer import FlowTokenizer

WINDOW: Final = 8
"""Blocks of the window: as many flows as a fifth of the reference, or less."""


@final
class DriftWindow:
    """Compares the last flows with the reference when asked. Threads may share one."""

    def __init__(self, reference: DriftReference, tokenizer: FlowTokenizer) -> None:
        self._reference, self._tokenizer, self._lock = reference, tokenizer, Lock()
        self._blocks = reference.new_blocks(tokenizer, WINDOW)
        self._compared: tuple[int, tuple[MeasureDrift, ...]] = (0, ())

    def add(self, flows: ScoredFlows) -> None:
        """Count the next flows."""
        with self._lock:
            self._blocks.add(flows)

    @property
    def num_flows(self) -> int:
        """Flows in the window."""
        return min(self._blocks.num_closed, WINDOW) * self._blocks.num_flows

    def measures(self) -> tuple[MeasureDrift, ...]:
        """Every feature and score of the window; none before it has two blocks."""
        with self._lock:
            if self._blocks.num_closed != self._compared[0] and self._blocks.num_closed > 1:
                measures = self._reference.compare(self._blocks, self._tokenizer)
                self._compared = self._blocks.num_closed, measures
            return self._compared[1]

    def status(self) -> Mapping[str, object]:
        """What metrics tell; of single features and scores nothing before there are two blocks."""
        measures = self.measures()
        if not measures:
            return {"flows": self.num_flows, "moved": 0}
        features = [one for one in measures if not one.is_score]
        alerts = [one.shares("alert")[1] for one in measures if one.name == "alerts"]
        return {
            "flows": self.num_flows,
            "moved": sum(one.has_moved for one in measures),
            "distance": {one.name: one.distance for one in measures},
            "absent_share": {one.name: one.shares("<absent>")[1] for one in features},
            "unseen_share": {one.name: sum(one.shares(state)[1] for state in NEW_STATES) for one in features},
            **({"alerts_share": alerts[0]} if alerts else {}),
        }
