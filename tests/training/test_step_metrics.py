import math

import pytest
import torch

from wirebert.training.step_metrics import StepMetrics, TrainStep


def counted(*steps: tuple[float, float, int, int], may_overflow: bool = False) -> StepMetrics:
    """A tally of steps given as loss, gradient norm, flows, right answers."""
    tally = StepMetrics()
    for index, (loss, grad_norm, num_flows, num_right) in enumerate(steps, start=1):
        step = TrainStep(
            index, 0, torch.tensor(loss), torch.tensor(grad_norm), num_flows, 5 * num_flows, num_flows
        )
        tally.add(step, torch.tensor(num_right), may_overflow=may_overflow)
    return tally


def test_totals_are_means_over_flows_not_over_steps():
    totals = counted((1.0, 3.0, 10, 4), (4.0, 2.0, 20, 11)).read()
    assert totals.loss == pytest.approx((10 * 1 + 20 * 4) / 30)
    assert totals.accuracy == pytest.approx(15 / 30)
    assert (totals.num_steps, totals.num_flows, totals.num_tokens) == (2, 30, 150)
    assert totals.grad_norm == 2.0


def test_reading_starts_the_sums_over():
    tally = counted((1.0, 1.0, 10, 4))
    tally.read()
    assert tally.read().num_flows == 0


def test_the_first_bad_step_is_told():
    assert counted((1.0, 1.0, 1, 0), (1.0, math.inf, 1, 0), (math.nan, 1.0, 1, 0)).first_bad_step() == 2
    assert counted((1.0, 1.0, 1, 0)).first_bad_step() is None


def test_an_overflow_is_counted_and_not_bad_where_it_may_happen():
    tally = counted((1.0, math.inf, 1, 0), (1.0, 1.0, 1, 0), may_overflow=True)
    assert tally.first_bad_step() is None
    assert tally.read().num_overflows == 1
