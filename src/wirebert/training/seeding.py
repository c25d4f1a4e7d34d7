"""Seeds for every random choice of training.

No generator state is carried from step to step. The draws of step 123 of epoch 4 are seeded from (seed,
purpose, 4, 123), so a resumed run draws the same without any generator state in the checkpoint.
"""

from enum import IntEnum, unique
from typing import Final

import numpy as np
import torch

from wirebert.data import hashing

_64_BITS: Final = (1 << 64) - 1


@unique
class Purpose(IntEnum):
    """The use of a seed; two purposes never share random numbers. Changing a value changes every run."""

    ORDER = 1
    CORRUPTION = 2
    DROPOUT = 3


def mix(seed: int, *numbers: int) -> int:
    """A 63-bit seed that depends on every one of the numbers and on their order.

    Each number is xor-ed into the state, which then goes through one step of splitmix64.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0), mix(7, 1, 2) == mix(7, 2, 1)
    (True, False, False)

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16
    (splitmix64).
    """
    state = np.zeros(1, np.uint64)
    for number in (seed, *numbers):
        state = hashing.mix(state ^ np.uint64(number & _64_BITS))
    return int(state[0]) >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the random generators of the CPU and of this GPU.

    `torch.manual_seed` would also format the traceback of each call, for devices that are never used.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
