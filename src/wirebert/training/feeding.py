"""Which flows a step sees: all of them once an epoch, in an order that only seed and epoch decide.

Shape letters: N flows of the data set, B flows of a step, T tokens of a step.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Int64

from wirebert.model.batches import FlatRows, FlowBatch, by_length, pad
from wirebert.training.corruption import Corruption, RaggedRows
from wirebert.training.seeding import Purpose, mix
from wirebert.training.settings import TrainConfig


@runtime_checkable
class LabelledRows(FlatRows, Protocol):
    """Encoded flows whose classes are known."""

    @property
    def class_ids(self) -> Int64[np.ndarray, " N"]:
        """Class of each flow, counted from 0."""
        ...


class StepFlows(NamedTuple):
    """The flows of one optimizer step, not yet cut into micro-batches."""

    step: int
    """Steps done before this one, over all epochs."""

    epoch: int
    """Epochs done before this one."""

    rows: RaggedRows
    class_ids: Int64[np.ndarray, " B"]


def steps_per_epoch(num_flows: int, batch_size: int) -> int:
    """Steps that show every flow once; the last one takes what is left.

    >>> steps_per_epoch(10, 4)
    3
    """
    return -(-num_flows // batch_size)


def epoch_order(num_flows: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " N"]:
    """Numbers of the flows in the order of `epoch`: a permutation that only seed and epoch decide."""
    random = np.random.Generator(np.random.PCG64(mix(seed, Purpose.ORDER, epoch)))
    return random.permutation(num_flows)


def steps(
    flows: LabelledRows,
    config: TrainConfig,
    *,
    seed: int,
    corruption: Corruption | None = None,
    first_step: int = 0,
) -> Iterator[StepFlows]:
    """The flows of every step from `first_step` to the end of the last epoch.

    Step s is the same whichever step the iterator starts at.
    """
    num_per_epoch = steps_per_epoch(len(flows.class_ids), config.batch_size)
    order = np.empty(0, dtype=np.int64)
    for step in range(first_step, num_per_epoch * config.epochs):
        epoch, place = divmod(step, num_per_epoch)
        if place == 0 or step == first_step:
            order = epoch_order(len(flows.class_ids), seed=seed, epoch=epoch)
        # Sorted, since neighbours on disk are read together; within a step the order means nothing.
        chosen = np.sort(order[place * config.batch_size : (place + 1) * config.batch_size])
        rows = take_rows(flows, chosen)
        if corruption is not None:
            rows = corruption.apply(rows, mix(seed, Purpose.CORRUPTION, epoch, step))
        yield StepFlows(step, epoch, rows, flows.class_ids[chosen].astype(np.int64))


def take_rows(flows: FlatRows, chosen: Int[np.ndarray, " B"]) -> RaggedRows:
    """The chosen rows laid end to end, in memory of their own."""
    starts = flows.offsets[chosen]
    lengths = flows.offsets[chosen + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # Token t of the result is token t - offsets[r] of its row r: [a b | c d e] -> row starts + [0 1 | 0 1 2].
    places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
    return RaggedRows(np.asarray(flows.ids[places]), offsets)


def micro_batches(
    flows: StepFlows, max_tokens: int, *, pad_id: int, device: torch.device
) -> Iterator[FlowBatch]:
    """The step's flows by length, at most `max_tokens` padded tokens at once (0: all at once)."""
    lengths = np.diff(flows.rows.offsets)
    all_tokens = int(lengths.max()) * len(lengths)
    for chosen in by_length(lengths, max_tokens or all_tokens):
        ids, mask = pad(flows.rows, chosen, pad_id=pad_id)
        yield FlowBatch(ids, mask, torch.from_numpy(flows.class_ids[chosen])).to(device)
