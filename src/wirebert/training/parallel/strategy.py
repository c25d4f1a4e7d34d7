"""What each rank holds of a model, and what this means for a step: the only place that tells DDP from
FSDP2."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch

from wirebert.errors import TrainingError
from wirebert.model.batches import usual_tokens
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.fsdp import choose_parallel, sharded
from wirebert.training.parallel.process_group import Communicator, GradientSum


@runtime_checkable
class ParallelStrategy(Protocol):
    """How the ranks share a model."""

    @property
    def records_graphs(self) -> bool:
        """Whether a rank may record its steps as CUDA graphs."""
        ...

    @property
    def scores_all(self) -> bool:
        """Whether each rank scores all validation flows instead of a part of them."""
        ...

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """What this rank holds of the model, on its device."""
        ...

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:
        """What adds up the ranks' gradients after a step's passes, where the passes do not do it
        themselves."""
        ...

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:
        """Passes without flows that this rank adds to its own, given the most passes of any rank."""
        ...

    def agree_on_tokens(self, num_tokens: int) -> int:
        """The micro-batch of this rank, given what fits its memory."""
        ...

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """Raise a TrainingError where a step cannot be repeated in smaller micro-batches after memory ran
        out."""
        ...

    def scoring_tokens(self, device: str) -> int | None:
        """Slots of a scoring batch; None: what fits the memory."""
        ...


class Replicated:
    """Each rank holds all weights and computes its passes by itself; gradients are added up once per step."""

    records_graphs = True

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator

    @property
    def scores_all(self) -> bool:
        """As `ParallelStrategy` says."""
        return self._communicator.size == 1

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """The model itself, moved to the device."""
        return model.to(device)

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:
        """None for a single process."""
        return GradientSum(model.parameters(), self._communicator) if self._communicator.size > 1 else None

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:  # noqa: ARG002
        """None are needed."""
        return 0

    def agree_on_tokens(self, num_tokens: int) -> int:
        """Each rank for itself."""
        return num_tokens

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """Every step can be repeated."""

    def scoring_tokens(self, device: str) -> int | None:  # noqa: ARG002
        """What fits the memory of this rank."""
        return None


class Sharded:
    """Each rank holds a part of every weight, so all ranks compute every pass together (FSDP2).

    Hence no rank may add, leave out or repeat a pass by itself.
    """

    records_graphs = False
    scores_all = True

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator

    def place(self, model: DistilBert, device: torch.device) -> DistilBert:
        """A copy of this rank's part; the model itself stays as it is."""
        return sharded(model, device)

    def gradient_sum(self, model: DistilBert) -> GradientSum | None:  # noqa: ARG002
        """None: the backward pass adds gradients up."""
        return None

    def num_idle(self, num_passes: int, most_passes: Callable[[], int]) -> int:
        """As many as this rank has fewer than another."""
        return most_passes() - num_passes

    def agree_on_tokens(self, num_tokens: int) -> int:
        """The smallest of all ranks, so that each makes as many passes."""
        return self._communicator.all_reduce_min(num_tokens)

    def require_replay(self, step: int, num_tokens: int, error: BaseException) -> None:
        """No step can be repeated by one rank."""
        raise TrainingError(
            f"step {step}: memory ran out on rank {self._communicator.rank}; set training.micro_batch_tokens "
            f"to less than {num_tokens:,}, or use more GPUs"
        ) from error

    def scoring_tokens(self, device: str) -> int | None:
        """The same on all ranks: none may halve its batches."""
        return usual_tokens(device)


def choose_strategy(
    config: TrainConfig, model: DistilBert, device: torch.device, world: Communicator
) -> ParallelStrategy:
    """Whether each rank holds all weights or a part of them, as `training.parallel` says."""
    return Replicated(world) if choose_parallel(config, model, device, world) == "ddp" else Sharded(world)
