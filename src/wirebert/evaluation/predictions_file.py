"""Read the predictions file of a run: the verdict and true class of each labelled row of a split."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from wirebert.encoding.matrix import row_numbers
from wirebert.errors import RunError
from wirebert.metrics.intervals import ALONE
from wirebert.metrics.significance import LabelledRows
from wirebert.shapes import Float64, Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitPredictions:
    """The labelled rows in the predictions file of one split of one run."""

    fingerprint: str
    """Equal if the same rows with the same labels were evaluated."""
    labels: tuple[str, ...]
    label_ids: Int64[np.ndarray, " flows"]
    true: tuple[str, ...]
    """Class of each of `labels`."""
    names: tuple[str, ...]
    predicted: Int64[np.ndarray, " flows"]
    """Predicted class of each row, as a position in `names`."""
    scores: Float64[np.ndarray, " flows"] | None
    """Alert score of each row; None if no class is benign."""
    is_joined: bool = False
    """Whether the scores combine attack score and novelty."""


def read_predictions(path: Path) -> SplitPredictions:
    """The verdicts in a predictions file; rows without a label are skipped.

    Raises:
        RunError: the file is missing or is not a predictions file.
    """
    columns = ["row", "label", "true_class", "predicted_class"]
    try:
        schema = parquet.read_schema(path)
        having = [name for name in ("alert_score", "attack_score") if name in schema.names][:1]
        table = parquet.read_table(path, columns=[*columns, *having])
    except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise RunError(
            f"{path}: expected the predictions of a finished run, found none that can be read ({error}); "
            "run it again"
        ) from error
    table = table.filter(pc.is_valid(table.column("label")))
    labels, label_ids = _coded(table.column("label"))
    names, predicted = _coded(table.column("predicted_class"))
    first = np.unique(label_ids, return_index=True)[1]
    true = cast(list[str], table.column("true_class").take(row_numbers(first.astype(np.int64))).to_pylist())
    digest = hashlib.sha256(table.column("row").to_numpy().astype(np.int64).tobytes())
    digest.update("\0".join(labels).encode() + label_ids.tobytes())
    scores = table.column(having[0]).to_numpy().astype(np.float64) if having else None
    return SplitPredictions(
        fingerprint=digest.hexdigest(),
        labels=labels,
        label_ids=label_ids,
        true=tuple(true),
        names=names,
        predicted=predicted,
        scores=scores,
        is_joined=having == ["alert_score"],
    )


def read_probabilities(path: Path, classes: Sequence[str]) -> Float64[np.ndarray, "flows classes"]:
    """Class probabilities of the labelled rows of a predictions file, in the order of `classes`."""
    names = [f"p_{name}" for name in classes]
    table = parquet.read_table(path, columns=["label", *names])
    table = table.filter(pc.is_valid(table.column("label")))
    return np.stack([table.column(name).to_numpy().astype(np.float64) for name in names], axis=1)


def as_labelled_rows(rows: SplitPredictions, names: Sequence[str], benign: str | None) -> LabelledRows:
    """The true classes as positions in `names`; clusters are attack names if a class has several of them.

    Benign flows share no attack name: each is resampled by itself.
    """
    of_label = np.array([names.index(true) for true in rows.true], dtype=np.int64)
    true_ids = of_label[rows.label_ids]
    benign_id = names.index(benign) if benign in names else None
    clusters = None
    if rows.true != rows.labels:
        clusters = (
            np.where(true_ids == benign_id, ALONE, rows.label_ids)
            if benign_id is not None
            else rows.label_ids
        )
    return LabelledRows(true_ids=true_ids, num_labels=len(names), benign=benign_id, clusters=clusters)


def positions(own: Sequence[str], names: Sequence[str]) -> Int64[np.ndarray, " own"]:
    """Position of each of `own` in `names`."""
    return np.array([names.index(name) for name in own], dtype=np.int64)


def _coded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Int64[np.ndarray, " rows"]]:
    """The distinct texts by first appearance, and the position of each text among them."""
    coded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    texts = cast(list[str], coded.dictionary.to_pylist())
    return tuple(texts), coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
