"""The detector as an ONNX file: made from the artifact, checked against PyTorch, then put into the artifact.

The file is checked twice: here, on many rows, before it is written; and wherever it is loaded, on a few rows
that travel with it, because a processor without 8-bit dot products may round differently
(`wirebert.inference.onnx_backend.matches_reference`).
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

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
from wirebert.inference.torch_backend import TorchBackend

ExportName = Literal["onnx", "onnx-int8"]

MAX_ROWS: Final = 8_192
"""Different rows on which an export is made and checked."""
DEFAULT_EXPORT_ROWS: Final = 1_024
"""The same where `train` and `calibrate` write an export by themselves."""
TRAVELLING_ROWS: Final = 32
"""Rows that go along with the file."""


def add_default_export(folder: Path) -> str | None:
    """Put the export that every model folder has beside the weights: ONNX in single precision.

    Returns why there is none: a package is missing, or the model computes what the export cannot. None: it is
    there.
    """
    try:
        export_model(folder, "onnx", num_rows=DEFAULT_EXPORT_ROWS)
    except (ConfigError, ArtifactError) as error:
        return str(error)
    return None


def export_model(
    folder: Path, name: ExportName, *, data: str | None = None, num_rows: int = MAX_ROWS
) -> tuple[Path, ParityReport]:
    """Export the model in `folder`, check it, and put it beside the weights; its path, and how well it
    agrees.

    Args:
        data: real traffic: the 8-bit file takes its ranges from one half of its rows, and is checked on the
            other. None: rows of tokens drawn at random.
        num_rows: rows drawn at random.

    Raises:
        ArtifactError: the export does not agree with PyTorch (nothing is written), or the folder is damaged.
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
    reference = TorchBackend(
        artifact.architecture, artifact.weights, device="cpu", precision="fp32", max_tokens=None
    )
    found, expected = (softmax(way.logits(checked_on.rows)) for way in (backend, reference))
    source = "generated" if data is None else "given"
    agreement = compare_scores(found, expected, Alerts.of(artifact), source, checked_on.novelty)
    bounds = ENGINES[name].bounds
    fault = None if bounds is None else agreement.fault(bounds)
    if fault is not None:
        way_out = "pass real flows with --data" if data is None else "use the model without this export"
        raise ArtifactError(f"{folder}: the {name} export does not match the model: {fault}; {way_out}")
    ids, ends = checked_on.rows.ids, checked_on.rows.offsets[: TRAVELLING_ROWS + 1].tolist()
    some = [ids[first:last] for first, last in pairwise(ends)]
    travelling = {
        "tokens": [" ".join(map(str, ids.tolist())) for ids in some],
        "probabilities": found[:TRAVELLING_ROWS].round(6).tolist(),
    }
    return add_export(folder, name, content, {"agreement": asdict(agreement), "check": travelling}), agreement


class CalibrationRows(NamedTuple):
    """Rows to make an export from, or to check it on."""

    rows: JaggedRows
    novelty: Float64[np.ndarray, " rows"] | None = None
    """Of the flows that the rows were encoded from; None where no alert goes by it."""

    def take(self, rows: Int64[np.ndarray, " some"]) -> "CalibrationRows":
        """Some of the rows."""
        return CalibrationRows(
            take_rows(self.rows, rows), None if self.novelty is None else self.novelty[rows]
        )


def rows_of(data: str, artifact: Artifact) -> CalibrationRows:
    """Different rows of a traffic file, from its beginning on until there are `MAX_ROWS`.

    Raises:
        DataError: nothing can be read there.
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
    """Two parts of the sample that have no row in common, in random order."""
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
    """The least and greatest input of each matrix product on these rows."""
    content, names = probe_bytes(artifact.architecture, weights)
    session = open_session(content)
    seen = np.array([[np.inf, -np.inf]] * len(names))
    for batch in by_length(np.diff(rows.offsets), 4_096):
        ids, mask = padded(rows, batch, pad_id=artifact.tokenizer.pad_id)
        ends = np.array(session.run(None, {"ids": ids, "mask": mask})).reshape(-1, 2)
        seen = np.stack([np.minimum(seen[:, 0], ends[:, 0]), np.maximum(seen[:, 1], ends[:, 1])], axis=1)
    return {
        name: (float(least), float(greatest)) for name, (least, greatest) in zip(names, seen, strict=True)
    }
