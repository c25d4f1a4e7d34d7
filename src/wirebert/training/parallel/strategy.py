"""How the ranks share a model: the only module that distinguishes DDP from FSDP2."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from wirebert.errors import TrainingError
from wirebert.model.batches import usual_tokens
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.fsdp import choose_parallel, sharded
from wirebert.training.parallel.gradient_sum import GradientSum
from wirebert.training.parallel.process_group import Communicator


@runtime_checkable
class ParallelStrategy(Protocol):
    """How the ranks share a model."""

    @property
    def holds_all_weights(self) -> bool:
        """Whether each rank holds all weights, so that it may record its steps and copy weights."""
        ...

    @property
    def scores_all(self) -> bool:
        """Whether each rank scores all validation flows instead of a part of them."""
        ...

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """This rank's model (or part of it), on its device."""
        ...

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:
        """The sum of the ranks' gradients, to run after a step's passes; None if it is not needed."""
        ...

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:
        """Passes without flows that this rank has to add; `most_passes` is the maximum over all ranks."""
        ...

    def agree_on_tokens(self, num_tokens: int) -> int:
        """The micro-batch of this rank, in tokens, given the tokens that fit its memory."""
        ...

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """After memory ran out, raise a TrainingError if the step cannot be repeated in smaller batches."""
        ...

    def scoring_tokens(self, device: str) -> int | None:
        """Tokens of a scoring batch; None: as many as fit the memory."""
        ...


class Replicated:
    """Each rank holds all weights and computes its own passes; gradients are summed once per step."""

    holds_all_weights = True

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator

    @property
    def scores_all(self) -> bool:
        """Only a single process scores all flows."""
        return self._communicator.size == 1

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """The model itself, moved to the device."""
        return model.to(device)

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:
        """The sum over all ranks; None for a single process."""
        if self._communicator.size == 1:
            return None
        total = GradientSum(model.parameters(), self._communicator)
        total.attach(model)
        return total

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:  # noqa: ARG002
        """Always 0."""
        return 0

    def agree_on_tokens(self, num_tokens: int) -> int:
        """This rank's number, without agreement."""
        return num_tokens

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """Every step can be repeated."""

    def scoring_tokens(self, device: str) -> int | None:  # noqa: ARG002
        """None: as many as fit the memory of this rank."""
        return None


class Sharded:
    """Each rank holds a part of every weight, so all ranks compute every pass together (FSDP2).

    Hence no rank may add, skip or repeat a pass alone.
    """

    holds_all_weights = False
    scores_all = True

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """This rank's part of a copy; the model itself is unchanged."""
        return sharded(model, device)

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:  # noqa: ARG002
        """None: the backward pass sums gradients."""
        return None

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:
        """The difference to the rank with the most passes."""
        return most_passes() - num_passes

    def agree_on_tokens(self, num_tokens: int) -> int:
        """The minimum over all ranks, so that all make the same number of passes."""
        return self._communicator.all_reduce_min(num_tokens)

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """Always raises: a rank cannot repeat a step alone."""
        raise TrainingError(
            f"step {step}: memory ran out on rank {self._communicator.rank}; set training.micro_batch_tokens "
            f"to less than {num_tokens:,}, or use more GPUs"
        ) from error

    def scoring_tokens(self, device: str) -> int | None:
        """The same on all ranks, since none may halve its batches alone."""
        return usual_tokens(device)


def choose_strategy(
    config: TrainConfig, model: DistilBert, device: torch.device, world: Communicator
) -> ParallelStrategy:
    """The strategy set by `training.parallel`."""
    return Replicated(world) if choose_parallel(config, model, device, world) == "ddp" else Sharded(world)
