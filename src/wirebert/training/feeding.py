"""The flows of each step: every flow once per epoch, in an order set by seed and epoch only.

Shape letters: N flows of the data set, B flows of a step, T tokens of a step.
"""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from ctypes import CDLL
from typing import Any, Final, NamedTuple, Protocol, cast, final, runtime_checkable

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset

from wirebert.encoding.token_rows import JaggedRows, TokenRows, by_length, take_rows
from wirebert.model.batches import NO_CLASS, Batch, FlowBatch, by_tokens, pack, pad
from wirebert.shapes import Float32, Int, Int64
from wirebert.telemetry.processors import num_processors
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import RowChange
from wirebert.training.seeding import Purpose, mix

NO_STEP: Final = -1
_PR_SET_PDEATHSIG: Final = 1
"""Number in Linux's `prctl(2)`."""
MAX_MEMORY_FRACTION: Final = 0.5
"""Encoded flows up to this fraction of the machine's memory are treated as in memory."""


@runtime_checkable
class LabelledFlows(TokenRows, Protocol):
    """Encoded flows with class ids."""

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

    rows: JaggedRows
    class_ids: Int64[np.ndarray, " B"]
    teacher_log_probs: Float32[np.ndarray, "B C"] | None = None
    """The teacher's log-probabilities for each flow, if there is a teacher."""

    def teacher_log_probs_of(self, chosen: Int64[np.ndarray, " K"]) -> Float32[np.ndarray, "K C"] | None:
        """The teacher's log-probabilities for these flows of the step."""
        return None if self.teacher_log_probs is None else self.teacher_log_probs[chosen]

    def answers(self, num_tokens: int) -> Int64[np.ndarray, " A"]:
        """The targets: the masked tokens, or each flow's class if nothing is masked.

        Args:
            num_tokens: size of the vocabulary, which is added to the id of a masked token.
        """
        is_masked = self.rows.ids >= num_tokens
        return self.rows.ids[is_masked].astype(np.int64) - num_tokens if is_masked.any() else self.class_ids


def steps_per_epoch(num_flows: int, batch_size: int) -> int:
    """Steps of one epoch; the last one takes the rest.

    >>> steps_per_epoch(10, 4)
    3
    """
    return -(-num_flows // batch_size)


def epoch_order(num_flows: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " N"]:
    """Flow indices in the order of `epoch`: a permutation set by seed and epoch only."""
    random = np.random.Generator(np.random.PCG64(mix(seed, Purpose.ORDER, epoch)))
    return random.permutation(num_flows)


@final
class StepSource(Dataset[StepFlows]):
    """The flows of every step of a training by step index, loaded on access.

    A step is the same in any order of access and in any process.
    """

    def __init__(
        self,
        flows: LabelledFlows,
        config: TrainConfig,
        *,
        seed: int,
        corruption: RowChange | None = None,
        teacher_log_probs: Float32[np.ndarray, "N C"] | None = None,
    ) -> None:
        self.flows, self.teacher_log_probs = flows, teacher_log_probs
        self._config, self._seed, self._corruption = config, seed, corruption
        self._steps_per_epoch = steps_per_epoch(len(flows.class_ids), config.batch_size)
        self._order = (NO_STEP, np.empty(0, dtype=np.int64))  # the order of one epoch

    def __len__(self) -> int:
        return self._steps_per_epoch * self._config.num_epochs

    def __getitem__(self, index: int) -> StepFlows:
        epoch, step_in_epoch = divmod(index, self._steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, epoch_order(len(self.flows.class_ids), seed=self._seed, epoch=epoch))
        size = self._config.batch_size
        # Sorted, since neighbours on disk are read together; the order within a step does not matter.
        chosen = np.sort(self._order[1][step_in_epoch * size : (step_in_epoch + 1) * size])
        rows = take_rows(self.flows, chosen)
        if self._corruption is not None:
            rows = self._corruption.apply(rows, mix(self._seed, Purpose.CORRUPTION, epoch, index))
        teacher_log_probs = (
            None if self.teacher_log_probs is None else np.asarray(self.teacher_log_probs[chosen])
        )
        return StepFlows(index, epoch, rows, self.flows.class_ids[chosen].astype(np.int64), teacher_log_probs)


def steps(
    flows: LabelledFlows,
    config: TrainConfig,
    *,
    seed: int,
    corruption: RowChange | None = None,
    teacher_log_probs: Float32[np.ndarray, "N C"] | None = None,
    first_step: int = 0,
) -> Iterator[StepFlows]:
    """The flows of every step from `first_step` on, loaded by `choose_workers` processes.

    `teacher_log_probs` are of the uncorrupted flows: corruption changes only the student's input.
    """
    source = StepSource(flows, config, seed=seed, corruption=corruption, teacher_log_probs=teacher_log_probs)
    indices = range(first_step, len(source))
    num_workers = choose_workers(flows, config)
    if num_workers == 0:
        return (source[index] for index in indices)
    return iter(
        DataLoader(
            source,
            batch_size=None,  # an item is a whole step
            sampler=indices,
            collate_fn=cast(Any, _as_it_is),  # torch's types allow lists of items only
            num_workers=num_workers,
            prefetch_factor=max(2, config.prefetch),
            persistent_workers=True,
            worker_init_fn=_begin_worker,
            multiprocessing_context="fork",  # keeps mapped files open; workers never use the device
        )
    )


def choose_workers(flows: LabelledFlows, config: TrainConfig) -> int:
    """Number of worker processes that read flows ahead.

    One thread reading from memory prepares flows several times as fast as an H200 trains on them
    (`benchmarks/train.py --recipes feeding leave-out`). Workers pay off only where the encoded flows exceed
    the memory, so that reading waits for the disk.
    """
    if config.workers is not None:
        return config.workers
    return 0 if fits_memory(flows) else min(4, max(1, num_processors() - 1))


def fits_memory(flows: LabelledFlows) -> bool:
    """Whether encoded flows, once read from disk, stay in memory."""
    return flows.ids.nbytes <= MAX_MEMORY_FRACTION * psutil.virtual_memory().total


def describe_feeding(flows: LabelledFlows, config: TrainConfig, device: torch.device) -> str:
    """How flows reach the device, for people: "a thread, from memory (84.2 MB)"."""
    num_workers = choose_workers(flows, config)
    loader = "a thread" if device.type == "cuda" and config.prefetch else "the main process"
    if num_workers:
        loader = "1 process" if num_workers == 1 else f"{num_workers} processes"
    return f"{loader}, from {'memory' if fits_memory(flows) else 'disk'} ({flows.ids.nbytes / 1e6:,.1f} MB)"


def _begin_worker(_: int) -> None:
    """Let the system end this worker with its parent: a killed training must not leave its lock behind.

    What the parent had not yet collected is never collected here: its destructors may wait for threads that
    only the parent has.
    """
    gc.freeze()
    with suppress(OSError, AttributeError):
        CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the parent ended before the system knew
        os._exit(1)


def _as_it_is(item: StepFlows) -> StepFlows:
    return item


def micro_batches(
    flows: StepFlows,
    max_tokens: int,
    *,
    pad_id: int,
    device: torch.device,
    batch_size: int = 0,
    loss_weight: float = 1.0,
) -> list[Batch]:
    """The step's flows in batches of at most `max_tokens` tokens (0: one batch).

    Batches are packed for a GPU and padded, shortest flows first, for a CPU. The last step of an epoch is
    filled up to `batch_size` flows on a GPU, so that its shape is like the others'.
    """
    lengths = np.diff(flows.rows.offsets)
    if len(lengths) == 0:
        return []
    parts = cut(lengths, max_tokens, device)
    if device.type == "cuda":
        return [
            pack(
                *(flows.rows, chosen, flows.class_ids[chosen]),
                pad_id=pad_id,
                num_flows=batch_size if len(chosen) == len(lengths) else 0,
                loss_weight=loss_weight,
                teacher_log_probs=flows.teacher_log_probs_of(chosen),
            ).pinned()
            for chosen in parts
        ]
    return [
        FlowBatch(
            *pad(flows.rows, chosen, pad_id=pad_id),
            torch.from_numpy(flows.class_ids[chosen]),
            loss_weight,
            None
            if (teacher_log_probs := flows.teacher_log_probs_of(chosen)) is None
            else torch.from_numpy(teacher_log_probs),
        )
        for chosen in parts
    ]


def cut(
    lengths: Int[np.ndarray, " B"], max_tokens: int, device: torch.device
) -> list[Int64[np.ndarray, " _"]]:
    """Positions of the flows (at least one) in each micro-batch."""
    if device.type == "cuda":
        return by_tokens(lengths, max_tokens or int(lengths.sum()))
    return by_length(lengths, max_tokens or int(lengths.max()) * len(lengths))


def share_of(flows: StepFlows, rank: int, size: int) -> StepFlows:
    """Every `size`-th flow of the step from position `rank` on; empty if the step is too short."""
    if size == 1:
        return flows
    chosen = np.arange(rank, len(flows.class_ids), size)
    return flows._replace(
        rows=take_rows(flows.rows, chosen),
        class_ids=flows.class_ids[chosen],
        teacher_log_probs=flows.teacher_log_probs_of(chosen),
    )


def num_passes(flows: StepFlows, max_tokens: int, size: int, device: torch.device) -> int:
    """The maximum number of micro-batches of any of `size` ranks."""
    lengths = np.diff(flows.rows.offsets)
    per_rank = (lengths[rank::size] for rank in range(min(size, len(lengths))))
    return max(len(cut(rank_lengths, max_tokens, device)) for rank_lengths in per_rank)


def idle_batch(flows: StepFlows, *, pad_id: int, device: torch.device) -> Batch:
    """A micro-batch without gradients, for a rank that has fewer micro-batches than others."""
    row = JaggedRows(np.full(1, pad_id, flows.rows.ids.dtype), np.array([0, 1]))
    one = share_of(flows, 0, len(flows.class_ids))._replace(rows=row, class_ids=np.array([NO_CLASS]))
    return micro_batches(one, 0, pad_id=pad_id, device=device)[0]


class PreparedStep(NamedTuple):
    """A step's flows, cut into micro-batches."""

    flows: StepFlows
    num_answers: int
    """Targets of the step (flows or masked tokens), on all ranks together."""

    max_tokens: int
    """The limit of the micro-batches, in padded tokens; 0: none."""

    batches: list[Batch]
