"""The settings of section `distillation`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wirebert.errors import ConfigError

FITTED_TEACHERS: Final = ("gbdt", "text_svm")
"""Teachers that are fitted on the training flows themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillationConfig:
    """Distillation: the teacher, the flows it labels, and the loss."""

    teacher: str = ""
    """The teacher: gbdt (boosted trees, fitted on the tokens of the training flows; for data without text
    columns), text_svm (a linear SVM, fitted on the text columns of the training flows), or the model folder
    of a trained model, whose schema, tokenizer and classes the student takes over; empty: train on labels
    only."""

    gbdt_class_weights: Literal["none", "balanced", "sqrt"] = "balanced"
    """Class weights for fitting the teacher gbdt: equal, by inverse frequency, or by its square root."""

    augmentation_factor: float = 0.0
    """Synthetic flows per training flow, at least 0: each mixes columns and text of several training flows;
    trained on the teacher's predictions only."""

    unlabelled: tuple[str, ...] = ()
    """Unlabelled traffic, trained on the teacher's predictions only; a label column in it is not read."""

    temperature: float = 2.0
    """Softmax temperature of the distillation loss, for teacher and student, above 0."""

    teacher_weight: float = 0.5
    """Weight of the distillation loss for labelled flows, in [0, 1]; unlabelled flows have only this loss."""

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"distillation.temperature must be above 0, got {self.temperature}")
        if not 0 <= self.teacher_weight <= 1:
            raise ConfigError(f"distillation.teacher_weight must be in [0, 1], got {self.teacher_weight}")
        if not 0 <= self.augmentation_factor < float("inf"):
            raise ConfigError(
                f"distillation.augmentation_factor must be at least 0, got {self.augmentation_factor}"
            )
        if self.augmentation_factor and not self.teacher:
            raise ConfigError(
                "distillation.augmentation_factor needs a teacher, whose predictions synthetic flows are "
                "trained on; set distillation.teacher to gbdt, text_svm or a model folder"
            )
        if self.unlabelled and self.model_folder is None:
            raise ConfigError(
                "distillation.unlabelled needs a trained teacher, whose predictions these flows are trained "
                f"on; set distillation.teacher to a model folder, got {self.teacher!r}"
            )

    @property
    def model_folder(self) -> Path | None:
        """The model folder of a trained teacher; None for a fitted teacher and for none."""
        return Path(self.teacher) if self.teacher and self.teacher not in FITTED_TEACHERS else None
