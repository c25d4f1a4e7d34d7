"""How one training run spends its steps: the settings of section `training`."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Final, Literal

from wirebert.errors import ConfigError

MIN_EPOCHS: Final = 5
MAX_EPOCHS: Final = 40
MIN_STEPS: Final = 2000
PRETRAINED_RATE: Final = 5e-5
RATE_TIMES_WIDTH: Final = 0.128


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """How one training run spends its steps.

    >>> TrainConfig(batch_size=0)
    Traceback (most recent call last):
    ...
    wirebert.errors.ConfigError: training.batch_size must be at least 1, got 0
    """

    epochs: int | None = None
    """Passes over the training flows, at least 1; none: 5, or more for few flows (up to 2,000 steps, at most 40 passes)."""

    batch_size: int = 256
    """Flows per optimizer step, over all devices; the last step of an epoch takes what is left."""

    learning_rate: float | None = None
    """Peak learning rate of the backbone, above 0; none: 5e-5 for a pretrained model, else 0.128 / width of the model."""

    classifier_lr_multiplier: float = 10.0
    """The classifier learns at this many times the backbone's rate, above 0."""

    weight_decay: float = 0.01
    """AdamW weight decay of the backbone, at least 0."""

    classifier_weight_decay: float = 0.0
    """AdamW weight decay of the classifier, at least 0."""

    adam_beta1: float = 0.9
    """Memory of AdamW's mean of gradients, in [0, 1)."""

    adam_beta2: float = 0.999
    """Memory of AdamW's mean of squared gradients, in [0, 1)."""

    adam_epsilon: float = 1e-8
    """Added to AdamW's denominator, above 0."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rates fall to zero after the warm-up."""

    warmup_fraction: float = 0.06
    """Share of all steps spent warming up, in [0, 1)."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, at least 0; 0 turns clipping off."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; tf32: fp32, the GPU rounds factors of products; auto: bf16 on a GPU that has it,
    fp16 on other GPUs, fp32 on a CPU."""

    micro_batch_tokens: int | Literal["whole"] | None = None
    """Padded tokens of one forward pass, at least 1; whole: the whole step; none: 4,096 on a CPU, what fits on a GPU."""

    cuda_graphs: bool | None = None
    """Record a step and replay it as one CUDA graph; none: on a GPU, wherever a step can be recorded."""

    prefetch: int = 4
    """Steps whose flows a thread makes ready ahead of a GPU, at least 0."""

    workers: int | None = None
    """Processes that read the flows of coming steps, at least 0; none: 0, or up to 4 where flows exceed the memory."""

    threads: int | None = None
    """CPU threads, at least 1; none: PyTorch's choice, one per core (one per process under torchrun)."""

    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """What several GPUs hold: each all weights, or each a part; auto: parts where all would not fit one GPU."""

    class_weights: Literal["none", "balanced", "sqrt"] = "none"
    """Weight of a class in the loss: equal, by inverse frequency, or by its square root."""

    feature_corruption: float = 0.01
    """Share of features shown as missing or unseen, so that these tokens are trained, in [0, 1)."""

    column_dropout: float = 0.05
    """Share of flows shown without a random set of whole columns, in [0, 1)."""

    evaluate_every: int = 0
    """Steps between two evaluations on the validation flows, at least 0; 0 evaluates after each epoch."""

    early_stopping_patience: int = 0
    """Evaluations without a better validation loss before training stops, at least 0; 0 never stops early."""

    checkpoint_every: int = 0
    """Steps between two checkpoints, at least 0; 0 writes one after an epoch, if checkpoint_seconds have passed."""

    checkpoint_seconds: int = 60
    """Least time between two checkpoints that are written after epochs, at least 0: writing takes time too."""

    keep_checkpoints: int = 2
    """Newest checkpoints that stay on disk while the run is not finished, at least 1; each holds the best weights too."""

    log_every: int = 20
    """Steps between two lines of metrics, at least 1."""

    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Tracking tools that take the metrics too, beside metrics.jsonl; each is an extra to install."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""

    deterministic: bool = False
    """Same seed, same GPU, same bits, at some cost in speed; on a CPU this holds anyway."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "keep_checkpoints", "log_every", "epochs", "threads"):
            self._check(name, "at least 1", self._or_valid(name) >= 1)
        if self.micro_batch_tokens != "whole":
            self._check(
                "micro_batch_tokens", "at least 1 or whole", self._or_valid("micro_batch_tokens") >= 1
            )
        for name in ("learning_rate", "classifier_lr_multiplier", "adam_epsilon"):
            self._check(name, "above 0", self._or_valid(name) > 0)
        for name in (
            *("weight_decay", "classifier_weight_decay", "max_grad_norm", "evaluate_every"),
            *("early_stopping_patience", "checkpoint_every", "checkpoint_seconds", "prefetch", "workers"),
        ):
            self._check(name, "at least 0", self._or_valid(name) >= 0)
        for name in (
            *("adam_beta1", "adam_beta2", "warmup_fraction"),
            *("feature_corruption", "column_dropout"),
        ):
            self._check(name, "in [0, 1)", 0 <= getattr(self, name) < 1)

    @property
    def reweights_classes(self) -> bool:
        """Whether training weighs classes against their frequency."""
        return self.class_weights != "none"

    def resolved(self, *, num_flows: int, width: int, is_pretrained: bool) -> "TrainConfig":
        """These settings with nothing left to choose, for a model of this width and this many training flows.

        Both rules were chosen on validation figures (docs/experiments.md, 2026-11-23).
        """
        steps_per_epoch = -(-num_flows // self.batch_size)
        epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, -(-MIN_STEPS // max(1, steps_per_epoch))))
        learning_rate = PRETRAINED_RATE if is_pretrained else RATE_TIMES_WIDTH / width
        return replace(
            self,
            epochs=epochs if self.epochs is None else self.epochs,
            learning_rate=learning_rate if self.learning_rate is None else self.learning_rate,
        )

    @property
    def num_epochs(self) -> int:
        """The epochs of resolved settings."""
        assert self.epochs is not None, "TrainConfig.resolved() chooses the epochs"
        return self.epochs

    @property
    def peak_lr(self) -> float:
        """The backbone's peak learning rate of resolved settings."""
        assert self.learning_rate is not None, "TrainConfig.resolved() chooses the learning rate"
        return self.learning_rate

    def _or_valid(self, name: str) -> int | float:
        """The setting, or a valid value where it is left open."""
        value = getattr(self, name)
        return 1 if value is None else value

    def _check(self, name: str, expected: str, holds: bool) -> None:
        value = getattr(self, name)
        if not holds or (isinstance(value, float) and not isfinite(value)):
            raise ConfigError(f"training.{name} must be {expected}, got {value!r}")
