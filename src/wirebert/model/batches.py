"""Padded and packed batches of rows of token ids, and their scores.

A store has all rows in one flat array, with an array of offsets: row 3 is `ids[offsets[3]:offsets[4]]`.

A CPU is fastest with short padded batches of rows of similar length, a GPU with long packed batches.

Shape letters: B flows in a batch, L tokens per flow (padded), T tokens of all flows (packed), R rows
(packed), C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from wirebert.encoding.token_rows import TokenRows, by_length, ranges
from wirebert.model.config import Precision
from wirebert.model.distilbert import DistilBert
from wirebert.model.packing import Packing, plan, tile_capacity
from wirebert.prefetch import prefetch
from wirebert.shapes import Bool, Float, Float32, Int, Int32, Int64

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

NO_CLASS: Final = -100
"""Class of a row of padding; `cross_entropy` ignores it."""

PACK_MULTIPLE: Final = 64
"""The tokens of a packed batch are filled up to a multiple of this, which suits matrix products."""

PACK_STEPS: Final = 32
"""The tokens of a packed batch are filled up in steps of a 32nd to a 16th, so that few shapes occur."""

SCORE_WINDOW: Final = 1 << 20
"""Flows that `score` cuts into batches at a time; the last batch of each window is filled up."""

CPU_TOKENS: Final = 16_384
"""Tokens of a scoring batch on a CPU, which fits its caches."""

GPU_TOKENS: Final = 131_072
"""Tokens of a scoring batch on a GPU."""

LEAST_TOKENS: Final = 1_024
"""Smallest scoring batch when memory runs out, in tokens."""

READY_BATCHES: Final = 2
"""Batches prepared ahead of the GPU."""


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """A batch of flows padded to one length."""

    ids: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"] | None
    """True at tokens, False at padding; None without padding, which is cheaper."""

    class_ids: Int64[Tensor, " B"]
    loss_weight: float = 1.0
    """What the sum of the flows' losses is divided by."""

    teacher_log_probs: Float32[Tensor, "B C"] | None = None
    """The teacher's log-probabilities for each flow, if there is a teacher."""

    def to(self, device: str | torch.device) -> "FlowBatch":
        """The same batch on `device`; the copy is asynchronous."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=True)
        teacher_log_probs = (
            None if self.teacher_log_probs is None else self.teacher_log_probs.to(device, non_blocking=True)
        )
        ids, class_ids = (part.to(device, non_blocking=True) for part in (self.ids, self.class_ids))
        return FlowBatch(ids, mask, class_ids, self.loss_weight, teacher_log_probs)


class PackedShape(NamedTuple):
    """All sizes of a packed batch; batches of equal shape can use the same CUDA graph."""

    num_tokens: int
    num_rows: int
    num_tiles: int
    room: int
    num_teacher_classes: int = 0
    """Classes of the teacher; 0: there is no teacher."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A batch of flows packed end to end, as one tensor that is copied to the device at once."""

    flat: Int32[Tensor, " numbers"]
    """ids | four tensors of the packing | class ids | loss weight | teacher; the last two as float32 bits."""

    shape: PackedShape

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that `flat` consists of."""
        tokens, rows, tiles, _, classes = self.shape
        return self.flat.split([tokens, tokens, rows + 1, tiles + 1, tiles + 1, rows, 1, rows * classes])

    @property
    def ids(self) -> Int32[Tensor, " T"]:
        """Token ids of all rows; the last rows may be padding."""
        return self.parts[0]

    @property
    def packing(self) -> Packing:
        """The positions of the rows."""
        _, row_of, starts, tiles, tile_rows, *_ = self.parts
        return Packing(row_of, starts, tiles, tile_rows, self.shape.room)

    @property
    def class_ids(self) -> Int64[Tensor, " R"]:
        """Class of each row; `NO_CLASS` for the rows of padding at the end."""
        return self.parts[5].long()

    @property
    def loss_weight(self) -> Float32[Tensor, ""]:
        """What the sum of the flows' losses is divided by."""
        return self.parts[6].view(torch.float32)[0]

    @property
    def teacher_log_probs(self) -> Float32[Tensor, "R C"] | None:
        """The teacher's log-probabilities for each row (padding: zeros); None without a teacher."""
        if self.shape.num_teacher_classes == 0:
            return None
        return self.parts[7].view(torch.float32).view(self.shape.num_rows, self.shape.num_teacher_classes)

    def pinned(self) -> "PackedBatch":
        """The same batch in pinned memory."""
        return PackedBatch(self.flat.pin_memory(), self.shape)

    def to(self, device: str | torch.device) -> "PackedBatch":
        """The same batch on `device`; from pinned memory the copy is asynchronous."""
        return PackedBatch(self.flat.to(device, non_blocking=True), self.shape)


Batch = FlowBatch | PackedBatch


def class_logits(model: DistilBert, batch: Batch) -> Float[Tensor, "rows C"]:
    """The model's logits for all rows of a batch, including rows of padding."""
    if isinstance(batch, PackedBatch):
        return model.forward_packed(batch.ids, batch.packing)
    return model(batch.ids, batch.mask)


def masked_logits(model: DistilBert, batch: Batch) -> Int64[Tensor, " rows"]:
    """The targets of `class_logits`: the class of each row, or the masked tokens."""
    if model.masked is None:
        return batch.class_ids
    return model.masked.logits_of(batch.ids, len(batch.class_ids))


def pack(
    flows: TokenRows,
    rows: Int64[np.ndarray, " B"],
    class_ids: Int64[np.ndarray, " B"],
    *,
    pad_id: int,
    num_flows: int = 0,
    loss_weight: float = 1.0,
    teacher_log_probs: Float32[np.ndarray, "B C"] | None = None,
) -> PackedBatch:
    """Pack the flows at `rows` end to end, filled up with rows of padding so that few shapes occur.

    Args:
        num_flows: fill up to this many flows of the same mean length, so that the last batch has the shape of
            the others; a new shape costs seconds on a GPU, which loads kernels for it.
        teacher_log_probs: the teacher's log-probabilities for each flow.
    """
    starts = np.asarray(flows.offsets[rows])
    lengths = np.asarray(flows.offsets[rows + 1]) - starts
    room = tile_capacity(int(lengths.max()))
    ids = flows.ids[ranges(starts, lengths)]
    fill = _filling(lengths, room, max(0, num_flows - len(lengths)))
    parts = (
        *(ids, np.full(fill.sum(), pad_id), *plan(np.concatenate([lengths, fill]), room)),
        *(class_ids, np.full(len(fill), NO_CLASS), np.array([loss_weight], np.float32).view(np.int32)),
    )
    flat = np.concatenate([part.astype(np.int32) for part in parts])
    num_tokens, num_rows = len(ids) + int(fill.sum()), len(lengths) + len(fill)
    num_tiles = (len(flat) - 2 * num_tokens - 2 * num_rows - 4) // 2
    shape = PackedShape(num_tokens, num_rows, num_tiles, room)
    if teacher_log_probs is not None:
        soft = np.zeros((num_rows, teacher_log_probs.shape[1]), np.float32)
        soft[: len(lengths)] = teacher_log_probs
        flat = np.concatenate([flat, soft.reshape(-1).view(np.int32)])
        shape = shape._replace(num_teacher_classes=teacher_log_probs.shape[1])
    return PackedBatch(torch.from_numpy(flat), shape)


def _filling(lengths: Int[np.ndarray, " B"], room: int, num_more: int) -> Int64[np.ndarray, " _"]:
    """Lengths of the rows of padding: `num_more` of mean length, then some that round the tokens up.

    Flows of one length always have the same number of tokens, so they need no rounding.
    """
    num_tokens = int(lengths.sum())
    if lengths.min() == lengths.max():
        return np.full(num_more, lengths[0], dtype=np.int64)
    wanted = num_tokens + round(num_more * num_tokens / len(lengths))
    step = max(PACK_MULTIPLE, 1 << (wanted // PACK_STEPS).bit_length())
    num_rows = -(-step // (room - 1))
    missing = wanted + num_rows + -(wanted + num_rows) % step - num_tokens
    # In parts of about equal size, at most `room` tokens each.
    return np.diff(np.linspace(0, missing, num_rows + num_more + 1).astype(np.int64))


def pad(
    flows: TokenRows, rows: Int64[np.ndarray, " B"], *, pad_id: int
) -> tuple[Int64[Tensor, "B L"], Bool[Tensor, "B L"] | None]:
    """The flows at `rows`, padded to the longest, and the mask of their tokens (None: no padding)."""
    starts = np.asarray(flows.offsets[rows])
    lengths = np.asarray(flows.offsets[rows + 1]) - starts
    shortest, longest = int(lengths.min()), int(lengths.max())
    positions = np.arange(longest)
    index = starts[:, None] + positions
    if shortest == longest:
        return torch.from_numpy(flows.ids[index].astype(np.int64)), None
    mask = positions < lengths[:, None]
    index[~mask] = 0  # any valid index: padding overwrites the id
    ids = flows.ids[index].astype(np.int64)
    ids[~mask] = pad_id
    return torch.from_numpy(ids), torch.from_numpy(mask)


def by_tokens(lengths: Int[np.ndarray, " flows"], max_tokens: int) -> list[Int64[np.ndarray, " _"]]:
    """Batches of consecutive flows with at most `max_tokens` tokens; a longer flow is a batch by itself.

    >>> by_tokens(np.array([3, 9, 2, 3, 4]), max_tokens=9)
    [array([0]), array([1]), array([2, 3, 4])]
    """
    ends = np.cumsum(lengths)
    batches: list[Int64[np.ndarray, " _"]] = []
    first = 0
    while first < len(lengths):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + max_tokens, side="right")))
        batches.append(np.arange(first, last))
        first = last
    return batches


def autocast(device: str, precision: Precision) -> torch.autocast:
    """The context in which matrix products run at `precision`; weights stay fp32."""
    return torch.autocast(torch.device(device).type, _DTYPES[precision], enabled=precision != "fp32")


_fitting: Final[dict[str, int]] = {}
"""Device -> batch size in tokens that fits since memory ran out there, remembered for later calls."""


def takes_packed(device: str) -> bool:
    """Whether batches for the device are packed (GPU) or padded (CPU)."""
    return torch.device(device).type == "cuda"


def usual_tokens(device: str) -> int:
    """Default tokens of a scoring batch on the device."""
    return GPU_TOKENS if takes_packed(device) else CPU_TOKENS


def score(
    model: DistilBert,
    flows: TokenRows,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    max_tokens: int | None = None,
) -> Float32[np.ndarray, "flows C"]:
    """Class logits of every flow, in the order of the store, without dropout.

    Apart from the result, memory does not grow with the number of flows: windows of flows are cut into
    batches of at most `max_tokens` tokens, on a CPU sorted by length. A GPU computes one batch while the next
    is prepared.

    Args:
        max_tokens: None: the default of the device, halved each time memory runs out.
    """
    if max_tokens is not None:
        return _score(model, flows, device, precision, max_tokens)
    tokens = _fitting.get(device, usual_tokens(device))
    while True:
        try:
            return _score(model, flows, device, precision, tokens)
        except torch.OutOfMemoryError:
            if tokens <= LEAST_TOKENS:
                raise
        tokens = max(LEAST_TOKENS, tokens // 2)  # here, where no traceback holds the batch
        _fitting[device] = tokens
        torch.cuda.empty_cache()


def _score(
    model: DistilBert, flows: TokenRows, device: str, precision: Precision, max_tokens: int
) -> Float32[np.ndarray, "flows C"]:
    logits = np.empty((len(flows.offsets) - 1, model.architecture.num_classes), dtype=np.float32)
    was_training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            made = _scoring_batches(model, flows, max_tokens, device)
            waiting: list[tuple[Int64[np.ndarray, " _"], Tensor]] = []
            for rows, batch in prefetch(made, READY_BATCHES if takes_packed(device) else 0):
                waiting.append((rows, class_logits(model, batch)[: len(rows)].float()))
                # One copy for many batches, so that the device does not wait for the CPU between them.
                if sum(len(rows) for rows, _ in waiting) >= SCORE_WINDOW:
                    _fetch(waiting, logits)
            _fetch(waiting, logits)
    finally:
        model.train(was_training)
    return logits


def _scoring_batches(
    model: DistilBert, flows: TokenRows, max_tokens: int, device: str
) -> Iterator[tuple[Int64[np.ndarray, " _"], Batch]]:
    """All flows in batches on the device, each with the indices of its flows."""
    for first in range(0, len(flows.offsets) - 1, SCORE_WINDOW):
        lengths = np.diff(flows.offsets[first : first + SCORE_WINDOW + 1])
        # A 512th is left for rows of padding, or a full batch would be rounded up by a whole step.
        packed = takes_packed(device)
        cut = by_tokens(lengths, max_tokens - max_tokens // 512) if packed else by_length(lengths, max_tokens)
        usual = len(cut[0]) if len(cut) > 1 else 0
        for rows in cut:
            yield first + rows, scoring_batch(model, flows, first + rows, device, num_flows=usual)


def scoring_batch(
    model: DistilBert, flows: TokenRows, rows: Int64[np.ndarray, " B"], device: str, *, num_flows: int = 0
) -> Batch:
    """The flows at `rows` as a batch on the device; on a GPU rows of padding may follow (see `pack`)."""
    pad_id = model.architecture.pad_id
    unknown = np.full(len(rows), NO_CLASS, dtype=np.int64)
    if takes_packed(device):
        return pack(flows, rows, unknown, pad_id=pad_id, num_flows=num_flows).pinned().to(device)
    return FlowBatch(*pad(flows, rows, pad_id=pad_id), torch.from_numpy(unknown)).to(device)


def _fetch(
    waiting: list[tuple[Int64[np.ndarray, " _"], Float32[Tensor, "_ C"]]],
    logits: Float32[np.ndarray, "flows C"],
) -> None:
    """Copy the waiting outputs from the device into `logits`."""
    if waiting:
        rows, outputs = zip(*waiting, strict=True)
        logits[np.concatenate(rows)] = torch.cat(outputs).cpu().numpy()
        waiting.clear()
