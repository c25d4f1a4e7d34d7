"""Metrics of optimizer steps, summed on the device until they are read."""

from dataclasses import dataclass
from math import isfinite
from typing import Final, NamedTuple, final

import torch
from torch import Tensor

from wirebert.shapes import Float, Int
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator

NEVER: Final = -1
LATER: Final = 2**62
MOST_KEPT: Final = 1_000
"""Steps whose results are kept before they are summed up."""


@final
@dataclass(frozen=True, slots=True)
class TrainStep:
    """The metrics of one optimizer step. The tensors stay on the device: reading one waits for it."""

    index: int
    """Steps done, including this one."""

    epoch: int
    """Epochs done before this step."""

    loss: Float[Tensor, ""]
    grad_norm: Float[Tensor, ""]
    """Norm of all gradients before clipping; not finite if fp16 overflowed and the step was skipped."""

    num_flows: int
    num_tokens: int
    """Tokens without padding."""

    num_answers: int
    """Number of targets in the mean loss: the flows, or in pretraining the masked tokens."""


class MetricTotals(NamedTuple):
    """Metrics over the steps since the last reading, as plain numbers."""

    num_steps: int
    num_flows: int
    num_tokens: int
    loss: float
    """Mean over the flows; in pretraining, over the masked tokens."""

    accuracy: float
    """Fraction of correct predictions during training, with dropout and corruption on."""

    grad_norm: float
    """Gradient norm of the last step."""

    num_overflows: int
    """Steps whose fp16 gradients overflowed."""


class _Kept(NamedTuple):
    step: TrainStep
    num_right: Float[Tensor, ""] | Int[Tensor, ""]
    may_overflow: bool


@final
class StepMetrics:
    """The results of steps, kept on the device until all ranks read them after the same step."""

    def __init__(self, world: Communicator = SINGLE_RANK) -> None:
        self._world = world
        self._kept: list[_Kept] = []  # summed only when they are read: launches would cost more than the sums
        # loss * answers, right answers, overflows
        self._sums = [0.0, 0.0, 0.0]
        self._grad_norm = 0.0
        self._first_bad_step = NEVER
        self._num_steps = self._num_flows = self._num_tokens = self._num_answers = 0

    def add(self, step: TrainStep, num_right: Tensor, *, may_overflow: bool) -> None:
        """Add one step; hardly ever waits for the device."""
        self._kept.append(_Kept(step, num_right, may_overflow))
        if len(self._kept) == MOST_KEPT:
            self._sum_up()
        self._num_steps += 1
        self._num_flows += step.num_flows
        self._num_tokens += step.num_tokens
        self._num_answers += step.num_answers

    def _sum_up(self) -> None:
        """Add the kept steps to the sums. Waits for the device."""
        if not self._kept:
            return
        results = [(one.step.loss, one.num_right, one.step.grad_norm) for one in self._kept]
        on_host = torch.stack([part.double() for parts in results for part in parts]).view(-1, 3).tolist()
        for one, (loss, num_right, grad_norm) in zip(self._kept, on_host, strict=True):
            overflowed = not isfinite(grad_norm)
            is_bad = not isfinite(loss) or (overflowed and not one.may_overflow)
            if is_bad and self._first_bad_step == NEVER:
                self._first_bad_step = one.step.index
            parts = (loss * one.step.num_answers, num_right, overflowed)
            self._sums = [total + part for total, part in zip(self._sums, parts, strict=True)]
            self._grad_norm = grad_norm
        self._kept.clear()

    @property
    def num_steps(self) -> int:
        """Steps since the last reading."""
        return self._num_steps

    def first_bad_step(self) -> int | None:
        """The first step with a loss or gradient that was not finite, or None. Waits for the device."""
        self._sum_up()
        step = self._first_bad_step
        first = self._world.all_reduce_min(LATER if step == NEVER else step)
        return None if first == LATER else first

    def read(self) -> MetricTotals:
        """The totals since the last reading; resets them. Waits for the device."""
        self._sum_up()
        sums = torch.tensor(self._sums, dtype=torch.float64)
        self._world.all_reduce_sum(sums[:2])  # all ranks overflow together
        loss, num_right, num_overflows = sums.tolist()
        totals = MetricTotals(
            num_steps=self._num_steps,
            num_flows=self._num_flows,
            num_tokens=self._num_tokens,
            loss=loss / max(1, self._num_answers),
            accuracy=num_right / max(1, self._num_answers),
            grad_norm=self._grad_norm,
            num_overflows=int(num_overflows),
        )
        self._sums = [0.0, 0.0, 0.0]
        self._num_steps = self._num_flows = self._num_tokens = self._num_answers = 0
        return totals
