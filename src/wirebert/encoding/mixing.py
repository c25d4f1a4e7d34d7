"""Rows that never were: each a training row some of whose columns come from other training rows.

A teacher that is asked about them shows what it makes of traffic that is unlike all training flows; a student that learns
from the training rows alone does not get to see that.

Source: Bucila, Caruana and Niculescu-Mizil, "Model Compression", KDD 2006, section 4.

NOTE[DIFF]: the paper mixes a row with its nearest neighbour, each column with the same chance. Here every column comes from
a row of its own, drawn from all, and the chance is drawn anew for each row, evenly in [0, 1].
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from wirebert.encoding.rows import EncodedBlock, TextCells, join_rows, take_rows
from wirebert.encoding.slot_matrix import slot_ids
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.text import Ragged
from wirebert.encoding.tokenizer import FlowTokenizer

BLOCK_ROWS: Final = 65_536

MOST_SOURCES: Final = 200_000
"""Rows that columns are taken from at most: what is in memory does not grow with the data."""


def mixed_rows(
    tokenizer: FlowTokenizer, flows: EncodedFlows, num_rows: int, seed: int
) -> Iterator[EncodedBlock]:
    """`num_rows` rows block by block, the same for the same seed. Text columns stay with their row."""
    random = np.random.default_rng(seed)
    chosen = np.arange(len(flows))
    if len(flows) > MOST_SOURCES:
        chosen = np.sort(random.choice(len(flows), MOST_SOURCES, replace=False))
    sources = take_rows(flows.block, chosen)
    ids, texts = slot_ids(tokenizer, sources), _texts(tokenizer, sources)
    num_features = len(tokenizer.slots) - len(tokenizer.text_columns)
    columns = tokenizer.slot_columns[:num_features]
    default_ids = tokenizer.default_ids[:num_features]
    for first in range(0, num_rows, BLOCK_ROWS):
        size = min(BLOCK_ROWS, num_rows - first)
        own = random.integers(0, len(ids), size)
        features = np.empty((size, 1 + num_features), tokenizer.dtype)
        features[:, 0] = tokenizer.cls_id
        chance = random.random(size)
        for column in np.unique(columns):
            others = random.integers(0, len(ids), size)
            rows = np.where(random.random(size) < chance, others, own)
            slots = np.flatnonzero(columns == column)
            features[:, 1 + slots] = ids[rows[:, None], slots]
        is_written = None
        if tokenizer.leaves_out:
            is_written = np.ones(features.shape, dtype=bool)
            is_written[:, 1:] = features[:, 1:] != default_ids
        cells = [TextCells(texts, own)] if tokenizer.text_columns else []
        yield join_rows(features, is_written, cells, 0)


def _texts(tokenizer: FlowTokenizer, rows: EncodedBlock) -> Ragged:
    """What stands after the features of each row: the first token of a text column and all that follow it."""
    num_features = len(tokenizer.slots) - len(tokenizer.text_columns)
    slots = tokenizer.token_slots[rows.ids]
    is_feature = (slots >= 0) & (slots < num_features)
    is_feature[rows.offsets[:-1]] = True  # [CLS]
    row_of = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    num_tokens = np.bincount(row_of[~is_feature], minlength=len(rows))
    return Ragged(rows.ids[~is_feature], np.concatenate([[0], np.cumsum(num_tokens)]))
