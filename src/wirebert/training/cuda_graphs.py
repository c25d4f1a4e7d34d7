"""A whole optimizer step as one CUDA graph: the CPU launches one graph instead of a thousand kernels.

Short rows make short kernels: launched one by one from Python they leave an H200 idle two thirds of the time.
A step whose flows fit the device at once is recorded per shape of its batch
(`wirebert.model.batches.PackedShape`; few occur) and then replayed: forward pass, loss, backward pass,
clipping and update. What a step reads besides the weights lies in tensors that are filled before it: the
batch, the learning rates, and the seed of the random generator.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from wirebert.model.batches import PackedBatch, PackedShape


class Outcome(NamedTuple):
    """Results of a step; the tensors stay on the device."""

    loss: Float[Tensor, ""]
    num_right: Int[Tensor, ""]
    grad_norm: Float[Tensor, ""]


class Recorded(NamedTuple):
    """A step as it was recorded, where it reads and where it writes."""

    graph: torch.cuda.CUDAGraph
    batch: PackedBatch
    outcome: Outcome


@final
class StepGraphs:
    """Runs `step` on packed batches, from its second batch of a shape on as a recorded graph.

    The first batch of a shape runs as it is: kernels are built and buffers made then, which cannot be
    recorded.
    """

    def __init__(self, step: Callable[[PackedBatch], Outcome]) -> None:
        self._step = step
        self._seen: set[PackedShape] = set()
        self._recorded: dict[PackedShape, Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()  # one memory for all graphs: they never run at once

    def run(self, batch: PackedBatch, device: torch.device) -> Outcome:
        """One step on `batch`, which may still be in (pinned) memory of the CPU."""
        shape = batch.shape
        if shape not in self._seen:
            self._seen.add(shape)
            return self._step(batch.to(device))
        if shape not in self._recorded:
            self._recorded[shape] = self._record(batch.to(device))
        recorded = self._recorded[shape]
        recorded.batch.flat.copy_(batch.flat, non_blocking=True)
        recorded.graph.replay()
        return Outcome(*(tensor.clone() for tensor in recorded.outcome))

    def _record(self, batch: PackedBatch) -> Recorded:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        # Recording runs on a stream of its own, after what has been asked for and before what will be.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Only what this thread does is recorded: another one makes the next batches ready meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                outcome = self._step(batch)
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        return Recorded(graph, batch, outcome)
