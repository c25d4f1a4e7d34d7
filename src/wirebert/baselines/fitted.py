"""Fitted methods of `methods.BASELINES` as a `protocol.Baseline`: for reports, teachers and comparisons.

A method reads flows either as columns of a typed table (`ColumnBaseline`) or as the tokens of a model
(`TokenBaseline`). Slowly trained trees, and an SVM on character n-grams for text columns, generalise better
than a transformer to traffic unlike training (docs/experiments.md), so a model can be distilled from them.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import pyarrow as pa

from wirebert.baselines.methods import BASELINES, fit_baseline
from wirebert.baselines.task import Params, Predict, Rows, Setting, Task, joined_texts
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.calibration import TINY, LogitScaling, fit_scaling, softmax
from wirebert.encoding.matrix import (
    FeatureEncoder,
    Ranks,
    column_usage,
    concatenate,
    extract_features,
    row_numbers,
)
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.shapes import Float64, Int64

TEACHER_SETTINGS: Final[dict[str, dict[str, Setting]]] = {
    "gbdt": {
        "rounds": 400,
        "learning_rate": 0.05,
        "leaves": 15,
        "l2": 5.0,
        "column_share": 0.4,
        "patience": 20,
    },
    "text_svm": {"pieces": "char_wb", "longest": 4, "C": 3.0, "lowercase": True},
}
"""Settings that `wirebert compare` chose on held-out rows: trees for NSL-KDD, the SVM for HttpParams."""

MAX_TOKENS: Final = 255
"""Slots with more tokens are split by order in the vocabulary (falling frequency) instead of by set."""


@dataclass(frozen=True, slots=True)
class ColumnBaseline:
    """A method fitted on the columns of typed tables."""

    schema: FlowSchema
    encoder: FeatureEncoder
    predict: Predict
    needs_text: bool
    summary: Mapping[str, object]

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """See `Baseline`; new and missing values are allowed."""
        numbers = np.empty((table.num_rows, 0))  # a table without columns has no row count
        if self.encoder.known:
            numbers = self.encoder.matrix(extract_features(table, self.schema))
        return self.predict(Rows(numbers, joined_texts(table, self.schema) if self.needs_text else None))


@dataclass(frozen=True, slots=True)
class TokenBaseline:
    """A method fitted on the tokens of a model: a teacher."""

    ranks: Ranks
    predict: Predict
    needs_text: bool
    scaling: LogitScaling | None
    """Turns the margins of an SVM into logits; None: the method has probabilities."""
    summary: Mapping[str, object]

    @classmethod
    def fit(
        cls,
        name: str,
        params: Params,
        tokenizer: FlowTokenizer,
        train: JaggedRows,
        class_ids: Int64[np.ndarray, " train"],
        valid: EncodedFlows,
        *,
        num_classes: int,
        seed: int,
    ) -> "TokenBaseline":
        """Fit the method `name` on `train`, where every flow has a class.

        `valid` is used for early stopping of trees and to calibrate the SVM's margins.
        """
        method = BASELINES[name]
        ranks = Ranks.of(tokenizer)
        sizes = np.bincount(tokenizer.token_slots[tokenizer.token_slots >= 0], minlength=len(tokenizer.slots))
        is_categorical = ~ranks.is_ordered & (sizes <= MAX_TOKENS)
        valid_rows = _token_rows(ranks, valid.block, texts=method.needs_text)
        valid_ids = np.asarray(valid.class_ids).astype(np.int64)
        task = Task(
            train=_token_rows(ranks, train, texts=method.needs_text),
            train_ids=class_ids,
            stop=valid_rows,
            stop_ids=valid_ids,
            is_categorical=is_categorical[:0] if method.needs_text else is_categorical,
            num_classes=num_classes,
        )
        predict = fit_baseline(method, task, params, seed)
        scaling = None
        if method.needs_text:
            # Flows of classes that training lacks cannot calibrate margins.
            in_training = np.isin(valid_ids, class_ids)
            margins = np.log(predict(valid_rows).clip(TINY))
            scaling = fit_scaling(margins[in_training], valid_ids[in_training], "temperature")
        summary: dict[str, object] = {
            "method": f"{method.title} on the model's tokens",
            "num_flows_used": len(train),
            **params,
        }
        if method.needs_text:
            summary["text_columns"] = list(tokenizer.text_columns)
        return cls(ranks, predict, method.needs_text, scaling, summary)

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """See `Baseline`."""
        return self.predict_encoded(self.ranks.tokenizer.encode(table))

    def predict_encoded(self, block: JaggedRows) -> Float64[np.ndarray, "flows classes"]:
        """The same for encoded rows."""
        probabilities = self.predict(_token_rows(self.ranks, block, texts=self.needs_text))
        if self.scaling is None:
            return probabilities
        return softmax(self.scaling.apply(np.log(probabilities.clip(TINY))))


def fit_columns(
    name: str,
    params: Params,
    blocks: Iterable[tuple[pa.Table, Int64[np.ndarray, " flows"]]],
    schema: FlowSchema,
    num_classes: int,
    seed: int,
    max_rows: int = 200_000,
) -> ColumnBaseline:
    """Fit the method `name` on the training rows, without early stopping; deterministic for a seed.

    Args:
        blocks: Typed tables with the class id of each row; rows with a negative id (no label) are skipped.
        max_rows: Above this many rows, a uniform sample over the whole file is fitted, in bounded memory.
    """
    start_s = time.perf_counter()
    method = BASELINES[name]
    sample = _sample(blocks, schema, max_rows, np.random.default_rng(seed), with_texts=method.needs_text)
    encoder = FeatureEncoder.fit(sample.features)
    train = Rows(encoder.matrix(sample.features), sample.texts)
    task = Task(
        train=train,
        train_ids=sample.class_ids,
        stop=train.take(np.arange(0)),
        stop_ids=np.arange(0),
        is_categorical=encoder.is_categorical,
        num_classes=num_classes,
    )
    predict = fit_baseline(method, task, params, seed)
    use = column_usage(schema)
    summary = {
        "method": f"{method.title}, untuned",
        "num_flows_seen": sample.num_seen,
        "num_flows_used": len(sample.class_ids),
        "numbers": use.numbers,
        "codes": use.codes,
        "text_statistics": use.text_statistics,
        "left_out": use.left_out,
        "fit_s": time.perf_counter() - start_s,
    }
    return ColumnBaseline(schema, encoder, predict, method.needs_text, summary)


def _token_rows(ranks: Ranks, block: JaggedRows, *, texts: bool) -> Rows:
    """Ranks of the tokens in each slot, or with `texts` each row's text columns decoded to one text."""
    if not texts:
        return Rows(ranks.matrix(block))
    tokenizer, joined = ranks.tokenizer, list[str]()
    for first, last in zip(block.offsets[:-1], block.offsets[1:], strict=True):
        decoded = tokenizer.decode(block.ids[first:last])
        joined.append(" ".join(decoded[column] for column in tokenizer.text_columns))
    return Rows(np.zeros((len(block), 0)), joined)


@dataclass(frozen=True, slots=True)
class _Sample:
    features: pa.Table
    class_ids: Int64[np.ndarray, " flows"]
    num_seen: int
    texts: list[str] | None = None


_TEXTS: Final = "joined texts"


def _sample(
    blocks: Iterable[tuple[pa.Table, Int64[np.ndarray, " flows"]]],
    schema: FlowSchema,
    max_rows: int,
    rng: np.random.Generator,
    *,
    with_texts: bool,
) -> _Sample:
    """A uniform sample of at most `max_rows` labelled rows, in file order.

    Every row draws a random key; the rows with the lowest keys stay. Rows over the limit are dropped whenever
    twice as many are in memory, so memory does not grow with the file.
    """
    tables: list[pa.Table] = []
    ids: list[Int64[np.ndarray, " _"]] = []
    keys = np.empty(0)
    num_seen = 0
    for table, class_ids in blocks:
        labelled = np.flatnonzero(class_ids >= 0)
        num_seen += len(labelled)
        rows = table.take(row_numbers(labelled))
        features = extract_features(rows, schema)
        if with_texts:
            features = features.append_column(_TEXTS, pa.array(joined_texts(rows, schema), pa.string()))
        tables.append(features)
        ids.append(class_ids[labelled])
        keys = np.concatenate([keys, rng.random(len(labelled))])
        if len(keys) > 2 * max_rows:
            tables, ids, keys = _keep_lowest(tables, ids, keys, max_rows)
    if len(keys) > max_rows:
        tables, ids, keys = _keep_lowest(tables, ids, keys, max_rows)
    if not tables:
        return _Sample(pa.table({}), np.empty(0, dtype=np.int64), 0, [] if with_texts else None)
    features = concatenate(tables)
    texts = cast(list[str], features.column(_TEXTS).to_pylist()) if with_texts else None
    features = features.drop_columns([_TEXTS]) if with_texts else features
    return _Sample(features, np.concatenate(ids), num_seen, texts)


def _keep_lowest(
    tables: list[pa.Table],
    ids: list[Int64[np.ndarray, " _"]],
    keys: Float64[np.ndarray, " held"],
    max_rows: int,
) -> tuple[list[pa.Table], list[Int64[np.ndarray, " _"]], Float64[np.ndarray, " selected"]]:
    selected = np.sort(np.argpartition(keys, max_rows - 1)[:max_rows])
    return [concatenate(tables).take(row_numbers(selected))], [np.concatenate(ids)[selected]], keys[selected]
