"""Class weights for training, by class frequency."""

from typing import Final, Literal

import numpy as np

from wirebert.shapes import Float64

ClassWeighting = Literal["none", "balanced", "sqrt"]

_EXPONENTS: Final = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def inverse_frequency_weights(
    counts: Float64[np.ndarray, " classes"], kind: ClassWeighting
) -> Float64[np.ndarray, " classes"]:
    """Weight of each class: 1, inverse class frequency, or its square root; a class of average size gets 1.

    Args:
        counts: Number of flows of each class, above 0.

    >>> inverse_frequency_weights(np.array([3.0, 1.0]), "balanced").round(3).tolist()
    [0.667, 2.0]
    """
    frequencies = counts / counts.sum()
    return (1 / (len(frequencies) * frequencies)) ** _EXPONENTS[kind]
