import re

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding import augmentation as mixing
from wirebert.encoding.augmentation import augment_rows
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.matrix import slot_ids
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
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
    config = EncodingConfig(omit_most_frequent=leave_out, subword_vocab_size=256)
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), config)
    block = tokenizer.encode(table)
    rows = np.arange(len(block), dtype=np.int64)
    return tokenizer, EncodedFlows.from_arrays(block.ids, block.offsets, rows, rows)


def sources(tokenizer: FlowTokenizer, flows: EncodedFlows, blocks: list[JaggedRows]) -> np.ndarray:
    """Which row each feature of the mixed rows comes from."""
    own = slot_ids(tokenizer, flows)[:, :NUM_COLUMNS]
    found = np.concatenate([slot_ids(tokenizer, block) for block in blocks])[:, :NUM_COLUMNS]
    return (found[:, None] == own).argmax(axis=1)


def test_columns_come_from_the_same_column_of_one_row_or_of_several():
    tokenizer, flows = fitted()
    blocks = list(augment_rows(tokenizer, flows, 4000, seed=1))
    assert sum(map(len, blocks)) == 4000
    rows = sources(tokenizer, flows, blocks)
    own = slot_ids(tokenizer, flows)
    assert np.array_equal(
        own[rows, np.arange(NUM_COLUMNS)], np.concatenate([*(slot_ids(tokenizer, block) for block in blocks)])
    )
    # With the chance even in [0, 1], half of the columns come from elsewhere on average, in some rows none
    # and in some all.
    most = np.array([np.bincount(row).max() for row in rows])
    assert (most == NUM_COLUMNS).any()
    assert (most == 1).any() or (most == 2).any()
    # (1 - chance) ** columns, on average over chances: 1 / 9, and a few more that drew the same row again.
    assert 0.1 < np.mean(most == NUM_COLUMNS) < 0.15
    assert 0.45 < np.mean(most) / NUM_COLUMNS < 0.65


def test_every_row_gives_columns_about_equally_often():
    tokenizer, flows = fitted()
    counts = np.bincount(
        sources(tokenizer, flows, list(augment_rows(tokenizer, flows, 4000, seed=1))).ravel()
    )
    assert counts.min() > 0.8 * counts.mean()
    assert counts.max() < 1.2 * counts.mean()


def test_the_same_seed_gives_the_same_rows_and_another_others():
    tokenizer, flows = fitted()
    one, same, other = (next(augment_rows(tokenizer, flows, 50, seed)).ids for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_mixed_row_leaves_out_defaults_as_an_encoded_one_does():
    tokenizer, flows = fitted(leave_out=True)
    block = next(augment_rows(tokenizer, flows, 500, seed=1))
    assert not np.isin(block.ids, tokenizer.default_ids).any()
    assert (block.ids[block.offsets[:-1]] == tokenizer.cls_id).all()
    assert np.diff(block.offsets).min() < 1 + NUM_COLUMNS


def cells(tokenizer: FlowTokenizer, block: JaggedRows | EncodedFlows, name: str = "payload") -> list[str]:
    return [
        tokenizer.decode(block.ids[first:last])[name]
        for first, last in zip(block.offsets[:-1], block.offsets[1:], strict=True)
    ]


def of_texts(**columns: list[str | None]) -> tuple[FlowTokenizer, EncodedFlows]:
    schema = FlowSchema(
        name="test",
        columns=tuple(Column(name=name, kind=ColumnKind.TEXT, is_feature=True) for name in columns),
    )
    table = pa.table(columns)
    config = EncodingConfig(subword_vocab_size=300, max_text_tokens=12)
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), config)
    block = tokenizer.encode(table)
    rows = np.arange(len(block), dtype=np.int64)
    return tokenizer, EncodedFlows.from_arrays(block.ids, block.offsets, rows, rows)


def test_a_text_is_the_head_of_one_and_the_tail_of_another():
    letters = "abcdefgh"
    tokenizer, flows = of_texts(payload=[letter * (3 + row) for row, letter in enumerate(letters)])
    found = cells(tokenizer, next(augment_rows(tokenizer, flows, 4000, seed=1)))
    whole = cells(tokenizer, flows)
    assert all(re.fullmatch(r"(.)\1*(.)?\2*", text) for text in found)
    assert {text[0] for text in found} == {text[-1] for text in found} == set(letters)
    is_cut = np.array([text not in whole for text in found])
    assert (
        0.35 < is_cut.mean() < 0.5
    )  # half are; some meet their own tails, or another's that is as long as nothing
    assert len(set(np.array(found)[is_cut])) > 200


def test_a_tail_ends_where_its_text_ends():
    tokenizer, flows = of_texts(payload=["/a/b/c/d", "/1/2/3/4"])
    found = cells(tokenizer, next(augment_rows(tokenizer, flows, 1000, seed=1)))
    tails = {re.sub(r"^/?[a-d/]*[a-d]/?", "", text) for text in found if re.match(r"/?[a-d].*\d", text)}
    assert tails
    assert all("/1/2/3/4".endswith(tail) for tail in tails)


def test_a_spliced_text_has_no_more_pieces_than_the_budget_and_an_empty_one_stays_so():
    tokenizer, flows = of_texts(uri=["/1/2" * 20, "", None, "/3/4" * 20], agent=["56" * 9, "78", "", None])
    mixed = next(augment_rows(tokenizer, flows, 2000, seed=1))
    assert np.diff(flows.offsets).max() > 1 + 1 + 12  # a text of 80 signs is cut
    lengths = np.diff(mixed.offsets)
    assert 1 + 1 + 12 < lengths.max() <= 1 + 2 * (1 + 12)
    for name, letters in (("uri", "/1234"), ("agent", "5678")):
        found, whole = cells(tokenizer, mixed, name), cells(tokenizer, flows, name)
        no_text = [text for text in whole if not set(text) & set(letters)]
        assert {text for text in found if not set(text) & set(letters)} == set(no_text)
        assert set("".join(text for text in found if text not in no_text)) == set(letters)
        assert 0.45 < np.mean([text in no_text for text in found]) < 0.55  # two of four rows


def test_bits_of_one_flags_column_come_from_one_row():
    columns = (
        Column(name="flags", kind=ColumnKind.FLAGS, is_feature=True),
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
    )
    table = pa.table({"flags": ["SA", "F", "SA", "F"], "proto": ["a", "b", "c", "d"]})
    tokenizer = FlowTokenizer.fit(
        FlowSchema(name="test", columns=columns),
        lambda: iter([table]),
        EncodingConfig(omit_most_frequent=False),
    )
    block = tokenizer.encode(table)
    flows = EncodedFlows.from_arrays(block.ids, block.offsets, np.zeros(4, np.int64), np.arange(4))
    bits = tokenizer.slot_columns == 0
    assert bits.sum() > 1
    allowed = {tuple(row) for row in slot_ids(tokenizer, flows)[:, bits]}
    mixed = slot_ids(tokenizer, next(augment_rows(tokenizer, flows, 200, seed=1)))
    assert {tuple(row) for row in mixed[:, bits]} == allowed


def test_a_sample_of_a_large_data_set_gives_the_columns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixing, "MAX_SOURCES", 5)
    tokenizer, flows = fitted()
    assert len(np.unique(sources(tokenizer, flows, list(augment_rows(tokenizer, flows, 400, seed=1))))) == 5


def test_rows_come_block_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixing, "BLOCK_ROWS", 30)
    tokenizer, flows = fitted()
    assert [len(block) for block in augment_rows(tokenizer, flows, 70, seed=1)] == [30, 30, 10]
