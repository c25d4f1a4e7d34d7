"""How much each class counts in training, by its frequency."""

from typing import Final, Literal

import numpy as np
from jaxtyping import Float64

ClassWeighting = Literal["none", "balanced", "sqrt"]

_EXPONENTS: Final = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def inverse_frequency_weights(
    counts: Float64[np.ndarray, " classes"], kind: ClassWeighting
) -> Float64[np.ndarray, " classes"]:
    """Weight of each class: 1, the inverse of its frequency, or the square root of that; 1 for a class of
    average size.

    Args:
        counts: Flows of each class, above 0.

    >>> inverse_frequency_weights(np.array([3.0, 1.0]), "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    shares = counts / counts.sum()
    return (1 / (len(shares) * shares)) ** _EXPONENTS[kind]
