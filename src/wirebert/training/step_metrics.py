"""Metrics of optimizer steps, summed on the device until they are read."""

from dataclasses import dataclass
from typing import Final, NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator

NEVER: Final = -1
LATER: Final = 2**62


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


@final
class StepMetrics:
    """Sums over steps, kept on the device until all ranks read them after the same step."""

    def __init__(self, device: torch.device, world: Communicator = SINGLE_RANK) -> None:
        self._world = world
        # loss * answers, right answers, overflows
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._grad_norm = torch.zeros((), device=device)
        self._first_bad_step = torch.full((), NEVER, device=device)
        self._num_steps = self._num_flows = self._num_tokens = self._num_answers = 0

    def add(self, step: TrainStep, num_right: Int[Tensor, ""], *, may_overflow: bool) -> None:
        """Add one step without waiting for the device."""
        overflowed = ~torch.isfinite(step.grad_norm)
        is_bad = ~torch.isfinite(step.loss) if may_overflow else overflowed | ~torch.isfinite(step.loss)
        self._sums += torch.stack(
            [step.loss.double() * step.num_answers, num_right.double(), overflowed.double()]
        )
        self._grad_norm = step.grad_norm
        is_first = is_bad & (self._first_bad_step == NEVER)
        self._first_bad_step = torch.where(is_first, step.index, self._first_bad_step)
        self._num_steps += 1
        self._num_flows += step.num_flows
        self._num_tokens += step.num_tokens
        self._num_answers += step.num_answers

    @property
    def num_steps(self) -> int:
        """Steps since the last reading."""
        return self._num_steps

    def first_bad_step(self) -> int | None:
        """The first step with a loss or gradient that was not finite, or None. Waits for the device."""
        step = int(self._first_bad_step)
        first = self._world.all_reduce_min(LATER if step == NEVER else step)
        return None if first == LATER else first

    def read(self) -> MetricTotals:
        """The totals since the last reading; resets them. Waits for the device."""
        sums = self._sums.cpu()
        self._world.all_reduce_sum(sums[:2])  # all ranks overflow together
        loss, num_right, num_overflows = sums.tolist()
        totals = MetricTotals(
            num_steps=self._num_steps,
            num_flows=self._num_flows,
            num_tokens=self._num_tokens,
            loss=loss / max(1, self._num_answers),
            accuracy=num_right / max(1, self._num_answers),
            grad_norm=float(self._grad_norm),
            num_overflows=int(num_overflows),
        )
        self._sums.zero_()
        self._num_steps = self._num_flows = self._num_tokens = self._num_answers = 0
        return totals
