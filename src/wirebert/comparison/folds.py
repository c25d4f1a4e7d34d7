"""Folds of the training file for tuning: whole attacks are held out, so that tuning cannot profit from them.

If each class has a single attack name, holding a name out would leave no row of its class to train on. Then
folds are random, with equal rows together. No test row is in any fold.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wirebert.baselines.task import Rows, Task, joined_texts, text_columns
from wirebert.config import RunConfig
from wirebert.data.flows import FlowSubset
from wirebert.data.sampling import sample_by_name
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.splits import duplicate_safe_split
from wirebert.encoding.matrix import FeatureEncoder, concatenate, extract_features
from wirebert.shapes import Bool, Int64, UInt64
from wirebert.workflows.prepare import PreparedData

ATTACKS_WHOLE = "whole attack names held out, benign rows at random; equal rows on one side"
AT_RANDOM = "rows at random, equal rows on one side (each class has one name, so none can be held out)"


@dataclass(frozen=True, slots=True)
class Folds:
    """The rows that each fold holds out."""

    held_out: Int64[np.ndarray, " rows"]
    """Index of the fold that holds each row out."""
    groups: Int64[np.ndarray, " rows"]
    """Group of each row; rows of one group are equal."""
    statement: str

    def train_and_held_out(self, fold: int) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """Training and held-out rows of a fold; a row equal to a held-out one of another name is neither."""
        is_held_out = self.held_out == fold
        return ~np.isin(self.groups, self.groups[is_held_out]), is_held_out


def leave_attacks_out(
    name_ids: Int64[np.ndarray, " rows"],
    class_ids: Int64[np.ndarray, " rows"],
    hashes: UInt64[np.ndarray, " rows"],
    benign: int | None,
    *,
    num_folds: int,
    seed: int,
) -> Folds:
    """Folds that hold out whole attack names.

    Names of a class are distributed by size, so that each fold has some of every class and at least one name
    remains for training. The only name of a class is spread over the folds by rows, like benign rows.

    >>> names, classes = np.array([0, 1, 1, 2, 2, 3]), np.array([0, 1, 1, 1, 1, 1])
    >>> folds = leave_attacks_out(names, classes, np.arange(6, dtype=np.uint64), 0, num_folds=3, seed=0)
    >>> [len(set(folds.held_out[names == name].tolist())) for name in (1, 2, 3)]
    [1, 1, 1]
    """
    rng = np.random.default_rng(seed)
    # By content, not by row: equal rows fall into one fold.
    _, group = np.unique(hashes, return_inverse=True)
    fold_of_group = rng.integers(0, num_folds, int(group.max(initial=-1)) + 1)
    held_out = fold_of_group[group].astype(np.int64)
    has_names = False
    for class_id in np.unique(class_ids):
        names, sizes = np.unique(name_ids[class_ids == class_id], return_counts=True)
        if class_id == benign or len(names) < 2:
            continue
        has_names = True
        # The largest first, each to the smallest fold. The first fold is random, so that no fold gets the
        # largest name of every class.
        load = rng.random(num_folds)
        for name, size in sorted(zip(names.tolist(), sizes.tolist(), strict=True), key=lambda pair: -pair[1]):
            fold = int(load.argmin())
            load[fold] += size
            held_out[(name_ids == name) & (class_ids == class_id)] = fold
    return Folds(held_out, group.astype(np.int64), ATTACKS_WHOLE if has_names else AT_RANDOM)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchPool:
    """The training and validation rows of the training file, in file order."""

    schema: FlowSchema
    features: pa.Table
    texts: list[str] | None
    class_ids: Int64[np.ndarray, " rows"]
    row_numbers: Int64[np.ndarray, " rows"]
    """Row numbers in the file."""
    hashes: UInt64[np.ndarray, " rows"]
    is_valid: Bool[np.ndarray, " rows"]
    folds: Folds
    is_searched: Bool[np.ndarray, " rows"]
    """Whether each row is used in trials."""
    num_classes: int

    def task(
        self, is_train: Bool[np.ndarray, " rows"], is_stop: Bool[np.ndarray, " rows"]
    ) -> tuple[Task, FeatureEncoder]:
        """The task for a method; categories are encoded from the rows that it trains on."""
        coding = FeatureEncoder.fit(self.features.filter(pa.array(is_train)))
        rows = Rows(coding.matrix(self.features), self.texts)
        train, stop = np.flatnonzero(is_train), np.flatnonzero(is_stop)
        task = Task(
            train=rows.take(train),
            train_ids=self.class_ids[train],
            stop=rows.take(stop),
            stop_ids=self.class_ids[stop],
            is_categorical=np.array([values is not None for _, values in coding.known], dtype=bool),
            num_classes=self.num_classes,
        )
        return task, coding

    def rows(self, coding: FeatureEncoder, chosen: Bool[np.ndarray, " rows"]) -> Rows:
        """These rows, encoded."""
        texts = None if self.texts is None else [self.texts[row] for row in np.flatnonzero(chosen)]
        return Rows(coding.matrix(self.features.filter(pa.array(chosen))), texts)

    def fold_split(
        self, fold: int, valid_fraction: float, seed: int
    ) -> tuple[Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
        """Rows of a fold for training, for early stopping, and held out."""
        is_open, is_held_out = self.folds.train_and_held_out(fold)
        is_stop = np.zeros(len(is_open), bool)
        is_stop[is_open] = duplicate_safe_split(
            self.hashes[is_open], self.class_ids[is_open], valid_fraction, seed
        )
        return is_open & ~is_stop, is_stop, is_held_out

    def part(self, name: str, like: FlowSubset, chosen: Bool[np.ndarray, " rows"]) -> FlowSubset:
        """These rows as a part of the training file."""
        assert like.rows is not None
        rows = np.zeros(len(like.rows), bool)
        rows[self.row_numbers[chosen]] = True
        return FlowSubset(name, like.flows, rows)


def read_search_pool(run: RunConfig, data: PreparedData) -> SearchPool:
    """The training and validation rows of the training file."""
    schema = data.flows.schema
    tables: list[pa.Table] = []
    texts: list[str] | None = [] if text_columns(schema) else None
    assert data.train.rows is not None
    assert data.valid.rows is not None
    is_open = data.train.rows | data.valid.rows
    numbers = np.flatnonzero(is_open).astype(np.int64)
    for table in FlowSubset("open", data.flows, is_open).tables():
        tables.append(extract_features(table, schema))
        if texts is not None:
            texts += joined_texts(table, schema)
    class_ids = data.profile.class_ids(data.classes)[numbers]
    name_ids = data.profile.labels[numbers].astype(np.int64)
    hashes = data.profile.feature_hashes[numbers]
    benign = data.classes.benign
    return SearchPool(
        schema=schema,
        features=concatenate(tables),
        texts=texts,
        class_ids=class_ids,
        row_numbers=numbers,
        hashes=hashes,
        is_valid=data.valid.rows[numbers],
        folds=leave_attacks_out(
            name_ids,
            class_ids,
            hashes,
            None if benign is None else data.classes.classes.index(benign),
            num_folds=run.comparison.num_folds,
            seed=run.seed,
        ),
        is_searched=sample_by_name(name_ids, run.comparison.max_search_rows, run.seed),
        num_classes=len(data.classes.classes),
    )
