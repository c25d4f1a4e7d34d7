# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from capture_generator.captures import (
    CAPTURED_LABELS,
    captures,
    group_calls,
    page_loads,
)

from wirebert.data.synthetic import generate
from wirebert.data.synthetic.network import FIRST_GROUP, Network
from wirebert.data.synthetic.wire import Scene
from wirebert.data.times import seconds_of


def scene() -> Scene:
    return Scene(Network(0), np.random.default_rng(0), 0.3, 0.31)


@pytest.fixture(scope="module")
def some() -> list[pa.Table]:
    return list(captures(25, seed=1))


def test_captures_have_the_columns_of_generated_traffic(some: list[pa.Table]):
    expected = next(generate(10, seed=0)).schema
    assert all(capture.schema.equals(expected) for capture in some)


def test_the_same_seed_gives_the_same_captures(some: list[pa.Table]):
    assert next(captures(1, seed=1)).equals(some[0])


def test_captures_lie_farther_apart_than_any_window_reaches(some: list[pa.Table]):
    seconds = [seconds_of(pa.chunked_array([capture["ts"].combine_chunks()])) for capture in some]
    for one, after in pairwise(seconds):
        assert after.min() - one.max() > 86_400


def test_flows_of_a_capture_are_in_order_of_time(some: list[pa.Table]):
    for capture in some:
        assert capture["ts"].to_pylist() == sorted(capture["ts"].to_pylist())


def test_captures_differ_in_hosts_and_pace_by_orders_of_magnitude(some: list[pa.Table]):
    hosts = [pc.count_distinct(capture["src_ip"]).as_py() for capture in some]
    spans_s = [np.ptp(seconds_of(pa.chunked_array([capture["ts"].combine_chunks()]))) for capture in some]
    assert max(hosts) > 10 * min(hosts)
    assert max(spans_s) > 30 * min(spans_s)


def test_about_half_of_the_captures_hold_an_attack(some: list[pa.Table]):
    attacked = [set(capture["label"].to_pylist()) - {"benign"} for capture in some]
    assert all(len(labels) <= 1 for labels in attacked)
    assert 6 <= sum(map(bool, attacked)) <= 19
    assert set.union(*attacked) <= set(CAPTURED_LABELS.values())


@pytest.mark.parametrize("activity", [page_loads, group_calls])
@pytest.mark.parametrize("count", [1, 7, 200])
def test_as_many_flows_as_asked_for(activity: Callable[[Scene, int], pa.Table], count: int):
    assert activity(scene(), count).num_rows == count


def test_nobody_answers_a_call_to_a_group():
    found = group_calls(scene(), 50)
    assert pc.min(found["destination"]).as_py() >= FIRST_GROUP
    assert set(found["conn_state"].to_pylist()) == {"S0"}
