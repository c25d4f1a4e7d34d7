"""The model in PyTorch, on any device: the one module that scores with PyTorch.

Other modules of this room import it inside functions only, so that exports are scored without PyTorch
installed.
"""

from copy import copy
from typing import Final, final

import numpy as np
import torch

from wirebert.decision.calibration import softmax
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.inference.artifact import Artifact
from wirebert.inference.backends import EngineOptions, require_finite
from wirebert.inference.engines import Bounds, Engine
from wirebert.inference.parity import Alerts, compare_scores, random_rows
from wirebert.inference.weights import Weights
from wirebert.model.batches import score
from wirebert.model.checkpoints import restored
from wirebert.model.config import Architecture, Precision
from wirebert.shapes import Float32

CHECKED_ROWS: Final = 2_048
"""Rows on which half precision is checked before use."""

HALF_BOUNDS: Final = Bounds(same=0.998, mean_difference=1e-3)
"""How much half precision may differ from single precision."""


@final
class TorchBackend:
    """The model in PyTorch."""

    name = "torch"

    def __init__(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        device: str,
        precision: Precision,
        max_tokens: int | None,
    ) -> None:
        tensors = {
            name: torch.from_numpy(np.require(weight, requirements="W")) for name, weight in weights.items()
        }
        self.model = restored(architecture, tensors, where="model.safetensors", device=device).eval()
        self.precision: Precision = precision
        self._device, self._max_tokens = device, max_tokens

    @classmethod
    def open(cls, engine: Engine, artifact: Artifact, options: EngineOptions) -> "TorchBackend":  # noqa: ARG003
        """The model from its weights. On a GPU, `auto` is half precision if that matches single precision.

        `options.threads` sets the threads of PyTorch, so of the whole process.
        """
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        exact = cls(
            artifact.architecture,
            artifact.weights,
            device=options.device,
            precision="fp32" if options.precision == "auto" else options.precision,
            max_tokens=options.max_tokens,
        )
        if options.precision != "auto" or options.device == "cpu":
            return exact
        half, rows = exact.at("fp16"), random_rows(artifact.tokenizer, CHECKED_ROWS)
        probabilities, expected = (softmax(backend.logits(rows)) for backend in (half, exact))
        fault = compare_scores(probabilities, expected, Alerts.of(artifact), "generated").fault(HALF_BOUNDS)
        if fault is None:
            return half
        options.on_rejection("fp16", f"scores in fp16 do not match fp32 on this model: {fault}; fp32 is used")
        return exact

    def at(self, precision: Precision) -> "TorchBackend":
        """The same model at another precision of matrix products."""
        other = copy(self)
        other.precision = precision
        return other

    def logits(self, flows: JaggedRows) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order. Rows that overflow 16 bits are scored in single precision."""
        logits = score(
            *(self.model, flows),
            device=self._device,
            precision=self.precision,
            max_tokens=self._max_tokens,
        )
        # NaN would raise no alert: a flow must not be able to evade detection by overflow.
        lost = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(lost) and self.precision != "fp32":
            logits[lost] = self.at("fp32").logits(take_rows(flows, lost))
        return require_finite(logits, self.name)


def has_gpu() -> bool:
    """Whether PyTorch finds a GPU."""
    return torch.cuda.is_available()
