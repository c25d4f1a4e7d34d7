"""What a training does on this device: kernels, recorded steps, copies of weights, and the size of a pass."""

from concurrent.futures import Future

import torch

from wirebert.errors import ConfigError
from wirebert.model.attention import HAS_TRITON
from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.strategy import ParallelStrategy
from wirebert.training.precision import TrainPrecision, choose_precision


def choose_device(config: TrainConfig) -> torch.device:
    """The training device.

    Raises:
        ConfigError: the settings ask for a GPU and the machine has none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device must be auto or cpu on a machine without a CUDA GPU, got 'cuda'")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def check_machine(config: TrainConfig) -> None:
    """Check the device and number format before any data is read.

    Raises:
        ConfigError: the machine does not support them.
    """
    choose_precision(config, choose_device(config))


def compile_kernels(config: TrainConfig, architecture: Architecture) -> Future[None] | None:
    """Start to compile the kernels of a step on this GPU, if that has not begun; None: there are none."""
    device = choose_device(config)
    if device.type != "cuda" or not HAS_TRITON or choose_precision(config, device) != "bf16":
        return None
    from wirebert.model.kernels.compilation import StepKernels  # needs Triton, which CPU builds lack

    return StepKernels(
        device,
        torch.bfloat16,
        architecture.dim,
        architecture.num_heads,
        architecture.dropout,
        architecture.attention_dropout,
        (config.adam_beta1, config.adam_beta2),
        config.adam_epsilon,
    ).compiled()


def choose_graphs(
    config: TrainConfig, model: DistilBert, device: torch.device, precision: TrainPrecision
) -> bool:
    """Whether to record steps as CUDA graphs.

    Not with gradient scaling, where the CPU reads the scale, nor with gradient checkpointing, which restores
    the state of the random generator.
    """
    is_plain = not (model.gradient_checkpointing or precision == "fp16")
    return device.type == "cuda" and (is_plain if config.cuda_graphs is None else config.cuda_graphs)


def choose_copies(
    strategy: ParallelStrategy, precision: TrainPrecision, device: torch.device
) -> torch.dtype | None:
    """The format of the weights' copies in linear layers; None: there are none.

    Not for fp16, where the CPU decides after each step whether to update.
    """
    has_copies = strategy.holds_all_weights and precision == "bf16" and device.type == "cuda" and HAS_TRITON
    return torch.bfloat16 if has_copies else None


def choose_micro_batch_tokens(config: TrainConfig, device: torch.device) -> int:
    """Padded tokens of one forward pass; 0 is the whole step.

    A CPU is fastest with little padding and activations that fit its cache, a GPU with large batches.
    """
    if config.micro_batch_tokens == "whole":
        return 0
    if config.micro_batch_tokens is not None:
        return config.micro_batch_tokens
    return 4_096 if device.type == "cpu" else 0
