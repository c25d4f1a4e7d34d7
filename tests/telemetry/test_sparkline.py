from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.telemetry.sparkline import Sparkline, draw


def dots(lines: list[str]) -> np.ndarray:
    """The drawn field as rows of dots, from the top, by the numbering of the Unicode standard."""
    places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (3, 0), (3, 1)]
    field = np.zeros((4 * len(lines), 2 * len(lines[0])), bool)
    for y, line in enumerate(lines):
        for x, character in enumerate(line):
            for bit, (row, column) in enumerate(places):
                field[4 * y + row, 2 * x + column] = (ord(character) - 0x2800) >> bit & 1
    return field


def test_a_rising_line_rises_one_dot_a_column():
    field = dots(draw([0.0, 7.0], [0.0, 7.0], width=4, height=2))
    assert [int(np.flatnonzero(field[:, column])[0]) for column in range(8)] == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_spike_among_many_points_is_drawn():
    values = [0.0] * 1000
    values[501] = 1.0
    field = dots(draw([float(step) for step in range(1000)], values, width=5, height=2))
    assert field[0].any()
    assert field[7].sum() >= 9  # the floor is drawn as well


def test_a_curve_has_no_gaps_between_columns():
    field = dots(draw([0.0, 1.0, 2.0], [0.0, 100.0, 0.0], width=3, height=4))
    spans = [np.flatnonzero(field[:, column]) for column in range(6)]
    assert all(len(span) for span in spans)
    for left, right in pairwise(spans):
        assert left[0] <= right[-1] + 1
        assert right[0] <= left[-1] + 1


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0]])
def test_a_flat_curve_is_a_line_in_the_middle(values: list[float]):
    field = dots(draw([float(i) for i in range(len(values))], values, width=3, height=3))
    assert np.flatnonzero(field.any(axis=1)).tolist() == [5]


def test_no_points_give_blanks_and_no_room_gives_nothing():
    assert draw([], [], width=3, height=2) == ["\u2800" * 3] * 2
    assert draw([1.0], [1.0], width=3, height=0) == []


def test_on_a_logarithmic_axis_equal_factors_are_equal_steps():
    field = dots(draw([0.0, 1.0, 2.0], [1.0, 10.0, 100.0], width=10, height=3, is_log=True))
    straight = dots(draw([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], width=10, height=3))
    assert (field[:, [0, -1]] == straight[:, [0, -1]]).all()


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    width=st.integers(1, 12),
    height=st.integers(1, 6),
)
def test_every_column_is_drawn_within_the_field(values: list[float], width: int, height: int):
    lines = draw([float(step) for step in range(len(values))], values, width=width, height=height)
    assert [len(line) for line in lines] == [width] * height
    assert dots(lines).any(axis=0).all()


def test_a_trace_stays_small_and_keeps_its_mean():
    trace = Sparkline(max_points=8)
    for step in range(1, 1025):
        trace.add(step, float(step))
    assert len(trace.steps) <= 8
    assert trace.steps == sorted(trace.steps)
    assert trace.steps == trace.values


def test_a_drawing_is_made_anew_when_the_trace_has_changed():
    trace = Sparkline()
    trace.add(0, 1.0)
    flat = trace.draw(4, 2, is_log=False)
    assert trace.draw(4, 2, is_log=False) is flat
    trace.add(1, 5.0)
    assert trace.draw(4, 2, is_log=False) != flat


def test_going_back_forgets_the_points_after_the_step():
    trace = Sparkline()
    for step in (10, 20, 30):
        trace.add(step, float(step))
    trace.go_back_to(20)
    assert trace.steps == [10.0, 20.0]
