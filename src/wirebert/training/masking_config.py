"""How pretraining masks features; read without PyTorch and without the tokenizer."""

from dataclasses import dataclass

from wirebert.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingConfig:
    """The settings of section `masking`."""

    mask_fraction: float = 0.15
    """Fraction of a flow's features and text pieces that is masked, in (0, 1); at least one is."""

    def __post_init__(self) -> None:
        if not 0 < self.mask_fraction < 1:
            raise ConfigError(f"masking.mask_fraction must be in (0, 1), got {self.mask_fraction}")
