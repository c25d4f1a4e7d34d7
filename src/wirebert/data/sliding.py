"""Totals of many keys while flows come and go, each event seeing what stands before it."""

import numpy as np
from jaxtyping import Int64


def running_totals(
    totals: Int64[np.ndarray, "lines keys"],
    keys: Int64[np.ndarray, " events"],
    moments: Int64[np.ndarray, " events"],
    amounts: Int64[np.ndarray, "lines events"],
) -> Int64[np.ndarray, "lines events"]:
    """What each event finds in its key's totals; `totals` becomes what all events leave.

    Args:
        totals: one column per key.
        keys: column that each event is about.
        moments: order of the events, from 0; of one moment, events come in any order.
        amounts: what each event adds.

    >>> totals = np.array([[5, 0]])
    >>> running_totals(totals, np.array([0, 1, 0]), np.array([0, 1, 2]), np.array([[1, 1, -4]]))
    array([[5, 0, 6]])
    >>> totals
    array([[2, 1]])
    """
    if not len(keys):
        return amounts.copy()
    order = np.argsort(keys * (int(moments.max()) + 1) + moments)
    sorted_keys = keys[order]
    is_first = np.diff(sorted_keys, prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    stops = np.append(starts[1:], len(keys))
    group = np.cumsum(is_first) - 1
    distinct = sorted_keys[starts]
    found = np.empty_like(amounts)
    for line, values in enumerate(amounts):
        added = values[order]
        sums = np.cumsum(added)
        before = sums - added
        base = totals[line, distinct] - before[starts]
        found[line, order] = before + base[group]
        totals[line, distinct] = sums[stops - 1] + base
    return found
