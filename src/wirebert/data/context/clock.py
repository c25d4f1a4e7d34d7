"""`ArrivalClock`: the times of a log's flows, in the order in which they arrive -> a clock that never goes
back."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

NEW_LOG_US = 86_400_000_000
"""A flow that is older than the one before it by more than this begins the log anew."""
_MAX_TIME_S = 1e12
"""No time lies further from 1970 than this."""


@dataclass(kw_only=True, slots=True)
class ArrivalClock:
    """When each flow arrived, in microseconds since the first.

    A flow arrives at its own time or, where flows before it are later, together with the latest of them:
    sensors write flows when they end, and times tell when they began. A flow without a time arrives together
    with the one before it. A log that goes back by more than a day (another capture, or a clock that had been
    set wrong for one flow) begins
    anew: its first flow arrives one `reset_us` after the flow before it, as does any flow after a longer
    silence.

    >>> ArrivalClock(reset_us=3_600_000_000).arrivals(np.array([5.0, 7.0, 6.5, np.nan, 7.5]))
    array([      0, 2000000, 2000000, 2000000, 2500000])
    """

    reset_us: int
    """Silence, in microseconds, beyond which its length does not matter."""
    now_us: int = 0
    """Arrival of the latest flow."""
    last_us: int | None = None
    """Time of the last flow that has one."""
    latest_us: int = 0
    """Latest time since the log began."""

    def arrivals(self, time_s: Float64[np.ndarray, " flows"]) -> Int64[np.ndarray, " flows"]:
        """Arrival of each flow; the clock goes on from the latest of them."""
        is_known = np.abs(time_s) < _MAX_TIME_S
        time_us = np.rint(time_s[is_known] * 1e6).astype(np.int64)
        if not len(time_us):
            return np.full(len(time_s), self.now_us)
        if self.last_us is None:
            self.last_us = self.latest_us = int(time_us[0])
        is_new_log = np.diff(time_us, prepend=self.last_us) < -NEW_LOG_US
        latest_us = _latest(np.append(self.latest_us, time_us), np.append(False, is_new_log))
        steps_us = np.minimum(np.where(is_new_log, self.reset_us, np.diff(latest_us)), self.reset_us)
        known_us = np.append(self.now_us, self.now_us + np.cumsum(steps_us))
        self.now_us, self.last_us, self.latest_us = int(known_us[-1]), int(time_us[-1]), int(latest_us[-1])
        return known_us[np.cumsum(is_known)]

    def to_dict(self) -> dict[str, int | None]:
        """Plain data, from which `ArrivalClock(**plain)` goes on."""
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
