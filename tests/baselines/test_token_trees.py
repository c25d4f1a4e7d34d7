import numpy as np
import pyarrow as pa
import pytest

from wirebert.baselines import token_trees
from wirebert.baselines.token_trees import ClassWeights, TokenTrees
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer

NUM_FLOWS = 400
SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
    ),
)


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(token_trees, "TREE_SETTINGS", token_trees.TREE_SETTINGS | {"max_iter": 30})


def traffic(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Class 1 is udp with many bytes, class 3 icmp; all else is class 0, and nothing is class 2."""
    random = np.random.default_rng(seed)
    proto = random.choice(["tcp", "udp", "icmp"], num_flows)
    size = random.integers(0, 1000, num_flows)
    class_ids = np.where(proto == "icmp", 3, ((proto == "udp") & (size > 500)).astype(np.int64))
    return pa.table({"proto": proto.tolist(), "bytes": size}), class_ids


def encoded(tokenizer: FlowTokenizer, table: pa.Table, class_ids: np.ndarray) -> EncodedFlows:
    block = tokenizer.encode(table)
    return EncodedFlows.from_arrays(block.ids, block.offsets, class_ids, np.arange(len(block)))


def fitted(*, seed: int = 1, num_classes: int = 4) -> tuple[FlowTokenizer, TokenTrees]:
    table, class_ids = traffic(NUM_FLOWS, 1)
    tokenizer = FlowTokenizer.fit(SCHEMA, lambda: iter([table]), EncodingConfig())
    valid_table, valid_ids = traffic(100, 2)
    valid_ids[0] = 2  # which training lacks
    valid = encoded(tokenizer, valid_table, valid_ids)
    block = tokenizer.encode(table)
    trees = TokenTrees.fit(
        tokenizer, block, class_ids, valid, num_classes=num_classes, weights="balanced", seed=seed
    )
    return tokenizer, trees


def test_trees_find_a_rule_over_two_columns():
    tokenizer, trees = fitted()
    table, class_ids = traffic(500, 3)
    found = trees.predict_log_proba(tokenizer.encode(table))
    assert np.mean(found.argmax(axis=1) == class_ids) > 0.97
    assert found.sum(axis=1) == pytest.approx(1)


def test_a_class_without_a_training_flow_has_no_probability():
    tokenizer, trees = fitted()
    found = trees.predict_log_proba(tokenizer.encode(traffic(20, 3)[0]))
    assert found.shape == (20, 4)
    assert not found[:, 2].any()


def test_values_that_training_never_shows_are_welcome():
    tokenizer, trees = fitted()
    table = pa.table({"proto": ["sctp", None, "udp"], "bytes": pa.array([None, 5, 10**9], pa.int64())})
    found = trees.predict_log_proba(tokenizer.encode(table))
    assert np.isfinite(found).all()
    assert found[2].argmax() == 1  # above all that training shows counts as much


def test_the_same_seed_gives_the_same_trees():
    (tokenizer, one), (_, same) = fitted(), fitted()
    block = tokenizer.encode(traffic(50, 3)[0])
    assert np.array_equal(one.predict_log_proba(block), same.predict_log_proba(block))


@pytest.mark.parametrize(("weights", "expected"), [("none", 0.1), ("sqrt", 0.25), ("balanced", 0.5)])
def test_class_weights_say_how_much_a_rare_class_counts(weights: ClassWeights, expected: float):
    """Two classes of 900 and 100 flows that can not be told apart: 1 to 9, 1 to 3 and 1 to 1."""
    table = pa.table({"proto": ["tcp"] * 1000, "bytes": [1] * 1000})
    class_ids = (np.arange(1000) % 10 == 0).astype(np.int64)
    tokenizer = FlowTokenizer.fit(SCHEMA, lambda: iter([table]), EncodingConfig())
    valid = encoded(tokenizer, table, class_ids)
    block = tokenizer.encode(table)
    trees = TokenTrees.fit(tokenizer, block, class_ids, valid, num_classes=2, weights=weights, seed=1)
    assert trees.predict_log_proba(block)[0, 1] == pytest.approx(expected, abs=0.02)


def test_rows_of_a_table_are_encoded_first():
    tokenizer, trees = fitted()
    table = traffic(20, 3)[0]
    assert np.array_equal(trees.predict_proba(table), trees.predict_log_proba(tokenizer.encode(table)))
