"""Synthetic rows by column mixing: training rows with some columns taken from other training rows.

The teacher's predictions for them show the student how the teacher classifies traffic unlike any training
flow.

Source: Bucila, Caruana and Niculescu-Mizil, "Model Compression", KDD 2006, section 4.

NOTE[DIFF]: the paper mixes a row with its nearest neighbour, with one probability for all rows. Here each
mixed column comes from another random row, and each row draws its probability uniformly from [0, 1]. In a
text column only the tail of the text is replaced, from a random position on.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from wirebert.encoding.matrix import slot_ids
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows, TextCells, join_rows, ranges, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.shapes import Bool, Int64

BLOCK_ROWS: Final = 65_536

MAX_SOURCES: Final = 200_000
"""Maximum number of source rows, which bounds the memory."""


def augment_rows(
    tokenizer: FlowTokenizer, flows: EncodedFlows, num_rows: int, seed: int
) -> Iterator[JaggedRows]:
    """Yield `num_rows` synthetic rows in blocks; the same seed gives the same rows."""
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
        bases = random.integers(0, len(ids), size)
        features = np.empty((size, 1 + num_features), tokenizer.dtype)
        features[:, 0] = tokenizer.cls_id
        chance = random.random(size)
        for column in np.unique(columns):
            others = random.integers(0, len(ids), size)
            rows = np.where(random.random(size) < chance, others, bases)
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
                column, bases, others, random.random(size) < chance, tokenizer.text_budget, random
            )
            cells.append(TextCells(spliced, np.arange(size)))
        yield join_rows(features, is_written, cells, 0)


def _texts(tokenizer: FlowTokenizer, rows: JaggedRows) -> list[JaggedRows]:
    """Each text column's tokens in each row: the `column:` token and its pieces."""
    num_features = len(tokenizer.slots) - len(tokenizer.text_columns)
    slots = tokenizer.token_slots[rows.ids]
    row_of = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    heads = np.flatnonzero(slots >= num_features)
    lengths = np.diff(np.append(heads, len(slots)))
    # Texts come last in a row, in the order of their columns.
    lengths = np.minimum(lengths, rows.offsets[1:][row_of[heads]] - heads)
    columns: list[JaggedRows] = []
    for slot in range(num_features, len(tokenizer.slots)):
        is_column = slots[heads] == slot
        num_tokens = np.zeros(len(rows), np.int64)  # a row may leave its text out
        num_tokens[row_of[heads[is_column]]] = lengths[is_column]
        offsets = np.concatenate([[0], np.cumsum(num_tokens)])
        columns.append(JaggedRows(rows.ids[ranges(heads[is_column], lengths[is_column])], offsets))
    return columns


def _spliced(
    texts: JaggedRows,
    bases: Int64[np.ndarray, " rows"],
    others: Int64[np.ndarray, " rows"],
    is_mixed: Bool[np.ndarray, " rows"],
    budget: int,
    random: np.random.Generator,
) -> JaggedRows:
    """Each row's text; if mixed, its head and the tail of another text, at most `budget` pieces."""
    num_pieces = (texts.lengths - 1).clip(0)
    is_cut = is_mixed & (num_pieces[bases] > 0)
    head = 1 + np.floor(random.random(len(bases)) * num_pieces[bases]).astype(np.int64)
    tail = np.floor(random.random(len(bases)) * (num_pieces[others] + 1)).astype(np.int64)
    tail = np.where(is_cut, np.minimum(tail, budget - head), 0)
    head = np.where(is_cut, 1 + head, texts.lengths[bases])  # with the column's token
    starts, ends = texts.offsets[:-1], texts.offsets[1:]
    parts = np.stack([starts[bases], ends[others] - tail], axis=1), np.stack([head, tail], axis=1)
    flat = texts.ids[ranges(parts[0].reshape(-1), parts[1].reshape(-1))]
    return JaggedRows(flat, np.concatenate([[0], np.cumsum(head + tail)]))
