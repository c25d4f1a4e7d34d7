"""What training minimises: cross entropy, with class weights if asked for.

Shape letters: B flows, C classes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from wirebert.metrics.class_weights import inverse_frequency_weights
from wirebert.training.config import TrainConfig

# Stands in for the count of a class without a training flow, whose inverse would be infinite.
LEAST_COUNT: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The loss of a step is sum over its flows / weight of its flows, however the step is cut."""

    class_weights: Float[Tensor, " C"]
    """Weight of each class in the loss; all ones without class weights."""

    @classmethod
    def for_classes(cls, class_counts: Int[np.ndarray, " C"], config: TrainConfig) -> "Objective":
        """The objective for training flows with these many flows per class."""
        counts = np.maximum(class_counts, LEAST_COUNT)
        weights = inverse_frequency_weights(counts.astype(np.float64), config.class_weights)
        return cls(class_weights=torch.as_tensor(weights, dtype=torch.float32))

    def to(self, device: torch.device) -> "Objective":
        """The same objective for logits on `device`."""
        return Objective(class_weights=self.class_weights.to(device))

    def total(self, logits: Float[Tensor, "B C"], class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Weighted sum of the flows' losses, in single precision at least."""
        return functional.cross_entropy(logits.float(), class_ids, weight=self.class_weights, reduction="sum")

    def weight(self, class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Sum of the flows' weights, 1 for each without a label: what `total` is divided by."""
        return torch.where(class_ids >= 0, self.class_weights[class_ids.clamp(min=0)], 1.0).sum()
