"""The sum of all ranks' gradients, sent in pieces while the backward pass computes the next ones."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final, final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from wirebert.training.parallel.process_group import Communicator

PIECE_BYTES: Final = 25 * 2**20
"""Least size of a piece: smaller ones cost more starts, larger ones leave more to send at the end."""

ALIGNMENT: Final = 4
"""Each gradient begins at a multiple of so many numbers, 16 bytes, which kernels read and write at once."""


def _room(parameter: nn.Parameter) -> int:
    """Numbers that a gradient takes in the buffer, rounded up."""
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


@final
class _Piece:
    """Gradients of some weights, side by side in one part of the buffer."""

    def __init__(self, parameters: Sequence[nn.Parameter], flat: Tensor) -> None:
        self.parameters, self._flat = parameters, flat
        parts = flat.split([_room(own) for own in parameters])
        self._parts = [part[: own.numel()].view_as(own) for part, own in zip(parts, parameters, strict=True)]
        self._work: dist.Work | None = None

    @torch.no_grad()
    def collect(self) -> None:
        """Move this rank's gradients (zeros where there are none) into the buffer."""
        gradients = [torch.zeros_like(own) if own.grad is None else own.grad for own in self.parameters]
        torch._foreach_copy_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            self._parts, gradients
        )
        for parameter in self.parameters:
            parameter.grad = None

    def send(self, world: Communicator) -> None:
        """Begin to add up the buffer's part."""
        self._work = world.begin_all_reduce_sum(self._flat)

    def receive(self) -> None:
        """Wait for the sum, and set it as the gradients."""
        assert self._work is not None
        self._work.wait()
        self._work = None
        for parameter, part in zip(self.parameters, self._parts, strict=True):
            parameter.grad = part


@final
class GradientSum:
    """The sum of all ranks' gradients, once per step.

    As in DistributedDataParallel every rank holds all weights, trains on its part of a step's flows and makes
    the same update. The pieces are sent in the same order by all ranks, however each of them cuts its part
    into batches: the weights that the backward pass reaches first come first.

    Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020,
    section 3.2.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], world: Communicator, piece_bytes: int = PIECE_BYTES
    ) -> None:
        self._world = world
        trained = [parameter for parameter in parameters if parameter.requires_grad][::-1]
        flat = torch.zeros(sum(_room(own) for own in trained), device=trained[0].device)
        self._pieces: list[_Piece] = []
        start = end = 0
        members: list[nn.Parameter] = []
        for parameter in trained:
            members.append(parameter)
            end += _room(parameter)
            if (end - start) * flat.itemsize >= piece_bytes or parameter is trained[-1]:
                self._pieces.append(_Piece(members, flat[start:end]))
                start, members = end, []
        self._num_sent = 0

    def collect(self) -> None:
        """Move this rank's gradients, of one or several backward passes, into the buffer."""
        for piece in self._pieces:
            piece.collect()

    @contextmanager
    def sent_while_computed(self) -> Generator[None]:
        """`collect` of the one backward pass inside; each piece is sent as soon as it is complete.

        Only for a pass that is being recorded: one that runs could fail for lack of memory and be repeated,
        while the other ranks have added up what was sent.
        """
        missing = [len(piece.parameters) for piece in self._pieces]

        def hook(place: int) -> Callable[[Tensor], None]:
            def count(_: Tensor) -> None:
                missing[place] -= 1
                while self._num_sent < len(missing) and not missing[self._num_sent]:
                    self._pieces[self._num_sent].collect()
                    self._send_next()

            return count

        handles = [
            parameter.register_post_accumulate_grad_hook(hook(place))
            for place, piece in enumerate(self._pieces)
            for parameter in piece.parameters
        ]
        is_complete = False
        try:
            yield
            is_complete = True
        finally:
            for handle in handles:
                handle.remove()
            if not is_complete:  # what was recorded until then never runs
                self._num_sent = 0
        for piece in self._pieces[self._num_sent :]:  # with weights that got no gradient
            piece.collect()

    def exchange(self) -> None:
        """Set every parameter's gradient to the sum over all ranks, until it is set to None again."""
        while self._num_sent < len(self._pieces):
            self._send_next()
        self._num_sent = 0
        for piece in self._pieces:
            piece.receive()

    def _send_next(self) -> None:
        self._pieces[self._num_sent].send(self._world)
        self._num_sent += 1
