"""Two models in one folder: the small one answers where it is sure, the big one the other flows."""

from dataclasses import replace
from threading import Lock
from typing import Final, TypeAlias, final

import numpy as np

from wirebert.decision.cascade_margin import class_gaps
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.errors import ArtifactError
from wirebert.inference.artifact import Artifact
from wirebert.inference.backends import Backend, EngineOptions, open_backend
from wirebert.inference.engines import Engine
from wirebert.inference.onnx_backend import OnnxBackend
from wirebert.shapes import Float32

Routed: TypeAlias = tuple[int, int]
"""Rows that went to the big model, and rows in all, of those that were computed."""

NEAR_MARGIN: Final = 1e-3
"""Distance from the margin (nats) within which a flow is scored alone to decide where it goes: far more than
batches of other shapes differ by in single precision (2e-5), so the decision does not depend on the batch."""


@final
class CascadeBackend:
    """A small exported model, and the fastest backend of the big one for flows below the margin."""

    def __init__(self, name: str, small: Backend, big: Backend, margin: float) -> None:
        self.name = name
        self._small, self._big, self._margin = small, big, margin
        self._counts, self._lock = (0, 0), Lock()

    @classmethod
    def open(cls, engine: Engine, artifact: Artifact, options: EngineOptions) -> "CascadeBackend":
        """The cascade in the model folder.

        Raises:
            ArtifactError: one of the two exports is damaged or gives other scores on this processor.
            ConfigError: a package is missing.
        """
        export = artifact.exports[engine.name]
        margin = export.about.get("margin")
        if not isinstance(margin, float) or not margin >= 0:
            raise ArtifactError(
                f"{export.path}: expected a cascade with a margin of at least 0, found {margin!r}; write it "
                f"again with `{engine.export_command}`"
            )
        small = OnnxBackend.open(engine, artifact, options)
        others = {name: other for name, other in artifact.exports.items() if name != engine.name}
        return cls(
            engine.name, small, open_backend("auto", replace(artifact, exports=others), options), margin
        )

    @property
    def counts(self) -> Routed:
        """What was computed so far."""
        return self._counts

    def logits(self, flows: JaggedRows) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order: those of one model or of the other."""
        logits = self._small.logits(flows)
        gaps = class_gaps(logits)
        for row in np.flatnonzero(np.abs(gaps - self._margin) < NEAR_MARGIN).tolist():
            gaps[row] = class_gaps(self._small.logits(take_rows(flows, np.array([row]))))[0]
        routed = np.flatnonzero(gaps < self._margin)
        if len(routed):
            logits[routed] = self._big.logits(take_rows(flows, routed))
        with self._lock:
            self._counts = (self._counts[0] + len(routed), self._counts[1] + len(flows))
        return logits


def routed_since(routed: Routed | None, before: Routed | None) -> Routed | None:
    """What a cascade computed since it had computed `before`; None without one.

    >>> routed_since((5, 20), (2, 8))
    (3, 12)
    """
    if routed is None or before is None:
        return None
    return routed[0] - before[0], routed[1] - before[1]


def routed_words(routed: Routed | None) -> str:
    """What a cascade did, as the end of a sentence; empty without one.

    >>> routed_words((1, 8))
    ', 12.5% of 8 distinct rows by the big model'
    """
    if routed is None:
        return ""
    num_routed, num_rows = routed
    return f", {num_routed / max(1, num_rows):.1%} of {num_rows:,} distinct rows by the big model"
