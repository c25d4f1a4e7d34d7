"""How a training computes: which number format its forward pass has, and how a GPU multiplies single precision."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal

import torch

from wirebert.errors import ConfigError
from wirebert.model.batches import Precision
from wirebert.training.settings import TrainConfig

TrainPrecision = Precision | Literal["tf32"]
"""tf32 is fp32 in memory; only the factors of products are rounded."""


def choose_precision(config: TrainConfig, device: torch.device) -> TrainPrecision:
    """How the forward pass computes.

    Raises:
        ConfigError: tf32 is asked for where no unit multiplies it: it would be fp32 under another name.
    """
    if config.precision == "tf32" and not (device.type == "cuda" and torch.cuda.is_tf32_supported()):
        raise ConfigError(
            "training.precision=tf32 needs a GPU that multiplies TensorFloat-32 (Ampere or later), "
            f"training runs on {device.type}; use fp32"
        )
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


@contextmanager
def tf32_products(is_asked: bool) -> Generator[None]:
    """In this block, with `is_asked`, GPUs round factors of single precision to TensorFloat-32 (10 bits of fraction).

    Not through PyTorch's newer switch, `fp32_precision`, alone: torch.compile still reads the older one (up to 2.13), which
    then raises an error (pytorch/pytorch, issue 166387). This call sets both.
    """
    if not is_asked:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
