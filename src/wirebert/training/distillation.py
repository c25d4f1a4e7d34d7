"""Distillation: the loss of a student on labels and on the class probabilities of a teacher.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

Shape letters: N flows of the data set, B flows, C classes.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from wirebert.data.labels import UNLABELLED
from wirebert.model.batches import NO_CLASS
from wirebert.shapes import Float, Float32, Int
from wirebert.training.losses import Objective


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftTargets:
    """The teacher's log-probabilities for the training flows, and the weight of the distillation loss."""

    log_probabilities: Float32[np.ndarray, "N C"]
    temperature: float
    teacher_weight: float
    path: Path | None = None
    """File of the log-probabilities, if they are on disk."""

    def to_be_sent(self) -> "SoftTargets":
        """A copy without the array, which another process reads from the path."""
        assert self.path is not None, "shared soft targets are on disk"
        return replace(self, log_probabilities=self.log_probabilities[:0], path=self.path.absolute())

    def total(
        self,
        objective: Objective,
        logits: Float[Tensor, "B C"],
        class_ids: Int[Tensor, " B"],
        teacher_log_probs: Float32[Tensor, "B C"],
    ) -> Float[Tensor, ""]:
        """Weighted sum of the flows' losses, like `Objective.total`, including the distillation loss.

        A labelled flow costs (1 - w) * `objective` + w * T^2 * KL(teacher || student), with w the teacher
        weight and both distributions at temperature T; an unlabelled flow costs the second term with w = 1.
        The divergence is the paper's cross entropy up to a constant, and 0 where both agree.

        NOTE[DIFF]: class weights apply to both terms, since the teacher's probabilities reflect the class
        frequencies of training as the labels do.
        """
        is_labelled = class_ids >= 0
        hard = objective.total(logits, torch.where(is_labelled, class_ids, NO_CLASS))
        divergence_B = functional.kl_div(
            functional.log_softmax(logits.float() / self.temperature, dim=1),
            functional.log_softmax(teacher_log_probs / self.temperature, dim=1),
            reduction="none",
            log_target=True,
        ).sum(dim=1)
        labelled_B = self.teacher_weight * objective.class_weights[class_ids.clamp(min=0)]
        weight_B = torch.where(is_labelled, labelled_B, (class_ids == UNLABELLED).float())
        return (1 - self.teacher_weight) * hard + self.temperature**2 * (weight_B * divergence_B).sum()


def expected_classes(
    class_ids: Int[Tensor, " B"], teacher_log_probs: Float32[Tensor, "B C"]
) -> Int[Tensor, " B"]:
    """The class of each flow; for an unlabelled flow, the teacher's most probable class."""
    return torch.where(class_ids == UNLABELLED, teacher_log_probs.argmax(dim=1), class_ids)
