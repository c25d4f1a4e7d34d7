"""What a quick boosted-trees model makes of the same rows: the number that every other number stands beside."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from sklearn.ensemble import HistGradientBoostingClassifier

from wirebert.data.schema.schema import FlowSchema
from wirebert.encoding.matrix import FeatureEncoder, column_usage, concatenate, extract_features, row_numbers

NUM_TREES = 600
"""Trees in all: one per class and round, so rounds are cut where there are many classes."""

_FEWEST_ROUNDS, _MOST_ROUNDS = 20, 100


@dataclass(frozen=True, slots=True)
class TreesSummary:
    """What the baseline is and what it was given, for the report."""

    method: str
    num_rounds: int
    num_flows_seen: int
    """Training flows offered."""
    num_flows_used: int
    """Training flows fitted on: all, or a seeded uniform sample."""
    numbers: tuple[str, ...]
    codes: tuple[str, ...]
    """Columns used as categories: split by set, or by falling frequency where there are more than 254 values."""
    text_statistics: tuple[str, ...]
    """Text columns, of which trees see length, digits, punctuation, percent signs, quotes and entropy, not the words."""
    left_out: tuple[str, ...]
    """Feature columns that the baseline does not use (addresses)."""
    fit_s: float


@dataclass(frozen=True, slots=True)
class QuickTrees:
    """Fitted boosted trees."""

    schema: FlowSchema
    encoder: FeatureEncoder
    model: HistGradientBoostingClassifier | None
    """None where all training rows are of one class."""
    class_ids: Int64[np.ndarray, " known"]
    """Classes that the fitted rows show."""
    num_classes: int
    summary: TreesSummary

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class; 0 for classes that the fitted rows lack. Unseen and missing values are welcome."""
        probabilities = np.zeros((table.num_rows, self.num_classes))
        if self.model is None:
            probabilities[:, self.class_ids] = 1.0
        elif table.num_rows:
            matrix = self.encoder.matrix(extract_features(table, self.schema))
            probabilities[:, self.class_ids] = self.model.predict_proba(matrix)
        return probabilities


def fit_trees(
    blocks: Iterable[tuple[pa.Table, Int64[np.ndarray, " flows"]]],
    schema: FlowSchema,
    num_classes: int,
    seed: int,
    max_rows: int = 200_000,
) -> QuickTrees:
    """scikit-learn's histogram gradient boosting on the training rows, untuned, the same for the same seed.

    Args:
        blocks: Typed tables with the class id of each row; negative ids (no label) are passed over.
        max_rows: Above this many rows, a uniform sample over the whole file is fitted, in bounded memory.
    """
    start_s = time.perf_counter()
    rows = _sample(blocks, schema, max_rows, np.random.default_rng(seed))
    coding = FeatureEncoder.fit(rows.features)
    known = np.unique(rows.class_ids)
    num_rounds = int(np.clip(NUM_TREES // max(1, len(known)), _FEWEST_ROUNDS, _MOST_ROUNDS))
    model = None
    if len(known) > 1 and coding.known:
        model = HistGradientBoostingClassifier(
            # The casts are for the stubs, which know texts only here.
            max_iter=num_rounds,
            # As in XGBoost. Without it leaves with few rare-class flows blow up: NSL-KDD's test loss is eight times as high.
            l2_regularization=1.0,
            categorical_features=cast(str, coding.is_categorical),
            early_stopping=cast(str, False),
            random_state=seed,
        ).fit(coding.matrix(rows.features), rows.class_ids)
    elif len(known) > 1:
        known = known[
            [int(np.bincount(rows.class_ids)[known].argmax())]
        ]  # nothing to learn from: guess the largest
    use = column_usage(schema)
    summary = TreesSummary(
        method="scikit-learn HistGradientBoostingClassifier, untuned",
        num_rounds=num_rounds,
        num_flows_seen=rows.num_seen,
        num_flows_used=len(rows.class_ids),
        numbers=use.numbers,
        codes=use.codes,
        text_statistics=use.text_statistics,
        left_out=use.left_out,
        fit_s=time.perf_counter() - start_s,
    )
    return QuickTrees(schema, coding, model, known.astype(np.int64), num_classes, summary)


@dataclass(frozen=True, slots=True)
class _Sample:
    features: pa.Table
    class_ids: Int64[np.ndarray, " flows"]
    num_seen: int


def _sample(
    blocks: Iterable[tuple[pa.Table, Int64[np.ndarray, " flows"]]],
    schema: FlowSchema,
    max_rows: int,
    rng: np.random.Generator,
) -> _Sample:
    """At most `max_rows` labelled rows, each with the same chance, in file order.

    Every row draws a ticket; the lowest tickets stay. Rows above the limit are dropped when twice as many are held, so
    memory does not grow with the file.
    """
    tables: list[pa.Table] = []
    ids: list[Int64[np.ndarray, " _"]] = []
    tickets = np.empty(0)
    num_seen = 0
    for table, class_ids in blocks:
        labelled = np.flatnonzero(class_ids >= 0)
        num_seen += len(labelled)
        tables.append(extract_features(table.take(row_numbers(labelled)), schema))
        ids.append(class_ids[labelled])
        tickets = np.concatenate([tickets, rng.random(len(labelled))])
        if len(tickets) > 2 * max_rows:
            tables, ids, tickets = _keep_lowest(tables, ids, tickets, max_rows)
    if len(tickets) > max_rows:
        tables, ids, tickets = _keep_lowest(tables, ids, tickets, max_rows)
    if not tables:
        return _Sample(pa.table({}), np.empty(0, dtype=np.int64), 0)
    return _Sample(concatenate(tables), np.concatenate(ids), num_seen)


def _keep_lowest(
    tables: list[pa.Table],
    ids: list[Int64[np.ndarray, " _"]],
    tickets: Float64[np.ndarray, " held"],
    max_rows: int,
) -> tuple[list[pa.Table], list[Int64[np.ndarray, " _"]], Float64[np.ndarray, " kept"]]:
    kept = np.sort(np.argpartition(tickets, max_rows - 1)[:max_rows])
    return [concatenate(tables).take(row_numbers(kept))], [np.concatenate(ids)[kept]], tickets[kept]
