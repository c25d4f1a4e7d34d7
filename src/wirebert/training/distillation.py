"""What a student learns from a teacher: the probabilities that the teacher gives each flow, beside its label.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.

Shape letters: N flows of the data set, B flows, C classes.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional

from wirebert.data.labels import UNLABELLED
from wirebert.errors import ConfigError
from wirebert.model.batches import NO_CLASS
from wirebert.training.losses import Objective


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """What a student learns from a teacher."""

    teacher: str = ""
    """Model folder of the teacher, whose schema, tokenizer and classes the student takes; empty: labels alone teach."""

    trees: bool = False
    """Whether boosted trees, fitted on the tokens of the training flows, teach beside the labels; they read no text."""

    tree_weights: Literal["none", "balanced", "sqrt"] = "balanced"
    """Weight of each class when the trees are fitted: 1, or by the inverse of its share or the root of that."""

    text: bool = False
    """Whether a linear machine, fitted on the texts of the training flows, teaches beside the labels; it reads nothing else."""

    augmentation_factor: float = 0.0
    """For each training flow, so many that never were, whose columns and texts come from several flows; the teacher says what
    they are."""

    unlabelled: tuple[str, ...] = ()
    """Traffic that the teacher alone says something about; a label column in it is not looked at."""

    temperature: float = 2.0
    """Logits of teacher and student are divided by this before they are compared, above 0."""

    teacher_weight: float = 0.5
    """The teacher's share in the loss of a flow that has a label, in [0, 1]; a flow without one has the teacher alone."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"distillation.temperature must be above 0, got {self.temperature}")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigError(f"distillation.teacher_weight must be in [0, 1], got {self.teacher_weight}")
        for name, is_asked in (("trees", self.trees), ("text", self.text)):
            if is_asked and self.teacher:
                raise ConfigError(
                    f"distillation.{name} must be false beside distillation.teacher={self.teacher!r}: there is one teacher"
                )
        if self.trees and self.text:
            raise ConfigError(
                "distillation.trees must be false beside distillation.text=true: there is one teacher"
            )
        if not 0 <= self.augmentation_factor < float("inf"):
            raise ConfigError(
                f"distillation.augmentation_factor must be at least 0, got {self.augmentation_factor}"
            )
        if self.augmentation_factor and not (self.trees or self.text or self.teacher):
            raise ConfigError(
                "distillation.augmentation_factor needs a teacher, which says what these flows are; set distillation.trees=true, "
                "distillation.text=true or distillation.teacher"
            )
        if self.unlabelled and not self.teacher:
            raise ConfigError(
                "distillation.unlabelled needs distillation.teacher, which says what these flows are"
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SoftTargets:
    """What a teacher says about the training flows, and how much it counts."""

    log_probabilities: Float32[np.ndarray, "N C"]
    temperature: float
    teacher_weight: float
    path: Path | None = None
    """Where the log-probabilities lie on disk, if they do."""

    def to_be_sent(self) -> "SoftTargets":
        """The same without the numbers, which another process finds at the path."""
        assert self.path is not None, "what is shared lies on disk"
        return replace(self, log_probabilities=self.log_probabilities[:0], path=self.path.absolute())

    def total(
        self,
        objective: Objective,
        logits: Float[Tensor, "B C"],
        class_ids: Int[Tensor, " B"],
        taught: Float32[Tensor, "B C"],
    ) -> Float[Tensor, ""]:
        """Weighted sum of the flows' losses, as `Objective.total` is, with `build_distillation_data` as the teacher's log-probabilities.

        A flow with a label costs (1 - mix) times what `objective` says plus mix * T^2 * KL(teacher || student), both at
        temperature T; one without costs the latter with mix = 1. The divergence is the paper's cross entropy but for a
        constant, and 0 where both agree.

        NOTE[DIFF]: class weights weigh both parts, for the teacher's probabilities stand for the class shares of training
        as the labels do.
        """
        is_labelled = class_ids >= 0
        hard = objective.total(logits, torch.where(is_labelled, class_ids, NO_CLASS))
        divergence_B = functional.kl_div(
            functional.log_softmax(logits.float() / self.temperature, dim=1),
            functional.log_softmax(taught / self.temperature, dim=1),
            reduction="none",
            log_target=True,
        ).sum(dim=1)
        own_B = self.teacher_weight * objective.class_weights[class_ids.clamp(min=0)]
        weight_B = torch.where(is_labelled, own_B, (class_ids == UNLABELLED).float())
        return (1 - self.teacher_weight) * hard + self.temperature**2 * (weight_B * divergence_B).sum()


def expected_classes(class_ids: Int[Tensor, " B"], taught: Float32[Tensor, "B C"]) -> Int[Tensor, " B"]:
    """The class of each flow, and the teacher's choice where a flow has no label."""
    return torch.where(class_ids == UNLABELLED, taught.argmax(dim=1), class_ids)
