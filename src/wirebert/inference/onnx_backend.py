"""The model in ONNX Runtime, on the processor."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

import numpy as np

from wirebert.decision.calibration import softmax
from wirebert.encoding.token_rows import JaggedRows, by_length
from wirebert.errors import ArtifactError, ConfigError
from wirebert.inference.artifact import Artifact
from wirebert.inference.backends import EngineOptions, require_finite
from wirebert.inference.engines import Engine
from wirebert.shapes import Float32, Int32, Int64
from wirebert.telemetry.processors import num_processors

ONNX_TOKENS: Final = 704
"""Slots of one batch for ONNX Runtime: the activations of a layer fit in a core's cache."""

MAX_DRIFT: Final = 0.02
"""Largest accepted difference of a probability between this machine and the one that exported."""


@final
class OnnxBackend:
    """An exported model in ONNX Runtime: batches of rows of similar length, one batch per core at a time.

    Each batch runs on one core. If all cores shared each operation, they would wait for each other hundreds
    of times per batch.
    """

    def __init__(self, name: str, model: Path | bytes, *, pad_id: int, threads: int | None = None) -> None:
        self.name = name
        self._session = open_session(model)
        self._pad_id = pad_id
        self._pool = ThreadPoolExecutor(threads or num_processors(), thread_name_prefix="wirebert-onnx")

    @classmethod
    def open(cls, engine: Engine, artifact: Artifact, options: EngineOptions) -> "OnnxBackend":
        """The export in the model folder, after a check that its scores on this processor are unchanged.

        Raises:
            ArtifactError: the export is no sound model, or gives other scores on this processor.
            ConfigError: ONNX Runtime is not installed.
        """
        export, tokenizer = artifact.exports[engine.name], artifact.tokenizer
        try:
            backend = cls(engine.name, export.path, pad_id=tokenizer.pad_id, threads=options.threads)
            is_same = matches_reference(backend, export.about, tokenizer.dtype)
        except _session_errors() as error:
            raise ArtifactError(
                f"{export.path}: expected an export that ONNX Runtime can run, found another file "
                f"({str(error).splitlines()[0][:200] if str(error) else type(error).__name__}); export again"
            ) from error
        if not is_same:
            raise ArtifactError(
                f"{export.path}: gives other scores on this processor than where it was made; "
                "use --backend torch, or export again on this machine"
            )
        return backend

    def logits(self, flows: JaggedRows) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order."""
        if len(flows) == 0:
            return np.empty((0, self._session.get_outputs()[0].shape[1]), np.float32)
        batches = by_length(np.diff(flows.offsets), ONNX_TOKENS)
        if len(batches) == 1:  # a request of a few flows: no hand-over to another thread
            return require_finite(self._score(flows, np.arange(len(flows))), self.name)
        # The longest first, so that no core is left with a long batch at the end.
        outputs = list(self._pool.map(partial(self._score, flows), reversed(batches)))
        logits = np.empty((len(flows), outputs[0].shape[1]), np.float32)
        logits[np.concatenate(batches[::-1])] = np.concatenate(outputs)
        return require_finite(logits, self.name)

    def _score(self, flows: JaggedRows, rows: Int64[np.ndarray, " rows"]) -> np.ndarray:
        ids, mask = padded(flows, rows, pad_id=self._pad_id)
        return self._session.run(["logits"], {"ids": ids, "mask": mask})[0]


def _session_errors() -> tuple[type[Exception], ...]:
    """What is raised for an export that is no sound model. ONNX Runtime's errors have no common class."""
    state = import_module("onnxruntime.capi.onnxruntime_pybind11_state")

    theirs = [each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception)]
    return (*theirs, LookupError, TypeError, ValueError, RuntimeError)


def matches_reference(backend: OnnxBackend, about: Mapping[str, Any], dtype: np.dtype[Any]) -> bool:
    """Whether the export gives the saved scores on this machine, on the rows saved with it."""
    rows = [np.array(tokens.split(), dtype) for tokens in about["check"]["tokens"]]
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    probabilities = softmax(backend.logits(JaggedRows(np.concatenate(rows), offsets, 0)))
    return bool(np.abs(probabilities - np.array(about["check"]["probabilities"])).max() <= MAX_DRIFT)


def padded(
    flows: JaggedRows, rows: Int64[np.ndarray, " rows"], *, pad_id: int
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
        ConfigError: ONNX Runtime is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would keep a file in the temporary folder
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "ONNX Runtime is not installed; install it with `pip install onnxruntime`"
        ) from error
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, session_options(), providers=["CPUExecutionProvider"])


def session_options() -> Any:
    """One thread, and only the fusions that pay."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # ONNX Runtime would fuse addition and normalisation into one operation, seven times slower than the two.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return options
