"""A whole optimizer step as one CUDA graph: the CPU launches one graph instead of a thousand kernels.

Short rows make short kernels: launched one by one from Python they leave an H200 idle two thirds of the time.
A step that fits the device in one batch is recorded once per batch shape
(`wirebert.model.batches.PackedShape`; few occur) and then replayed: forward pass, loss, backward pass,
clipping and update. The other inputs of a step are in tensors that are filled before it: the batch, the
learning rates, and the seed of the random generator.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor

from wirebert.model.batches import PackedBatch, PackedShape
from wirebert.shapes import Float, Int


class Outcome(NamedTuple):
    """Results of a step; the tensors stay on the device."""

    loss: Float[Tensor, ""]
    num_right: Float[Tensor, ""] | Int[Tensor, ""]
    grad_norm: Float[Tensor, ""]


class Recorded(NamedTuple):
    """A recorded step, with the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    batch: PackedBatch
    outcome: Float[Tensor, "3"]
    """Loss, correct predictions and norm, together: one copy instead of three."""


@final
class StepGraphs:
    """Runs `step` on packed batches, as a recorded graph from the second batch of a shape on.

    The first batch of a shape is not recorded: it compiles kernels and allocates buffers.
    """

    def __init__(
        self, step: Callable[[PackedBatch], Outcome], after_recording: Callable[[], None] | None = None
    ) -> None:
        self._step, self._after_recording = step, after_recording
        self._seen: set[PackedShape] = set()
        self._recorded: dict[PackedShape, Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle()  # shared memory: graphs never run at the same time

    def run(self, batch: PackedBatch, device: torch.device) -> Outcome:
        """One step on `batch`, which may still be in pinned CPU memory."""
        shape = batch.shape
        if shape not in self._seen:
            self._seen.add(shape)
            return self._step(batch.to(device))
        if shape not in self._recorded:
            self._recorded[shape] = self._record(batch.to(device))
        recorded = self._recorded[shape]
        recorded.batch.flat.copy_(batch.flat, non_blocking=True)
        recorded.graph.replay()
        return Outcome(*recorded.outcome.clone().unbind())

    def free(self) -> None:
        """Forget all recorded steps."""
        for recorded in self._recorded.values():
            recorded.graph.reset()
        self._recorded.clear()

    def _record(self, batch: PackedBatch) -> Recorded:
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        # Recording uses a separate stream, ordered after earlier work and before later work.
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Only this thread is recorded: another one prepares the next batches meanwhile.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                outcome = torch.stack([part.double() for part in self._step(batch)])
            finally:
                graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        if self._after_recording is not None:
            self._after_recording()
        return Recorded(graph, batch, outcome)
