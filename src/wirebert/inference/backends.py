"""Who computes class logits: PyTorch on any device, or ONNX Runtime on the processor.

A backend gives a row the same logits whatever stands beside it, to rounding; so equal rows need scoring once.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, final, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

from wirebert.decision.calibration import softmax
from wirebert.encoding.token_rows import EncodedBlock, take_rows
from wirebert.errors import ConfigError
from wirebert.model.batches import Precision, by_length, score
from wirebert.model.checkpoints import restored
from wirebert.model.config import Architecture

BackendName = Literal["torch", "onnx", "onnx-int8"]
BACKENDS: Final[tuple[BackendName, ...]] = ("onnx-int8", "onnx", "torch")
"""On a processor, fastest first (benchmarks/score.py)."""

ONNX_TOKENS: Final = 704
"""Slots of one batch for ONNX Runtime: what a layer makes of them stays in a core's cache."""


MAX_DRIFT: Final = 0.02
"""How far a probability may be, where the file is loaded, from what it was where it was made."""


@runtime_checkable
class Backend(Protocol):
    """Scores encoded flows; several threads may share one."""

    @property
    def name(self) -> BackendName:
        """What it is called on the command line."""
        ...

    def logits(self, flows: EncodedBlock) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order."""
        ...


@final
class TorchBackend:
    """The model as PyTorch runs it."""

    name: BackendName = "torch"

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, Tensor],
        *,
        device: str,
        precision: Precision,
        max_tokens: int | None,
    ) -> None:
        self.model = restored(architecture, weights, where="model.safetensors").to(device).eval()
        self.precision: Precision = precision
        self._device, self._max_tokens = device, max_tokens

    def at(self, precision: Precision) -> "TorchBackend":
        """The same model at another precision of matrix products."""
        other = copy(self)
        other.precision = precision
        return other

    def logits(self, flows: EncodedBlock) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order. Where 16-bit numbers overflow, single precision takes over."""
        logits = score(
            *(self.model, flows),
            device=self._device,
            precision=self.precision,
            max_tokens=self._max_tokens,
        )
        # What is no number would raise no alert: a flow must not be able to hide behind it.
        lost = np.flatnonzero(~np.isfinite(logits).all(axis=1))
        if len(lost) and self.precision != "fp32":
            logits[lost] = self.at("fp32").logits(take_rows(flows, lost))
        return logits


@final
class OnnxBackend:
    """An exported model in ONNX Runtime: rows in batches of one length or nearly so, a batch per core at a time.

    One batch stays on one core. Sharing each operation among the cores instead would leave them waiting for each other
    hundreds of times a batch.
    """

    def __init__(
        self, name: BackendName, model: Path | bytes, *, pad_id: int, threads: int | None = None
    ) -> None:
        self.name: BackendName = name
        self._session = open_session(model)
        self._pad_id = pad_id
        self._pool = ThreadPoolExecutor(threads or num_processors(), thread_name_prefix="wirebert-onnx")

    def logits(self, flows: EncodedBlock) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order."""
        if len(flows) == 0:
            return np.empty((0, self._session.get_outputs()[0].shape[1]), np.float32)
        batches = by_length(np.diff(flows.offsets), ONNX_TOKENS)
        if len(batches) == 1:  # a request of a few flows: no hand-over to another thread
            return self._score(flows, np.arange(len(flows)))
        # The longest first, so that no core ends with a long batch of its own.
        outputs = list(self._pool.map(partial(self._score, flows), reversed(batches)))
        logits = np.empty((len(flows), outputs[0].shape[1]), np.float32)
        logits[np.concatenate(batches[::-1])] = np.concatenate(outputs)
        return logits

    def _score(self, flows: EncodedBlock, rows: Int64[np.ndarray, " rows"]) -> np.ndarray:
        ids, mask = padded(flows, rows, pad_id=self._pad_id)
        return self._session.run(["logits"], {"ids": ids, "mask": mask})[0]


def matches_reference(backend: OnnxBackend, about: Mapping[str, Any], dtype: np.dtype[Any]) -> bool:
    """Whether the export gives here what it gave where it was made, on the rows that travel with it."""
    rows = [np.array(tokens.split(), dtype) for tokens in about["check"]["tokens"]]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    found = softmax(backend.logits(EncodedBlock(np.concatenate(rows), offsets, 0)))
    return bool(np.abs(found - np.array(about["check"]["probabilities"])).max() <= MAX_DRIFT)


def padded(
    flows: EncodedBlock, rows: Int64[np.ndarray, " rows"], *, pad_id: int
) -> tuple[Int32[np.ndarray, "rows slots"], Int32[np.ndarray, "rows slots"]]:
    """The rows padded to the longest of them, and a mask: 1 at tokens, 0 at padding."""
    starts = flows.offsets[rows]
    lengths = flows.offsets[rows + 1] - starts
    slots = np.arange(lengths.max())
    mask = slots < lengths[:, None]
    index = np.where(mask, starts[:, None] + slots, 0)
    return np.where(mask, flows.ids[index].astype(np.int32), np.int32(pad_id)), mask.astype(np.int32)


def open_session(model: Path | bytes) -> Any:
    """An ONNX Runtime session that computes on the thread that calls it.

    Raises:
        ConfigError: the extra `onnx` is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX Runtime is not installed; install it with `pip install 'wirebert[onnx]'`"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its own fusions would join additions and normalisations into an operation seven times slower than the two.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def num_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
