"""The same bits on every run of the same training on the same GPU, at the price of speed.

A CPU gives the same bits anyway.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

import torch
import torch.utils.deterministic

from wirebert.errors import ConfigError

WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
FIXED_WORKSPACE: Final = ":4096:8"
"""Eight buffers of 4 MiB: with these cuBLAS keeps to one order of additions (its manual, section 2.1.4)."""


@contextmanager
def same_bits(is_asked: bool) -> Generator[None]:
    """In this block, with `is_asked`, kernels that add in no fixed order are replaced by others that do, or refused.

    cuBLAS reads its setting when a process first uses a GPU, so enter the block before that.

    Raises:
        ConfigError: something that the model computes has no kernel that gives the same bits.
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
    # New memory need not be filled: nothing of ours reads what it has not written.
    cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = True, False, False
    try:
        yield
    except RuntimeError as error:
        if "use_deterministic_algorithms" not in str(error):
            raise
        raise ConfigError(
            "training.deterministic: expected kernels that give the same bits every time, found one that does not "
            f"({str(error).splitlines()[0]}); set model.attention=math, or training.deterministic=false"
        ) from error
    finally:
        torch.use_deterministic_algorithms(was_asked, warn_only=is_warning)
        cudnn.deterministic, cudnn.benchmark, filling.fill_uninitialized_memory = before
