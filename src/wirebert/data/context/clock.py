"""`ArrivalClock`: the times of a log's flows in order of arrival -> a clock that never runs backwards."""

from dataclasses import asdict, dataclass

import numpy as np

from wirebert.shapes import Bool, Float64, Int64

NEW_LOG_US = 86_400_000_000
"""A flow that is older than the flow before it by more than this starts a new log."""
_MAX_TIME_S = 1e12
"""Times further from 1970 than this are invalid."""


@dataclass(kw_only=True, slots=True)
class ArrivalClock:
    """When each flow arrived, in microseconds since the first.

    A flow arrives at its own time or, if earlier flows have later times, together with the latest of them:
    sensors write flows when they end, but the time is their start. A flow without a time arrives together
    with the flow before it. A log that goes back by more than a day (another capture, or one wrong clock
    value) starts again: its first flow arrives `reset_us` after the flow before it, as does any flow after a
    longer silence.

    >>> ArrivalClock(reset_us=3_600_000_000).arrivals(np.array([5.0, 7.0, 6.5, np.nan, 7.5]))
    array([      0, 2000000, 2000000, 2000000, 2500000])
    """

    reset_us: int
    """Silence, in microseconds, beyond which its length does not matter."""
    now_us: int = 0
    """Arrival of the latest flow."""
    last_us: int | None = None
    """Time of the last flow with a time."""
    latest_us: int = 0
    """Latest time since the log began."""

    def arrivals(self, time_s: Float64[np.ndarray, " flows"]) -> Int64[np.ndarray, " flows"]:
        """Arrival of each flow; the clock continues from the latest one."""
        has_time = np.abs(time_s) < _MAX_TIME_S
        time_us = np.rint(time_s[has_time] * 1e6).astype(np.int64)
        if not len(time_us):
            return np.full(len(time_s), self.now_us)
        if self.last_us is None:
            self.last_us = self.latest_us = int(time_us[0])
        is_new_log = np.diff(time_us, prepend=self.last_us) < -NEW_LOG_US
        latest_us = _latest(np.append(self.latest_us, time_us), np.append(False, is_new_log))
        steps_us = np.minimum(np.where(is_new_log, self.reset_us, np.diff(latest_us)), self.reset_us)
        arrivals_us = np.append(self.now_us, self.now_us + np.cumsum(steps_us))
        self.now_us, self.last_us, self.latest_us = int(arrivals_us[-1]), int(time_us[-1]), int(latest_us[-1])
        return arrivals_us[np.cumsum(has_time)]

    def to_dict(self) -> dict[str, int | None]:
        """Plain data; `ArrivalClock(**plain)` restores the clock."""
        return asdict(self)


def _latest(
    time_us: Int64[np.ndarray, " flows"], is_new_log: Bool[np.ndarray, " flows"]
) -> Int64[np.ndarray, " flows"]:
    """Latest time so far, from each new log on."""
    if not is_new_log.any():
        return np.maximum.accumulate(time_us)
    distinct_us, rank = np.unique(time_us, return_inverse=True)
    base = np.cumsum(is_new_log) * len(distinct_us)  # lifts each log above all ranks of the one before
    return distinct_us[np.maximum.accumulate(rank + base) - base]
