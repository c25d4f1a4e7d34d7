"""Curves drawn with Braille characters of two by four dots."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, final

import numpy as np

from wirebert.shapes import Float64

DOTS: Final = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint32)
"""Bit of each dot of a character, from the top left."""

BLANK: Final = 0x2800


@final
class Sparkline:
    """A growing curve of at most `max_points` points: when it is full, neighbours are replaced by their mean.

    >>> trace = Sparkline(max_points=4)
    >>> for step in range(5):
    ...     trace.add(step, float(step))
    >>> trace.steps, trace.values
    ([0.5, 2.5, 4.0], [0.5, 2.5, 4.0])
    """

    def __init__(self, max_points: int = 1024) -> None:
        self.steps: list[float] = []
        self.values: list[float] = []
        self._max_points = max_points
        self._drawn: tuple[tuple[int, int, bool], list[str]] | None = None

    def add(self, step: int, value: float) -> None:
        """Append a point."""
        if len(self.steps) >= self._max_points:
            self.steps, self.values = _halved(self.steps), _halved(self.values)
        self.steps.append(float(step))
        self.values.append(value)
        self._drawn = None

    def go_back_to(self, step: int) -> None:
        """Delete the points after `step`."""
        num_left = bisect_right(self.steps, step)
        self.steps, self.values = self.steps[:num_left], self.values[:num_left]
        self._drawn = None

    def draw(self, width: int, height: int, *, is_log: bool) -> list[str]:
        """The curve in `height` lines of `width` characters, cached until it changes."""
        size = (width, height, is_log)
        if self._drawn is None or self._drawn[0] != size:
            lines = draw(self.steps, self.values, width=width, height=height, is_log=is_log)
            self._drawn = (size, lines)
        return self._drawn[1]


def _halved(values: Sequence[float]) -> list[float]:
    return [(left + right) / 2 for left, right in zip(values[::2], values[1::2], strict=True)]


def draw(
    steps: Sequence[float], values: Sequence[float], *, width: int, height: int, is_log: bool = False
) -> list[str]:
    """The curve in `height` lines of `width` characters; blank without points.

    A column of dots spans the lowest to the highest of its points, so that no spike is lost.

    >>> print("\\n".join(draw([0.0, 1.0, 2.0, 3.0], [0.0, 1.0, 2.0, 3.0], width=4, height=2)))
    ⠀⠀⣠⠞
    ⣠⠞⠁⠀
    """
    if not values or width < 1 or height < 1:
        return [chr(BLANK) * max(0, width)] * max(0, height)
    x, y = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    low, high = _spans(x, np.log(y) if is_log else y, 2 * width)
    bottom, top = float(low.min()), float(high.max())
    scale = (4 * height - 1) / (top - bottom) if top > bottom else 0.0
    middle = 0 if top > bottom else 2 * height
    lowest, highest = np.rint((low - bottom) * scale) + middle, np.rint((high - bottom) * scale) + middle
    heights = np.arange(4 * height)[::-1, None]
    is_dot = (heights >= lowest) & (heights <= highest)
    cells = is_dot.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
    codes = (cells * DOTS).sum(axis=(2, 3)) + BLANK
    return ["".join(map(chr, line)) for line in codes.tolist()]


def _spans(
    x: Float64[np.ndarray, " points"], y: Float64[np.ndarray, " points"], num_columns: int
) -> tuple[Float64[np.ndarray, " columns"], Float64[np.ndarray, " columns"]]:
    """Lowest and highest value of the curve in each column, joined to the previous column."""
    columns = np.linspace(x[0], x[-1], num_columns)
    low = np.interp(columns, x, y)
    high = low.copy()
    width = max(x[-1] - x[0], 1e-12) / num_columns
    column = np.minimum(((x - x[0]) / width).astype(np.int64), num_columns - 1)
    np.minimum.at(low, column, y)
    np.maximum.at(high, column, y)
    joined_low, joined_high = low.copy(), high.copy()
    joined_low[1:] = np.minimum(low[1:], high[:-1])
    joined_high[1:] = np.maximum(high[1:], low[:-1])
    return joined_low, joined_high
