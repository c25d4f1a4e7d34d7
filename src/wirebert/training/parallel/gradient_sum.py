"""The sum of all ranks' gradients, sent in pieces while the backward pass computes the next ones."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Final, final

import torch
from torch import Tensor, nn

from wirebert.model.linear import Linear
from wirebert.training.parallel.process_group import Communicator
from wirebert.training.parallel.summed_buffer import ALIGNMENT, SummedBuffer, summed_buffer

PIECE_BYTES: Final = 25 * 2**20
"""Least size of a piece: smaller ones cost more starts, larger ones leave more to send at the end."""


def _room(parameter: nn.Parameter) -> int:
    """Numbers that a gradient takes in the buffer, rounded up."""
    return -(-parameter.numel() // ALIGNMENT) * ALIGNMENT


@final
class _Piece:
    """Gradients of some weights, side by side in the buffer from `start` on."""

    def __init__(self, parameters: Sequence[nn.Parameter], buffer: SummedBuffer, start: int) -> None:
        self.parameters, self._buffer = parameters, buffer
        rooms = [_room(own) for own in parameters]
        self._range = start, start + sum(rooms)
        parts = buffer.numbers[slice(*self._range)].split(rooms)
        self.parts = [part[: own.numel()].view_as(own) for part, own in zip(parts, parameters, strict=True)]

    @torch.no_grad()
    def collect(self) -> None:
        """Move this rank's gradients (zeros where there are none) into the buffer, if they are not there."""
        parts: list[Tensor] = []
        gradients: list[Tensor] = []
        for parameter, part in zip(self.parameters, self.parts, strict=True):
            gradient, parameter.grad = parameter.grad, None
            if gradient is None or gradient.data_ptr() != part.data_ptr():
                parts.append(part)
                gradients.append(torch.zeros_like(part) if gradient is None else gradient)
        if parts:
            torch._foreach_copy_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
                parts, gradients
            )

    def send(self) -> None:
        """Begin to add up the buffer's part."""
        self._buffer.begin(*self._range)

    def receive(self) -> None:
        """Set the sum as the gradients."""
        for parameter, part in zip(self.parameters, self.parts, strict=True):
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
        trained = [parameter for parameter in parameters if parameter.requires_grad][::-1]
        self._buffer = summed_buffer(sum(_room(own) for own in trained), trained[0].device, world)
        self._pieces: list[_Piece] = []
        start = end = 0
        members: list[nn.Parameter] = []
        for parameter in trained:
            members.append(parameter)
            end += _room(parameter)
            if (end - start) * self._buffer.numbers.itemsize >= piece_bytes or parameter is trained[-1]:
                self._pieces.append(_Piece(members, self._buffer, start))
                start, members = end, []
        self._num_sent = 0
        self._layers: list[Linear] = []

    def attach(self, model: nn.Module) -> None:
        """Let the backward pass write gradients of the model's layers into the buffer at once."""
        rooms: dict[Tensor, Tensor] = {}
        for piece in self._pieces:
            rooms |= zip(piece.parameters, piece.parts, strict=True)
        for layer in model.modules():
            if isinstance(layer, Linear):
                layer.gradient_room = rooms.get(layer.weight)
                self._layers.append(layer)

    def close(self) -> None:
        """Undo `attach`: the layers hold the buffer, and may outlive this."""
        for layer in self._layers:
            layer.gradient_room = None
        self._layers.clear()

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
        self._buffer.finish()
        for piece in self._pieces:
            piece.receive()

    def _send_next(self) -> None:
        self._pieces[self._num_sent].send()
        self._num_sent += 1
