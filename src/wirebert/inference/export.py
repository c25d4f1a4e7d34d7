"""Export of a detector to ONNX: built from the artifact, checked against PyTorch, then added to the artifact.

The file is checked twice: here, on many rows, before it is written; and on every loading, on a few rows saved
with it, because a processor without 8-bit dot products may round differently
(`wirebert.inference.onnx_backend.matches_reference`).
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa

import wirebert
from wirebert.data.flows import open_flows
from wirebert.decision.calibration import softmax
from wirebert.encoding.matrix import extract_features
from wirebert.encoding.store import row_hashes
from wirebert.encoding.token_rows import JaggedRows, by_length, take_rows
from wirebert.errors import ArtifactError, ConfigError
from wirebert.inference.artifact import Artifact, add_export, load_artifact
from wirebert.inference.engines import ENGINES
from wirebert.inference.onnx_backend import OnnxBackend, open_session, padded
from wirebert.inference.onnx_graph import model_bytes, probe_bytes
from wirebert.inference.parity import Alerts, ParityReport, compare_scores, random_rows
from wirebert.inference.score_cache import distinct_rows, join_blocks
from wirebert.shapes import Float, Float64, Int64

ExportName = Literal["onnx", "onnx-int8"]
Probabilities = Float[np.ndarray, "rows classes"]

MAX_ROWS: Final = 8_192
"""Most distinct rows to make and check an export."""
DEFAULT_EXPORT_ROWS: Final = 128
"""The same for the export that `train` and `calibrate` write: a processor takes seconds for 1,000 of `base`,
and a graph that is wrong differs on every row."""
TRAVELLING_ROWS: Final = 32
"""Rows saved with the file to check it on loading."""


def add_default_export(folder: Path, expected: Callable[[], Probabilities] | None = None) -> str | None:
    """Add the export that every model folder has: ONNX in single precision.

    Returns why there is none: a package is missing, or the model cannot be exported. None: it was written.

    Args:
        expected: Returns PyTorch's probabilities of `rows_to_check`; None: computed here.
    """
    try:
        export_model(folder, "onnx", num_rows=DEFAULT_EXPORT_ROWS, expected=expected)
    except (ConfigError, ArtifactError) as error:
        return str(error)
    return None


def export_in_companion(receive: Callable[[], Any]) -> str | None:
    """`add_default_export` in another process, with its libraries imported before the model is trained.

    Receives the folder of the model, then PyTorch's probabilities of `rows_to_check`.
    """
    with suppress(ImportError):
        for library in ("onnx", "onnxruntime"):
            import_module(library)
    return add_default_export(receive(), receive)


def rows_to_check(artifact: Artifact, folder: Path) -> JaggedRows:
    """The rows on which `add_default_export` compares the export with PyTorch."""
    return _halves(CalibrationRows(random_rows(artifact.tokenizer, DEFAULT_EXPORT_ROWS)), folder)[1].rows


def export_model(
    folder: Path,
    name: ExportName,
    *,
    data: str | None = None,
    num_rows: int = MAX_ROWS,
    expected: Callable[[], Probabilities] | None = None,
) -> tuple[Path, ParityReport]:
    """Export the model in `folder`, check it and add it to the folder; returns its path and its parity.

    Args:
        data: real traffic: the 8-bit ranges come from one half of its rows, the check uses the other half.
            None: rows of random tokens.
        num_rows: number of random rows.
        expected: Returns PyTorch's probabilities of the rows to check on; None: computed here.

    Raises:
        ArtifactError: the export does not match PyTorch (nothing is written), or the folder is damaged.
        ConfigError: onnx or ONNX Runtime is not installed.
    """
    artifact = load_artifact(folder)
    tokenizer = artifact.tokenizer
    sample = CalibrationRows(random_rows(tokenizer, num_rows)) if data is None else rows_of(data, artifact)
    made_from, checked_on = _halves(sample, folder)
    weights = dict(artifact.weights)
    content = model_bytes(
        artifact.architecture,
        weights,
        ranges=_ranges(artifact, weights, made_from.rows) if name == "onnx-int8" else None,
        metadata={"wirebert": wirebert.__version__, "classes": "\n".join(artifact.classes.classes)},
    )
    backend = OnnxBackend(name, content, pad_id=tokenizer.pad_id)
    exported = softmax(backend.logits(checked_on.rows))
    if expected is None:
        from wirebert.inference.torch_backend import TorchBackend  # imports PyTorch

        reference = TorchBackend(
            artifact.architecture, artifact.weights, device="cpu", precision="fp32", max_tokens=None
        )
        probabilities = softmax(reference.logits(checked_on.rows))
    else:
        probabilities = expected()
    source = "generated" if data is None else "given"
    agreement = compare_scores(exported, probabilities, Alerts.of(artifact), source, checked_on.novelty)
    bounds = ENGINES[name].bounds
    fault = None if bounds is None else agreement.fault(bounds)
    if fault is not None:
        way_out = "pass real flows with --data" if data is None else "use the model without this export"
        raise ArtifactError(f"{folder}: the {name} export does not match the model: {fault}; {way_out}")
    ids, ends = checked_on.rows.ids, checked_on.rows.offsets[: TRAVELLING_ROWS + 1].tolist()
    some = [ids[first:last] for first, last in pairwise(ends)]
    travelling = {
        "tokens": [" ".join(map(str, ids.tolist())) for ids in some],
        "probabilities": exported[:TRAVELLING_ROWS].round(6).tolist(),
    }
    return add_export(folder, name, content, {"agreement": asdict(agreement), "check": travelling}), agreement


class CalibrationRows(NamedTuple):
    """Rows to calibrate or check an export."""

    rows: JaggedRows
    novelty: Float64[np.ndarray, " rows"] | None = None
    """Novelty of the flows behind the rows; None where alerts do not use it."""

    def take(self, rows: Int64[np.ndarray, " some"]) -> "CalibrationRows":
        """Some of the rows."""
        return CalibrationRows(
            take_rows(self.rows, rows), None if self.novelty is None else self.novelty[rows]
        )


def rows_of(data: str, artifact: Artifact) -> CalibrationRows:
    """The first distinct rows of a traffic file, at most `MAX_ROWS`.

    Raises:
        DataError: the file cannot be read.
    """
    joins = artifact.operating_point is not None and artifact.operating_point.alert_score is not None
    novelty_scorer = artifact.novelty if joins else None
    sample = CalibrationRows(
        artifact.tokenizer.encode(pa.table({})), None if novelty_scorer is None else np.empty(0)
    )
    for table in open_flows(data, schema=artifact.schema).blocks():
        rows = join_blocks(sample.rows, artifact.tokenizer.encode(table))
        novelty = sample.novelty
        if novelty_scorer is not None and novelty is not None:
            novelty = np.append(novelty, novelty_scorer.scores(extract_features(table, artifact.schema)))
        sample = CalibrationRows(rows, novelty).take(distinct_rows(rows, row_hashes(rows)).rows)
        if len(sample.rows) >= MAX_ROWS:
            break
    return sample


def _halves(sample: CalibrationRows, folder: Path) -> tuple[CalibrationRows, CalibrationRows]:
    """Two random halves of the sample without a common row."""
    rows = distinct_rows(sample.rows, row_hashes(sample.rows)).rows
    if len(rows) < 2:
        raise ArtifactError(
            f"{folder}: expected at least 2 different flows to check an export on, found {len(rows)}"
        )
    rows = np.random.default_rng(1).permutation(rows)[:MAX_ROWS]
    return sample.take(rows[: len(rows) // 2]), sample.take(rows[len(rows) // 2 :])


def _ranges(
    artifact: Artifact, weights: Mapping[str, np.ndarray], rows: JaggedRows
) -> dict[str, tuple[float, float]]:
    """The smallest and largest input of each matrix product on these rows."""
    content, names = probe_bytes(artifact.architecture, weights)
    session = open_session(content)
    extremes = np.array([[np.inf, -np.inf]] * len(names))
    for batch in by_length(np.diff(rows.offsets), 4_096):
        ids, mask = padded(rows, batch, pad_id=artifact.tokenizer.pad_id)
        ends = np.array(session.run(None, {"ids": ids, "mask": mask})).reshape(-1, 2)
        extremes = np.stack(
            [np.minimum(extremes[:, 0], ends[:, 0]), np.maximum(extremes[:, 1], ends[:, 1])], axis=1
        )
    return {
        name: (float(least), float(greatest)) for name, (least, greatest) in zip(names, extremes, strict=True)
    }
