"""The settings of section `surprisal`; read without PyTorch."""

from dataclasses import dataclass

from wirebert.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class SurprisalConfig:
    """How `wirebert learn` makes one score of the predictions of masked features."""

    num_groups: int = 8
    """Groups of columns, each predicted from all other groups in one pass, at least 1."""

    left_out_fraction: float = 0.005
    """Fraction of the training flows, the most surprising ones, that is taken for attacks: neither the
    reference of the novelty nor the scale of the score has them, in [0, 0.5)."""

    augmentation_factor: float = 1.0
    """Synthetic flows per training flow that the one-pass model learns the score of, at least 0: each mixes
    columns of several training flows."""

    def __post_init__(self) -> None:
        if self.num_groups < 1:
            raise ConfigError(f"surprisal.num_groups must be at least 1, got {self.num_groups}")
        if not 0 <= self.left_out_fraction < 0.5:
            raise ConfigError(
                f"surprisal.left_out_fraction must be in [0, 0.5), got {self.left_out_fraction}"
            )
        if not 0 <= self.augmentation_factor < float("inf"):
            raise ConfigError(
                f"surprisal.augmentation_factor must be at least 0, got {self.augmentation_factor}"
            )
