"""The training loss: cross entropy, optionally with class weights.

Shape letters: B flows, C classes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wirebert.metrics.class_weights import inverse_frequency_weights
from wirebert.shapes import Float, Int
from wirebert.training.config import TrainConfig

# The count used for a class without training flows, whose inverse would be infinite.
LEAST_COUNT: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The loss of a step: weighted sum over its flows / sum of weights, for any cut into micro-batches."""

    class_weights: Float[Tensor, " C"]
    """Weight of each class in the loss; all ones without class weights."""

    @classmethod
    def for_classes(cls, class_counts: Int[np.ndarray, " C"], config: TrainConfig) -> "Objective":
        """The objective for this number of training flows per class."""
        counts = np.maximum(class_counts, LEAST_COUNT)
        weights = inverse_frequency_weights(counts.astype(np.float64), config.class_weights)
        return cls(class_weights=torch.as_tensor(weights, dtype=torch.float32))

    def to(self, device: torch.device) -> "Objective":
        """The same objective for logits on `device`."""
        return Objective(class_weights=self.class_weights.to(device))

    def total(self, logits: Float[Tensor, "B C"], class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Weighted sum of the flows' losses, at least in single precision."""
        return functional.cross_entropy(logits.float(), class_ids, weight=self.class_weights, reduction="sum")

    def weight(self, class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Sum of the flows' weights, by which `total` is divided; an unlabelled flow weighs 1."""
        return torch.where(class_ids >= 0, self.class_weights[class_ids.clamp(min=0)], 1.0).sum()
