"""Arrival: late flows, missing times, logs that go back."""

from typing import Any

import numpy as np
import pytest

from wirebert.data.context.clock import ArrivalClock

DAY_S = 86_400.0
NONE = float("nan")


def clock() -> ArrivalClock:
    return ArrivalClock(reset_us=10_000_000)


@pytest.mark.parametrize(
    ("times_s", "arrivals_s"),
    [
        ([], []),
        ([NONE, NONE], [0, 0]),
        ([NONE, 7.0, 8.0], [0, 0, 1]),
        ([7.0, 8.0, 7.5, 7.0, 9.0], [0, 1, 1, 1, 2]),
        ([7.0, NONE, 8.0, NONE], [0, 0, 1, 1]),
        ([7.0, 7.0 + 3 * DAY_S], [0, 10]),  # a long silence counts as the reset
        ([9 * DAY_S, 9 * DAY_S + 1, 5.0, 6.0], [0, 1, 11, 12]),  # another capture begins
        ([5.0, 9 * DAY_S, 6.0, 7.0], [0, 10, 20, 21]),  # one wrong time does not stop the clock
        ([5.0, float("inf"), 1e300, 6.0], [0, 0, 0, 1]),  # no times at all
    ],
)
def test_arrivals(times_s: list[float], arrivals_s: list[int]):
    assert clock().arrivals(np.array(times_s)).tolist() == [second * 1_000_000 for second in arrivals_s]


def test_the_clock_goes_on_from_plain_data():
    times_s = np.array([5.0, 9 * DAY_S, NONE, 6.0, 5.5, 7.0])
    whole = clock().arrivals(times_s)
    going = clock()
    parts: list[int] = []
    for time_s in times_s:
        parts += going.arrivals(np.array([time_s])).tolist()
        plain: dict[str, Any] = going.to_dict()
        going = ArrivalClock(**plain)
    assert parts == whole.tolist()
