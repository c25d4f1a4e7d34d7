import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from wirebert.baselines.quick_trees import QuickTrees, fit_trees
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema


def column(name: str, kind: ColumnKind, *, is_feature: bool = True) -> Column:
    return Column(name=name, kind=kind, is_feature=is_feature)


SCHEMA = FlowSchema(
    name="tiny",
    columns=(
        column("bytes", ColumnKind.COUNT),
        column("service", ColumnKind.CATEGORY),
        column("source", ColumnKind.ADDRESS),
        column("uri", ColumnKind.TEXT),
        column("label", ColumnKind.LABEL, is_feature=False),
    ),
)


def block(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """0: short web requests; 1: large transfers; 2: web requests full of quotes."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, num_flows)
    services = np.where(ids == 1, "ftp", "http")
    uris = [None if i == 1 else "/a?id=1' OR '1'='1" if i == 2 else "/index.html" for i in ids]
    table = pa.table(
        {
            "bytes": pa.array(rng.normal(100 + 900 * (ids == 1), 10)).dictionary_encode(),
            "service": pa.array(services).dictionary_encode(),
            "source": pa.array([f"10.0.0.{i}" for i in ids]),
            "uri": pa.array(uris, pa.string()),
        }
    )
    return table, ids


def fit(num_blocks: int = 3, num_classes: int = 4, **settings: int) -> QuickTrees:
    return fit_trees(
        (block(200, seed) for seed in range(num_blocks)), SCHEMA, num_classes, seed=0, **settings
    )


def test_trees_tell_classes_apart_by_numbers_categories_and_text_statistics() -> None:
    table, ids = block(300, seed=99)
    probabilities = fit().predict_proba(table)
    assert probabilities.shape == (300, 4)
    assert (probabilities.argmax(axis=1) == ids).all()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, 3] == 0).all()  # a class that the training rows lack


def test_trees_never_see_an_address() -> None:
    trees = fit()
    table, _ = block(50, seed=99)
    other = table.set_column(2, "source", pa.array(["8.8.8.8"] * 50))
    assert (trees.predict_proba(table) == trees.predict_proba(other)).all()
    assert trees.summary.left_out == ("source",)


def test_missing_columns_and_unseen_missing_and_infinite_values_are_scored() -> None:
    table = pa.table({"bytes": [None, np.inf, -np.inf], "service": ["gopher", None, "http"]})
    probabilities = fit().predict_proba(table)
    assert np.isfinite(probabilities).all()
    assert fit().predict_proba(table.slice(0, 0)).shape == (0, 4)


def test_the_same_seed_gives_the_same_probabilities() -> None:
    table, _ = block(300, seed=99)
    assert (fit().predict_proba(table) == fit().predict_proba(table)).all()


def test_no_more_rows_than_allowed_are_fitted_and_they_come_from_the_whole_file() -> None:
    tickets: list[int] = []

    def blocks() -> Iterator[tuple[pa.Table, np.ndarray]]:
        for number in range(10):
            table, ids = block(100, number)
            tickets.append(number)
            yield table.set_column(0, "bytes", pa.array(np.full(100, float(number)))), ids

    trees = fit_trees(blocks(), SCHEMA, 3, seed=0, max_rows=150)
    assert (trees.summary.num_flows_seen, trees.summary.num_flows_used) == (1000, 150)
    assert tickets == list(range(10))


def test_a_sample_is_uniform_over_the_file() -> None:
    # Class = position in the file; 100 of 1,000 rows each: the chance that any tenth gets none is below 1e-4.
    blocks = ((block(100, number)[0], np.full(100, number)) for number in range(10))
    trees = fit_trees(blocks, SCHEMA, 10, seed=0, max_rows=100)
    assert trees.class_ids.tolist() == list(range(10))


def test_rows_without_a_label_are_passed_over() -> None:
    table, ids = block(100, 0)
    ids = np.where(ids == 2, -1, ids)
    trees = fit_trees([(table, ids)], SCHEMA, 3, seed=0)
    assert trees.class_ids.tolist() == [0, 1]
    assert trees.summary.num_flows_seen == int((ids >= 0).sum())


def test_a_training_set_of_one_class_or_without_columns_gives_a_constant_verdict() -> None:
    table, ids = block(100, 0)
    one = fit_trees([(table, np.zeros_like(ids))], SCHEMA, 2, seed=0)
    assert one.predict_proba(table)[:, 0].tolist() == [1.0] * 100
    bare = FlowSchema(name="bare", columns=(column("source", ColumnKind.ADDRESS),))
    guess = fit_trees([(table, np.array([0] * 40 + [1] * 60))], bare, 2, seed=0)
    assert guess.predict_proba(table)[:, 1].tolist() == [1.0] * 100


@pytest.mark.soak
def test_nsl_kdd_trees_are_as_good_as_xgboost(data_dir: Path) -> None:
    def read(name: str) -> tuple[pa.Table, np.ndarray]:
        with gzip.open(data_dir / "nsl-kdd" / name, "rt") as file:
            rows = np.array([line.strip().split(",") for line in file])
        columns = {f"c{i:02}": rows[:, i] if i in (1, 2, 3) else rows[:, i].astype(float) for i in range(41)}
        return pa.table(columns), (rows[:, 41] != "normal").astype(np.int64)

    train, ids = read("KDDTrain+.txt.gz")
    kinds = {f"c{i:02}": ColumnKind.CATEGORY if i in (1, 2, 3) else ColumnKind.NUMBER for i in range(41)}
    schema = FlowSchema(name="nsl", columns=tuple(column(name, kind) for name, kind in kinds.items()))
    trees = fit_trees([(train, ids)], schema, 2, seed=0)
    test, true_ids = read("KDDTest+.txt.gz")
    probabilities = trees.predict_proba(test)
    assert sk.accuracy_score(true_ids, probabilities.argmax(axis=1)) > 0.77
    assert sk.roc_auc_score(true_ids, probabilities[:, 1]) > 0.93
