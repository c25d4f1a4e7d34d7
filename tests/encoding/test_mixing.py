import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding import mixing
from wirebert.encoding.mixing import mixed_rows
from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.slot_matrix import slot_ids
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer

NUM_COLUMNS = 8
NAMES = [f"c{number}" for number in range(NUM_COLUMNS)]
# Row i holds the value "v{i}" in every column, so that a value tells which row it comes from.
TABLE = pa.table({name: [f"v{row}" for row in range(20)] for name in NAMES})


def fitted(*, leave_out: bool = False, text: bool = False) -> tuple[FlowTokenizer, EncodedFlows]:
    columns = [Column(name=name, kind=ColumnKind.CATEGORY, is_feature=True) for name in NAMES]
    table = TABLE
    if text:
        columns.append(Column(name="payload", kind=ColumnKind.TEXT, is_feature=True))
        table = TABLE.append_column("payload", pa.array(["select " * row for row in range(20)]))
    schema = FlowSchema(name="test", columns=tuple(columns))
    config = EncodingConfig(leave_out=leave_out, num_pieces=256)
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), config)
    block = tokenizer.encode(table)
    rows = np.arange(len(block), dtype=np.int64)
    return tokenizer, EncodedFlows.from_arrays(block.ids, block.offsets, rows, rows)


def sources(tokenizer: FlowTokenizer, flows: EncodedFlows, blocks: list[EncodedBlock]) -> np.ndarray:
    """Which row each feature of the mixed rows comes from."""
    own = slot_ids(tokenizer, flows)[:, :NUM_COLUMNS]
    found = np.concatenate([slot_ids(tokenizer, block) for block in blocks])[:, :NUM_COLUMNS]
    return (found[:, None] == own).argmax(axis=1)


def test_columns_come_from_the_same_column_of_one_row_or_of_several():
    tokenizer, flows = fitted()
    blocks = list(mixed_rows(tokenizer, flows, 4000, seed=1))
    assert sum(map(len, blocks)) == 4000
    rows = sources(tokenizer, flows, blocks)
    own = slot_ids(tokenizer, flows)
    assert np.array_equal(
        own[rows, np.arange(NUM_COLUMNS)], np.concatenate([*(slot_ids(tokenizer, block) for block in blocks)])
    )
    # With the chance even in [0, 1], half of the columns come from elsewhere on average, in some rows none and in some all.
    most = np.array([np.bincount(row).max() for row in rows])
    assert (most == NUM_COLUMNS).any()
    assert (most == 1).any() or (most == 2).any()
    # (1 - chance) ** columns, on average over chances: 1 / 9, and a few more that drew the same row again.
    assert 0.1 < np.mean(most == NUM_COLUMNS) < 0.15
    assert 0.45 < np.mean(most) / NUM_COLUMNS < 0.65


def test_every_row_gives_columns_about_equally_often():
    tokenizer, flows = fitted()
    counts = np.bincount(sources(tokenizer, flows, list(mixed_rows(tokenizer, flows, 4000, seed=1))).ravel())
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


def test_the_same_seed_gives_the_same_rows_and_another_others():
    tokenizer, flows = fitted()
    one, same, other = (next(mixed_rows(tokenizer, flows, 50, seed)).ids for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_mixed_row_leaves_out_defaults_as_an_encoded_one_does():
    tokenizer, flows = fitted(leave_out=True)
    block = next(mixed_rows(tokenizer, flows, 500, seed=1))
    assert not np.isin(block.ids, tokenizer.default_ids).any()
    assert (block.ids[block.offsets[:-1]] == tokenizer.cls_id).all()
    assert np.diff(block.offsets).min() < 1 + NUM_COLUMNS


def test_texts_stay_with_their_row():
    tokenizer, flows = fitted(text=True)
    block = next(mixed_rows(tokenizer, flows, 300, seed=1))
    tails = {tuple(row[1 + NUM_COLUMNS :]) for row in np.split(flows.ids, flows.offsets[1:-1])}
    found = [tuple(row[1 + NUM_COLUMNS :]) for row in np.split(block.ids, block.offsets[1:-1])]
    assert set(found) == tails


def test_bits_of_one_flags_column_come_from_one_row():
    columns = (
        Column(name="flags", kind=ColumnKind.FLAGS, is_feature=True),
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
    )
    table = pa.table({"flags": ["SA", "F", "SA", "F"], "proto": ["a", "b", "c", "d"]})
    tokenizer = FlowTokenizer.fit(
        FlowSchema(name="test", columns=columns), lambda: iter([table]), EncodingConfig(leave_out=False)
    )
    block = tokenizer.encode(table)
    flows = EncodedFlows.from_arrays(block.ids, block.offsets, np.zeros(4, np.int64), np.arange(4))
    bits = tokenizer.slot_columns == 0
    assert bits.sum() > 1
    allowed = {tuple(row) for row in slot_ids(tokenizer, flows)[:, bits]}
    mixed = slot_ids(tokenizer, next(mixed_rows(tokenizer, flows, 200, seed=1)))
    assert {tuple(row) for row in mixed[:, bits]} == allowed


def test_a_sample_of_a_large_data_set_gives_the_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixing, "MOST_SOURCES", 5)
    tokenizer, flows = fitted()
    assert len(np.unique(sources(tokenizer, flows, list(mixed_rows(tokenizer, flows, 400, seed=1))))) == 5


def test_rows_come_block_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixing, "BLOCK_ROWS", 30)
    tokenizer, flows = fitted()
    assert [len(block) for block in mixed_rows(tokenizer, flows, 70, seed=1)] == [30, 30, 10]
