"""The settings of section `training`."""

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
    """Optimisation, batches, precision, checkpoints and devices.

    >>> TrainConfig(batch_size=0)
    Traceback (most recent call last):
    ...
    wirebert.errors.ConfigError: training.batch_size must be at least 1, got 0
    """

    epochs: int | None = None
    """Passes over the training flows, at least 1; none: 5, or more for few flows (up to 2,000 steps, at most
    40 passes)."""

    batch_size: int = 256
    """Flows per optimizer step, over all devices, at least 1; the last step of an epoch takes the rest. The
    commands that train take the default on each of several GPUs."""

    learning_rate: float | None = None
    """Peak learning rate of the backbone, above 0; none: 5e-5 for a pretrained model, else 0.128 / width."""

    classifier_lr_multiplier: float = 10.0
    """Learning rate of the classifier as a multiple of the backbone's, above 0."""

    weight_decay: float = 0.01
    """AdamW weight decay of the backbone, at least 0."""

    classifier_weight_decay: float = 0.0
    """AdamW weight decay of the classifier, at least 0."""

    adam_beta1: float = 0.9
    """Decay rate of AdamW's mean of gradients, in [0, 1)."""

    adam_beta2: float = 0.999
    """Decay rate of AdamW's mean of squared gradients, in [0, 1)."""

    adam_epsilon: float = 1e-8
    """Added to AdamW's denominator, above 0."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rates fall to zero after the warm-up."""

    warmup_fraction: float = 0.06
    """Fraction of all steps spent on warm-up, in [0, 1)."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, at least 0; 0 turns clipping off."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """Number format of the forward pass; tf32: fp32 with matrix products in TensorFloat-32; auto: bf16 on a
    GPU that has it, fp16 on other GPUs, fp32 on a CPU."""

    micro_batch_tokens: int | Literal["whole"] | None = None
    """Padded tokens per pass, at least 1; whole: a whole step; none: 4,096 on a CPU, all that fit a GPU."""

    cuda_graphs: bool | None = None
    """Record each step as a CUDA graph and replay it; none: on a GPU, wherever a step can be recorded."""

    prefetch: int = 4
    """Steps that a thread prepares ahead of a GPU, at least 0."""

    workers: int | None = None
    """Worker processes that load flows, at least 0; none: 0, or up to 4 if the flows exceed the memory."""

    threads: int | None = None
    """CPU threads, at least 1; none: one per processor that affinity, quota and OMP_NUM_THREADS allow, chosen
    once per run, so that a resumed run gives the same bits. torchrun sets OMP_NUM_THREADS."""

    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several GPUs share a model: ddp (each holds all weights), fsdp (each holds a part); auto: fsdp only
    if the weights do not fit one GPU."""

    class_weights: Literal["none", "balanced", "sqrt"] = "none"
    """Weight of a class in the loss: equal, by inverse frequency, or by its square root."""

    feature_corruption: float = 0.01
    """Fraction of features replaced by missing or unseen, so that these tokens are trained, in [0, 1)."""

    column_dropout: float = 0.05
    """Fraction of flows that lose a random set of whole columns, in [0, 1)."""

    evaluate_every: int = 0
    """Steps between two validations, at least 0; 0: after each epoch."""

    early_stopping_patience: int = 0
    """Validations without a better loss before training stops, at least 0; 0: never stop early."""

    checkpoint_every: int = 0
    """Steps between two checkpoints, at least 0; 0: after an epoch, once checkpoint_seconds have passed."""

    checkpoint_seconds: int = 60
    """Minimum seconds between two checkpoints that are written after epochs, at least 0."""

    keep_checkpoints: int = 2
    """Checkpoints kept on disk until the run is finished, at least 1; each includes the best weights."""

    log_every: int = 20
    """Steps between two lines of metrics, at least 1."""

    trackers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()
    """Experiment trackers that also get the metrics; each is an extra to install."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""

    deterministic: bool = False
    """Bit-identical results for the same seed and GPU, at some cost in speed; always true on a CPU."""

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
        """Whether class weights in the loss depend on class frequency."""
        return self.class_weights != "none"

    def resolved(self, *, num_flows: int, width: int, is_pretrained: bool) -> "TrainConfig":
        """These settings with the automatic ones chosen, for a model of this width and this many training
        flows.

        Both rules were chosen on validation metrics (docs/experiments.md, 2026-11-23).
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
