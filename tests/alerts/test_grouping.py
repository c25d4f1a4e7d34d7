"""Groups against a plain loop over sorted flows."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.alerts.grouping import group_by_gap, group_keys, incident_ids

flows = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 60)), max_size=30)


def slowly(keys: list[int], times: list[int], gap_s: float) -> set[frozenset[int]]:
    """Rows that belong together."""
    groups: list[list[int]] = []
    for key in set(keys) - {-1}:
        before = None
        for row in sorted((row for row in range(len(keys)) if keys[row] == key), key=lambda row: times[row]):
            if before is None or times[row] - before > gap_s:
                groups.append([])
            groups[-1].append(row)
            before = times[row]
    return {frozenset(group) for group in groups}


@given(flows, st.sampled_from((0.5, 1.0, 5.0, 20.0)))
def test_groups_are_those_of_the_plain_loop(flows: list[tuple[int, int]], gap_s: float):
    keys, times = [key for key, _ in flows], [time for _, time in flows]
    found = group_by_gap(np.array(keys, np.int64), np.array(times, float), gap_s)
    groups = {frozenset(np.flatnonzero(found == number).tolist()) for number in set(found.tolist()) - {-1}}
    assert groups == slowly(keys, times, gap_s)
    assert set(found.tolist()) - {-1} == set(range(len(groups)))


def test_flows_without_a_time_or_not_chosen_are_in_no_group():
    keys = group_keys(pa.array(["a", None, "a"]), pa.array(["x", "x", "y"]), "source_and_class")
    assert len(set(keys.to_pylist())) == 3
    assert group_keys(pa.array(["a", None]), keys, "source").to_pylist() == ["a", ""]
    times = np.array([0.0, 0.0, np.nan])
    assert incident_ids(keys, times, np.array([True, False, True]), 10.0).tolist() == [0, -1, -1]
