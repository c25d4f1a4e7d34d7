"""One number from several: where every random choice of training gets its seed.

Nothing random is carried from step to step. What step 123 of epoch 4 draws is seeded from (seed, purpose, 4,
123), so a resumed run draws the same without any generator state in the checkpoint.
"""

from enum import IntEnum, unique
from typing import Final

_64_BITS: Final = (1 << 64) - 1


@unique
class Purpose(IntEnum):
    """The use of a seed; two purposes never share random numbers. Changing a value changes every run."""

    ORDER = 1
    CORRUPTION = 2
    DROPOUT = 3


def mix(seed: int, *numbers: int) -> int:
    """A 63-bit seed that depends on every one of the numbers and on their order.

    Each number is xor-ed into the state, which then goes through splitmix64's scrambler.

    >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0), mix(7, 1, 2) == mix(7, 2, 1)
    (True, False, False)

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16
    (splitmix64).
    """
    state = 0
    for number in (seed, *numbers):
        state = _scramble(state ^ (number & _64_BITS))
    return state >> 1


def _scramble(state: int) -> int:
    state = (state + 0x9E3779B97F4A7C15) & _64_BITS
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return state ^ (state >> 31)
