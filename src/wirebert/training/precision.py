"""Precision, determinism and CPU threads.

Deterministic kernels give bit-identical runs on the same GPU, at some cost in speed; a CPU is always
deterministic.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, Literal, cast

import torch
import torch.utils.deterministic

from wirebert.errors import ConfigError
from wirebert.model.config import Precision
from wirebert.training.config import TrainConfig

TrainPrecision = Precision | Literal["tf32"]
"""tf32 is fp32 in memory; only the factors of matrix products are rounded."""


def choose_precision(config: TrainConfig, device: torch.device) -> TrainPrecision:
    """The number format of the forward pass.

    Raises:
        ConfigError: tf32 is set on a device without TensorFloat-32 units.
    """
    if config.precision == "tf32" and not (device.type == "cuda" and torch.cuda.is_tf32_supported()):
        raise ConfigError(
            "training.precision=tf32 needs a GPU with TensorFloat-32 (Ampere or later), "
            f"training runs on {device.type}; use fp32"
        )
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


@contextmanager
def allow_tf32(is_asked: bool) -> Generator[None]:
    """In this block, if `is_asked`, GPUs round fp32 factors to TensorFloat-32 (10 bits of fraction).

    PyTorch's newer switch, `fp32_precision`, is not enough: torch.compile (up to 2.13) still reads the older
    one and then raises an error (pytorch/pytorch, issue 166387). This call sets both.
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


WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
FIXED_WORKSPACE: Final = ":4096:8"
"""Eight buffers of 4 MiB, with which cuBLAS adds in a fixed order (its manual, section 2.1.4)."""


@contextmanager
def deterministic_algorithms(is_asked: bool) -> Generator[None]:
    """In this block, if `is_asked`, kernels that add in no fixed order are replaced or refused.

    cuBLAS reads its setting when a process first uses a GPU, so enter the block before that.

    Raises:
        ConfigError: an operation of the model has no deterministic kernel.
    """
    if not is_asked:
        yield
        return
    os.environ.setdefault(WORKSPACE, FIXED_WORKSPACE)
    was_asked, is_warning = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn
    filling = cast(Any, torch.utils.deterministic)
    before = (cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory)
    torch.use_deterministic_algorithms(True)
    # New memory need not be filled: our code never reads uninitialised memory.
    cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = True, False, False
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise ConfigError(
            "training.deterministic: an operation has no deterministic kernel "
            f"({str(error).splitlines()[0]}); set model.attention=math, or training.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(was_asked, warn_only=is_warning)
        cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = before


@contextmanager
def torch_threads(num_threads: int | None) -> Generator[None]:
    """Set PyTorch's number of CPU threads within this block; None leaves it unchanged."""
    if num_threads is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
