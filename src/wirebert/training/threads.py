"""How many processors a training computes on."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def computing_on(num_threads: int) -> Generator[None]:
    """In this block PyTorch computes with so many threads of the processor; 0: with as many as it had."""
    if num_threads == 0:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
