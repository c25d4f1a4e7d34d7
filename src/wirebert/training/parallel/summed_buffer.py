"""A buffer of which all ranks add up ranges, while the device computes what comes into the next ones."""

import os
from typing import Final, Protocol, final, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from wirebert.shapes import Float
from wirebert.training.parallel.process_group import Communicator

ALIGNMENT: Final = 4
"""Ranges and parts of them begin at multiples of so many numbers, 16 bytes, which kernels move at once."""


@runtime_checkable
class SummedBuffer(Protocol):
    """Numbers of a rank that become sums over all ranks."""

    @property
    def numbers(self) -> Float[Tensor, " N"]:
        """This rank's numbers, or the sums after `finish`."""
        ...

    def begin(self, start: int, end: int) -> None:
        """Begin to add up a range beside further work of the device; all ranks begin the same ones."""
        ...

    def finish(self) -> None:
        """Let further work of the device wait until all that was begun is added up, and read by all ranks."""
        ...


def summed_buffer(size: int, device: torch.device, world: Communicator) -> SummedBuffer:
    """A buffer of `size` zeros; all ranks call this. Where GPUs reach each other's memory, they copy."""
    if device.type == "cuda" and world.all_reduce_min(int(reaches_all(world))):
        copies = _peer_copies(size, device, world)
        if world.all_reduce_min(int(copies is not None)) and copies is not None:
            return copies
    return CollectiveSums(size, device, world)


def _peer_copies(size: int, device: torch.device, world: Communicator) -> "PeerCopies | None":
    """None: this system does not let processes share a GPU's memory, as some containers."""
    try:
        return PeerCopies(size, device, world)
    except RuntimeError:
        return None


def reaches_all(world: Communicator) -> bool:
    """Whether all ranks have GPUs of this machine, whose memory this one's can read."""
    if os.environ.get("LOCAL_WORLD_SIZE") != str(world.size) or torch.cuda.device_count() < world.size:
        return False
    own = torch.cuda.current_device()
    return all(torch.cuda.can_device_access_peer(own, other) for other in range(world.size) if other != own)


@final
class CollectiveSums:
    """Sums by collectives of torch.distributed: NCCL's kernels, or gloo on CPUs."""

    def __init__(self, size: int, device: torch.device, world: Communicator) -> None:
        self.numbers = torch.zeros(size, device=device)
        self._world = world
        self._works: dict[int, dist.Work] = {}

    def begin(self, start: int, end: int) -> None:
        """Begin to add up a range."""
        self._works[start] = self._world.begin_all_reduce_sum(self.numbers[start:end])

    def finish(self) -> None:
        """Wait for all sums."""
        for work in self._works.values():
            work.wait()
        self._works.clear()


@final
class PeerCopies:
    """Sums by copies between GPUs of one machine.

    Each rank adds up its part of a range from the other ranks' memory (reduce-scatter), then copies the other
    parts from the ranks that added them up (all-gather). Copies are the work of the GPU's copy engines, where
    NCCL's kernels take multiprocessors from the products of the backward pass.

    Source: https://docs.pytorch.org/docs/stable/symmetric_memory.html.
    """

    def __init__(self, size: int, device: torch.device, world: Communicator) -> None:
        import torch.distributed._symmetric_memory as symmetric_memory  # takes a while, and is used here only

        assert dist.group.WORLD is not None
        self.numbers = symmetric_memory.empty(size, device=device).zero_()
        self._memory = symmetric_memory.rendezvous(self.numbers, dist.group.WORLD)
        self._rank, self._num_ranks = world.rank, world.size
        self._others = {
            rank: self._memory.get_buffer(rank, (size,), self.numbers.dtype)
            for rank in range(world.size)
            if rank != world.rank
        }
        self._stream = torch.cuda.Stream(device, priority=-1)

    @torch.no_grad()
    def begin(self, start: int, end: int) -> None:
        """Begin to add up a range."""
        bounds = part_bounds(start, end, self._num_ranks)
        own = slice(*bounds[self._rank])
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._memory.barrier()  # all ranks have written their numbers
            for other in self._others.values():
                self.numbers[own].add_(other[own].clone())  # a clone is no kernel's work
            self._memory.barrier()  # all parts are added up
            for rank, other in self._others.items():
                part = slice(*bounds[rank])
                self.numbers[part].copy_(other[part])

    def finish(self) -> None:
        """Wait for all sums, and until they are copied by all."""
        with torch.cuda.stream(self._stream):
            self._memory.barrier()
        torch.cuda.current_stream().wait_stream(self._stream)


def part_bounds(start: int, end: int, num_parts: int) -> list[tuple[int, int]]:
    """Start and end of each of about equal parts of a range.

    >>> part_bounds(8, 28, 3)
    [(8, 12), (12, 20), (20, 28)]
    """
    cuts = [start + (end - start) * part // num_parts // ALIGNMENT * ALIGNMENT for part in range(num_parts)]
    return list(zip(cuts, [*cuts[1:], end], strict=True))
