from collections.abc import Callable
from dataclasses import replace

import pytest

from wirebert.telemetry.events import Event, StartEvent, WarningEvent
from wirebert.telemetry.state import DashboardState

Tell = Callable[..., list[tuple[Event, float]]]


def picture(events: list[tuple[Event, float]]) -> DashboardState:
    return DashboardState.of(events, title="runs/x", hint="")


def test_time_left_is_the_steps_left_at_the_mean_pace(tell: Tell):
    # 100 steps took 10 s, 200 are left; 3 s have gone by since that was told.
    assert picture(tell(until=100)).left_s(1013.0) == pytest.approx(17.0)


def test_time_goes_on_between_two_events_and_stands_still_after_the_end(tell: Tell):
    assert picture(tell(until=100)).elapsed_s(1013.0) == pytest.approx(13.0)
    assert picture(tell()).elapsed_s(9999.0) == pytest.approx(30.0)


def test_nothing_is_known_before_the_first_event():
    empty = picture([])
    assert (empty.left_s(5.0), empty.elapsed_s(5.0), empty.epoch, empty.best) == (None, 0.0, None, None)


def test_the_best_evaluation_is_not_the_last_one(tell: Tell):
    told = picture(tell())
    assert told.best is not None
    assert told.epoch is not None
    assert (told.best.step, told.epoch.step) == (200, 300)


def test_training_that_goes_on_forgets_the_steps_it_makes_again(tell: Tell):
    events = tell(until=280)
    start = events[0][0]
    assert isinstance(start, StartEvent)
    told = picture([*events, (replace(start, step=200), 2000.0)])
    assert told.sparklines["loss"].steps[-1] == 200
    assert told.sparklines["valid_loss"].steps == [100.0, 200.0]
    assert told.step is None
    assert [event.step for event in told.evaluations] == [100, 200]


def test_training_that_starts_over_forgets_everything(tell: Tell):
    events = tell(until=280)
    told = picture([*events, (events[0][0], 2000.0)])
    assert (told.epoch, told.step, told.sparklines["loss"].steps) == (None, None, [])


def test_a_number_that_is_not_finite_leaves_a_gap(tell: Tell):
    events = tell(until=40)
    step = events[-1][0]
    told = picture([*events, (replace(step, step=60, grad_norm=float("inf")), 1006.0)])
    assert told.sparklines["grad_norm"].steps == [20.0, 40.0]


def test_warnings_are_kept_and_the_last_one_is_noted():
    told = picture([(WarningEvent(step=1, message=text), 0.0) for text in ("first", "second")])
    assert told.warnings == ["first", "second"]
    assert (told.note, told.is_warning) == ("warning: second", True)
