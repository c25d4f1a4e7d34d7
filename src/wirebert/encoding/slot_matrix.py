"""Encoded rows as a matrix with a column for each slot: what left-out values stand for is put in again.

Text is not in it: of a text column only its first token is, which says that there is text.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Integer

from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer


def slot_ids(
    tokenizer: FlowTokenizer, rows: EncodedFlows | EncodedBlock
) -> Integer[np.ndarray, "rows slots"]:
    """The token of each slot; that of the most frequent value where a row leaves it out."""
    matrix = np.tile(tokenizer.default_ids.astype(tokenizer.dtype), (len(rows), 1))
    ids = np.asarray(rows.ids)
    slots = tokenizer.token_slots[ids]
    is_slot = slots >= 0
    matrix[np.repeat(np.arange(len(rows)), np.diff(rows.offsets))[is_slot], slots[is_slot]] = ids[is_slot]
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """Where a token stands among those of its slot, for methods that split columns."""

    tokenizer: FlowTokenizer
    of_token: Float64[np.ndarray, " tokens"]
    """Numbers from low to high, <above> on top, other marks NaN; all tokens of other slots in the vocabulary's order."""
    is_ordered: Bool[np.ndarray, " slots"]
    """Which slots hold numbers; the order of the others means nothing."""

    @classmethod
    def of(cls, tokenizer: FlowTokenizer) -> "Ranks":
        """The ranks of a tokenizer's tokens."""
        token_slots, marks = tokenizer.token_slots, tokenizer.slot_special
        of_token = np.full(tokenizer.num_tokens, np.nan)
        is_ordered = np.zeros(len(tokenizer.slots), dtype=bool)
        for ids in tokenizer.ordered_numbers:
            slot = int(token_slots[ids[0]])
            is_ordered[slot] = True
            of_token[ids] = np.arange(len(ids))
            of_token[marks[slot, 1]] = len(ids)
        others = np.flatnonzero((token_slots >= 0) & ~is_ordered[token_slots])
        of_token[others] = others - marks[token_slots[others]].min(axis=1)
        return cls(tokenizer, of_token, is_ordered)

    def matrix(self, rows: EncodedFlows | EncodedBlock) -> Float64[np.ndarray, "rows slots"]:
        """The rank in each slot."""
        return self.of_token[slot_ids(self.tokenizer, rows)]
