"""What training minimises: cross entropy, with class weights, logit adjustment and label smoothing if asked for.

Shape letters: B flows, C classes.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from wirebert.training.settings import TrainConfig

# Stands in for the count of a class without a training flow, whose frequency would have no logarithm.
LEAST_COUNT: Final = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """The loss of a step is sum over its flows / weight of its flows, however the step is cut.

    NOTE[DIFF]: logit adjustment (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, equation 10) may be
    combined with class weights here; the paper uses one or the other.
    """

    class_weights: Float[Tensor, " C"]
    """Weight of each class in the loss; all ones without class weights."""

    logit_offsets: Float[Tensor, " C"]
    """Added to the logits in the loss only: tau * log(class frequency)."""

    label_smoothing: float
    """Share of each label spread over all classes."""

    @classmethod
    def for_classes(cls, class_counts: Int[np.ndarray, " C"], config: TrainConfig) -> "Objective":
        """The objective for training flows with these many flows per class."""
        counts = np.maximum(class_counts, LEAST_COUNT)
        shares = counts / counts.sum()
        exponent = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[config.class_weights]
        weights = (1 / (len(shares) * shares)) ** exponent
        return cls(
            class_weights=torch.as_tensor(weights, dtype=torch.float32),
            logit_offsets=torch.as_tensor(config.logit_adjustment * np.log(shares), dtype=torch.float32),
            label_smoothing=config.label_smoothing,
        )

    def to(self, device: torch.device) -> "Objective":
        """The same objective for logits on `device`."""
        return replace(
            self, class_weights=self.class_weights.to(device), logit_offsets=self.logit_offsets.to(device)
        )

    def total(self, logits: Float[Tensor, "B C"], class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Weighted sum of the flows' losses, in single precision at least."""
        return functional.cross_entropy(
            logits.float() + self.logit_offsets,
            class_ids,
            weight=self.class_weights,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def weight(self, class_ids: Int[Tensor, " B"]) -> Float[Tensor, ""]:
        """Sum of the flows' weights, 1 for each without a label: what `total` is divided by."""
        return torch.where(class_ids >= 0, self.class_weights[class_ids.clamp(min=0)], 1.0).sum()
