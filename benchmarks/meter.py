"""Speed of a training as it runs: warm-up apart, then several windows of equally many steps."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

PEAK_SIZE = {"cuda": 8192, "cpu": 2048}
"""Rows and columns of the matrices whose product is taken for what the machine can do."""


class Work(NamedTuple):
    """What one step did."""

    rows: int
    tokens: int
    """Without padding."""
    slots: int
    """Places that were computed, padding included."""
    flop: float
    """Multiplications and additions of the matrix products, forward and backward, over all slots."""
    useful_flop: float
    """The same for the tokens alone."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Medians over the windows."""

    rows_per_s: float
    slowest_rows_per_s: float
    fastest_rows_per_s: float
    tokens_per_s: float
    tflops: float
    useful_tflops: float
    step_ms: float
    num_steps: int
    """Steps that were timed."""
    warm_up_s: float
    """First steps, with compilation and all that happens once."""
    once_s: float
    """What of it is more than these steps take later: compilation, above all."""
    total_s: float
    """From making the model to the last step."""
    resting_mb: float
    """GPU memory between two steps: weights and optimizer, and the data where they lie there."""
    peak_mb: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Speed of one large matrix product on random data, the median of ten."""
    size = PEAK_SIZE[device.type]
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = seconds_of(lambda: one @ other, device, num_windows=10, window_s=0.02)
    return 2 * size**3 / statistics.median(seconds) / 1e12


def seconds_of(
    run: Callable[[], Tensor | None], device: torch.device, *, num_windows: int, window_s: float
) -> list[float]:
    """Seconds of one call in each of several windows; each is filled with calls, the device is waited for at its ends."""
    for _ in range(3):
        run()
    num_calls = 1
    while (seconds := _timed(run, device, num_calls)) < window_s / 2:
        num_calls *= 2
    num_calls = max(1, round(num_calls * window_s / seconds))
    return [_timed(run, device, num_calls) / num_calls for _ in range(num_windows)]


def _timed(run: Callable[[], Tensor | None], device: torch.device, num_calls: int) -> float:
    synchronize(device)
    start = time.perf_counter()
    for _ in range(num_calls):
        run()
    synchronize(device)
    return time.perf_counter() - start


@final
class Meter:
    """Told after every step; says when there were enough.

    The device is waited for at the ends of windows only. The first half of the warm-up is for compilation, the second half
    tells how many steps fill a window. With `max_steps` there are as many windows as these steps fill.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        warm_up_steps: int,
        window_s: float,
        num_windows: int,
        max_steps: int = 0,
    ) -> None:
        self.device, self.warm_up_steps = device, max(2, warm_up_steps)
        self.window_s, self.num_windows, self.max_steps = window_s, num_windows, max_steps
        self.num_steps = self._steps_in_window = 0
        self._windows: list[tuple[float, list[Work]]] = []
        self._works: list[Work] = []
        self._began_s = self._since_s = self._ended_s = time.perf_counter()
        self._warm_up_s = self._resting_mb = 0.0

    def step(self, work: Work) -> bool:
        """Count a step; whether more are wanted."""
        self.num_steps += 1
        warming = self.num_steps - self.warm_up_steps
        if warming <= 0:
            if self.num_steps == self.warm_up_steps // 2 or warming == 0:
                self._lap(warming)
            return True
        self._works.append(work)
        is_last = self.num_steps == self.max_steps
        if len(self._works) == self._steps_in_window or is_last:
            synchronize(self.device)
            now = time.perf_counter()
            self._windows.append((now - self._since_s, self._works))
            self._works, self._since_s, self._ended_s = [], now, now
        return not is_last if self.max_steps else len(self._windows) < self.num_windows

    def _lap(self, warming: int) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if warming == 0:
            step_s = (now - self._since_s) / (self.warm_up_steps - self.warm_up_steps // 2)
            self._steps_in_window = max(1, round(self.window_s / step_s))
            self._warm_up_s = now - self._began_s
            if self.device.type == "cuda":
                self._resting_mb = torch.cuda.memory_allocated(self.device) / 1e6
                torch.cuda.reset_peak_memory_stats(self.device)
        self._since_s = time.perf_counter()

    def speed(self) -> Speed:
        """The figures, once enough steps were made."""
        if not self._windows:
            raise RuntimeError("the training ended before a window was full: give fewer seconds or more rows")
        step_s = statistics.median(seconds / len(works) for seconds, works in self._windows)

        def rates(part: str) -> list[float]:
            return [sum(getattr(work, part) for work in works) / seconds for seconds, works in self._windows]

        rows = rates("rows")
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return Speed(
            rows_per_s=statistics.median(rows),
            slowest_rows_per_s=min(rows),
            fastest_rows_per_s=max(rows),
            tokens_per_s=statistics.median(rates("tokens")),
            tflops=statistics.median(rates("flop")) / 1e12,
            useful_tflops=statistics.median(rates("useful_flop")) / 1e12,
            step_ms=step_s * 1e3,
            num_steps=sum(len(works) for _, works in self._windows),
            warm_up_s=self._warm_up_s,
            once_s=max(0.0, self._warm_up_s - self.warm_up_steps * step_s),
            total_s=self._ended_s - self._began_s,
            resting_mb=self._resting_mb,
            peak_mb=peak / 1e6,
        )
