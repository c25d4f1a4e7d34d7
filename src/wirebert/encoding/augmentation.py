"""Rows that never were: each a training row some of whose columns come from other training rows.

A teacher that is asked about them shows what it makes of traffic that is unlike all training flows; a student
that learns from the training rows alone does not get to see that.

Source: Bucila, Caruana and Niculescu-Mizil, "Model Compression", KDD 2006, section 4.

NOTE[DIFF]: the paper mixes a row with its nearest neighbour, each column with the same chance. Here every
column comes from a row of its own, drawn from all, and the chance is drawn anew for each row, evenly in [0,
1]. Of a text column it is the tail of the text that does, cut anywhere.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64

from wirebert.encoding.matrix import slot_ids
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows, TextCells, join_rows, ranges, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer

BLOCK_ROWS: Final = 65_536

MAX_SOURCES: Final = 200_000
"""Maximum rows that columns are taken from, which bounds the memory."""


def augment_rows(
    tokenizer: FlowTokenizer, flows: EncodedFlows, num_rows: int, seed: int
) -> Iterator[JaggedRows]:
    """`num_rows` rows block by block, the same for the same seed."""
    random = np.random.default_rng(seed)
    chosen = np.arange(len(flows))
    if len(flows) > MAX_SOURCES:
        chosen = np.sort(random.choice(len(flows), MAX_SOURCES, replace=False))
    sources = take_rows(flows, chosen)
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
        if tokenizer.omits_most_frequent:
            is_written = np.ones(features.shape, dtype=bool)
            is_written[:, 1:] = features[:, 1:] != default_ids
        cells: list[TextCells] = []
        for column in texts:
            others = random.integers(0, len(ids), size)
            spliced = _spliced(
                column, own, others, random.random(size) < chance, tokenizer.text_budget, random
            )
            cells.append(TextCells(spliced, np.arange(size)))
        yield join_rows(features, is_written, cells, 0)


def _texts(tokenizer: FlowTokenizer, rows: JaggedRows) -> list[JaggedRows]:
    """What each row holds in each text column: the column's token, and the pieces that follow it."""
    num_features = len(tokenizer.slots) - len(tokenizer.text_columns)
    slots = tokenizer.token_slots[rows.ids]
    row_of = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    heads = np.flatnonzero(slots >= num_features)
    lengths = np.diff(np.append(heads, len(slots)))
    # Texts come last in a row, in the order of their columns.
    lengths = np.minimum(lengths, rows.offsets[1:][row_of[heads]] - heads)
    found: list[JaggedRows] = []
    for slot in range(num_features, len(tokenizer.slots)):
        is_own = slots[heads] == slot
        num_tokens = np.zeros(len(rows), np.int64)  # a row may leave its text out
        num_tokens[row_of[heads[is_own]]] = lengths[is_own]
        offsets = np.concatenate([[0], np.cumsum(num_tokens)])
        found.append(JaggedRows(rows.ids[ranges(heads[is_own], lengths[is_own])], offsets))
    return found


def _spliced(
    texts: JaggedRows,
    own: Int64[np.ndarray, " rows"],
    others: Int64[np.ndarray, " rows"],
    is_mixed: Bool[np.ndarray, " rows"],
    budget: int,
    random: np.random.Generator,
) -> JaggedRows:
    """Each row's text; where it is mixed, the head of that and the tail of another one, of `budget` pieces at
    most."""
    num_pieces = (texts.lengths - 1).clip(0)
    is_cut = is_mixed & (num_pieces[own] > 0)
    head = 1 + np.floor(random.random(len(own)) * num_pieces[own]).astype(np.int64)
    tail = np.floor(random.random(len(own)) * (num_pieces[others] + 1)).astype(np.int64)
    tail = np.where(is_cut, np.minimum(tail, budget - head), 0)
    head = np.where(is_cut, 1 + head, texts.lengths[own])  # with the column's token
    starts, ends = texts.offsets[:-1], texts.offsets[1:]
    parts = np.stack([starts[own], ends[others] - tail], axis=1), np.stack([head, tail], axis=1)
    flat = texts.ids[ranges(parts[0].reshape(-1), parts[1].reshape(-1))]
    return JaggedRows(flat, np.concatenate([[0], np.cumsum(head + tail)]))
