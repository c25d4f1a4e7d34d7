"""Numbers per row, collected block by block in one piece of memory."""

from typing import Any

import numpy as np
from jaxtyping import Shaped


class Growing:
    """One array that blocks are appended to: many small ones, joined at the end, would take twice the memory."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._buffer = np.empty(1 << 16, dtype)
        self._length = 0
        self.has_any = False

    def add(self, block: Shaped[np.ndarray, " rows"] | None) -> None:
        """Append a block; None appends nothing."""
        if block is None:
            return
        self.has_any = True
        end = self._length + len(block)
        if end > len(self._buffer):
            grown = np.empty(max(end, 2 * len(self._buffer)), self._buffer.dtype)
            grown[: self._length] = self.values
            self._buffer = grown
        self._buffer[self._length : end] = block
        self._length = end

    @property
    def values(self) -> Shaped[np.ndarray, " rows"]:
        """What was appended."""
        return self._buffer[: self._length]
