"""From rows of ids of many lengths to padded batches, and from batches to scores.

A store keeps all rows one after another in one flat array, with an array of offsets: row 3 is
`ids[offsets[3]:offsets[4]]`. Everything here works on whole arrays of rows at once.

Shape letters: B flows in a batch, L tokens per flow (padded), C classes.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Int64, UInt16, UInt32
from torch import Tensor

from wirebert.model.distilbert import DistilBert

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

SCORE_WINDOW: Final = 65_536
"""Flows that `score` sorts by length and holds at a time."""


@runtime_checkable
class FlatRows(Protocol):
    """Encoded flows, one after another."""

    @property
    def ids(self) -> UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"]:
        """Token ids of all flows."""
        ...

    @property
    def offsets(self) -> Int64[np.ndarray, " flows+1"]:
        """Where each flow begins; the last is where the last flow ends."""
        ...


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """Flows of similar length, padded to one length, ready for the model."""

    ids: Int[Tensor, "B L"]
    mask: Bool[Tensor, "B L"] | None
    """True at tokens, False at padding; None if nothing is padded, which is cheaper."""

    class_ids: Int64[Tensor, " B"]

    def to(self, device: str | torch.device) -> "FlowBatch":
        """The same batch on `device`; the copy does not make the processor wait."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=True)
        ids = self.ids.to(device, non_blocking=True)
        return FlowBatch(ids, mask, self.class_ids.to(device, non_blocking=True))


def pad(
    flows: FlatRows, rows: Int64[np.ndarray, " B"], *, pad_id: int
) -> tuple[Int64[Tensor, "B L"], Bool[Tensor, "B L"] | None]:
    """The flows numbered `rows`, padded to the longest of them, and the mask of their tokens (None: none is padded)."""
    starts = np.asarray(flows.offsets[rows])
    lengths = np.asarray(flows.offsets[rows + 1]) - starts
    shortest, longest = int(lengths.min()), int(lengths.max())
    places = np.arange(longest)
    index = starts[:, None] + places
    if shortest == longest:
        return torch.from_numpy(flows.ids[index].astype(np.int64)), None
    mask = places < lengths[:, None]
    index[~mask] = 0  # any id that exists: padding overwrites it
    ids = flows.ids[index].astype(np.int64)
    ids[~mask] = pad_id
    return torch.from_numpy(ids), torch.from_numpy(mask)


def by_length(lengths: Int[np.ndarray, " flows"], max_tokens: int) -> list[Int64[np.ndarray, " _"]]:
    """Positions in `lengths`, shortest first, cut into batches of at most `max_tokens` slots with their padding.

    Equal lengths keep their order. A flow longer than `max_tokens` is a batch by itself.

    >>> by_length(np.array([3, 9, 2, 3, 4]), max_tokens=9)
    [array([2, 0, 3]), array([4]), array([1])]
    """
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    batches: list[Int64[np.ndarray, " _"]] = []
    start = 0
    while start < len(order):
        most = max(
            1, max_tokens // max(1, int(ordered[start]))
        )  # a batch only gets wider, so no more can fit
        slots = ordered[start : start + most] * np.arange(1, len(ordered[start : start + most]) + 1)
        size = max(1, int(np.searchsorted(slots, max_tokens, side="right")))
        batches.append(order[start : start + size])
        start += size
    return batches


def autocast(device: str, precision: Precision) -> torch.autocast:
    """The context in which matrix products run at `precision`; weights stay fp32."""
    return torch.autocast(torch.device(device).type, _DTYPES[precision], enabled=precision != "fp32")


def score(
    model: DistilBert,
    flows: FlatRows,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    max_tokens: int = 16_384,
) -> Float32[np.ndarray, "flows C"]:
    """Class logits of every flow, in the order of the store.

    Dropout is off while this runs. Beyond the result, memory does not grow with the number of flows: they are taken in
    windows, sorted by length inside each, and cut into batches of at most `max_tokens` slots.
    """
    num_flows = len(flows.offsets) - 1
    logits = np.empty((num_flows, model.architecture.num_classes), dtype=np.float32)
    was_training = model.training
    model.to(device).eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            for first in range(0, num_flows, SCORE_WINDOW):
                last = min(first + SCORE_WINDOW, num_flows)
                batches = by_length(np.diff(flows.offsets[first : last + 1]), max_tokens)
                outputs = [_logits(model, flows, first + batch, device) for batch in batches]
                # One copy per window: the device never waits for the processor between two batches.
                logits[first + np.concatenate(batches)] = torch.cat(outputs).cpu().numpy()
    finally:
        model.train(was_training)
    return logits


def _logits(model: DistilBert, flows: FlatRows, rows: Int64[np.ndarray, " B"], device: str) -> Tensor:
    ids, mask = pad(flows, rows, pad_id=model.architecture.pad_id)
    batch = FlowBatch(ids, mask, torch.zeros(len(rows), dtype=torch.int64)).to(device)
    return model(batch.ids, batch.mask).float()
