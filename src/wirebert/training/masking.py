"""Masking for pretraining: a fixed fraction of each row's features, drawn anew each epoch.

Works on ragged rows, as `wirebert.training.corruption` does. A masked token is written as its id + V
(`wirebert.model.masked_lm`), where V is the size of the vocabulary. Where rows leave out the most frequent
values, those are masked too: the mask is added to the row and looks like the mask of any other value.

Source: Devlin et al., "BERT", 2018, section 3.1: 15 % of the tokens, the same number in rows of the same
length.

Shape letters: B flows, T tokens of all flows, S slots that are masked, P pieces of text of all flows.
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np

from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import SPECIAL_TOKENS
from wirebert.shapes import Bool, Int, Int64
from wirebert.training.corruption import assemble
from wirebert.training.masking_config import MaskingConfig

MOST_16_BIT: Final = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Masking:
    """Masks features and text pieces; not the `column:` tokens of texts, which their pieces would reveal."""

    num_tokens: int
    """Size of the vocabulary."""

    token_slots: Int[np.ndarray, " V"]
    """Slot of each token that may be masked as a feature; -1 for all others."""

    is_piece: Bool[np.ndarray, " V"]
    """Whether a token is a piece of text."""

    default_ids: Int[np.ndarray, " S"]
    """Each slot's most frequent value."""

    omits_most_frequent: bool
    """Whether a slot without a token represents its most frequent value."""

    mask_fraction: float
    max_text_masked: int
    """Maximum text pieces of a row."""

    max_length: int
    """Longest row that the model takes, in tokens."""

    @classmethod
    def of(cls, tokenizer: FlowTokenizer, config: MaskingConfig) -> "Masking":
        """The masking set in `config`, for a tokenizer's rows."""
        num_slots = len(tokenizer.slots) - len(tokenizer.text_columns)
        special = [tokenizer.vocabulary.index(token) for token in SPECIAL_TOKENS]
        is_piece = tokenizer.token_slots < 0
        is_piece[special] = False
        return cls(
            num_tokens=tokenizer.num_tokens,
            token_slots=np.where(tokenizer.token_slots < num_slots, tokenizer.token_slots, -1),
            is_piece=is_piece,
            default_ids=tokenizer.default_ids[:num_slots],
            omits_most_frequent=tokenizer.omits_most_frequent,
            mask_fraction=config.mask_fraction,
            max_text_masked=len(tokenizer.text_columns) * tokenizer.text_budget,
            max_length=tokenizer.config.max_length,
        )

    @property
    def num_features(self) -> int:
        """Masked features per row, the same for every row."""
        num_slots = len(self.default_ids)
        return min(num_slots, max(1, round(self.mask_fraction * num_slots)))

    @property
    def max_masked(self) -> int:
        """Maximum masked tokens per row."""
        return self.num_features + ceil(self.mask_fraction * self.max_text_masked)

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """Type of the ids of masked rows."""
        return np.dtype(np.uint16) if 2 * self.num_tokens <= MOST_16_BIT else np.dtype(np.uint32)

    def apply(self, rows: JaggedRows, seed: int) -> JaggedRows:
        """Copies of the rows with some tokens masked; the same seed masks the same tokens."""
        random = np.random.Generator(np.random.PCG64(seed))
        num_rows = len(rows.offsets) - 1
        row_of = np.repeat(np.arange(num_rows), np.diff(rows.offsets))
        is_chosen = self._choose_features(num_rows, random)
        return self.mask(rows, is_chosen, self._choose_pieces(rows, row_of, random))

    def mask(
        self, rows: JaggedRows, is_chosen: Bool[np.ndarray, "B S"], is_piece_chosen: Bool[np.ndarray, " T"]
    ) -> JaggedRows:
        """Copies of the rows with these features and these pieces masked."""
        num_rows = len(rows.offsets) - 1
        row_of = np.repeat(np.arange(num_rows), np.diff(rows.offsets))
        slot_of = self.token_slots[rows.ids]
        is_feature = slot_of >= 0
        is_masked = is_piece_chosen.copy()
        is_masked[is_feature] = is_chosen[row_of[is_feature], slot_of[is_feature]]
        ids = rows.ids.astype(self.dtype)
        ids[is_masked] += self.num_tokens
        if not self.omits_most_frequent:
            return JaggedRows(ids, rows.offsets)
        is_added = is_chosen.copy()
        is_added[row_of[is_feature], slot_of[is_feature]] = False  # written, and masked in place above
        added_rows, added_slots = np.nonzero(is_added)
        added = (self.default_ids[added_slots] + self.num_tokens).astype(self.dtype)
        together = np.concatenate([ids, added]), np.concatenate([row_of, added_rows])
        return assemble(*together, num_rows, self.max_length)

    def _choose_features(self, num_rows: int, random: np.random.Generator) -> Bool[np.ndarray, "B S"]:
        is_chosen = np.zeros((num_rows, len(self.default_ids)), bool)
        if self.num_features:
            lots = random.random(is_chosen.shape, dtype=np.float32)
            drawn = np.argpartition(lots, self.num_features - 1, axis=1)[:, : self.num_features]
            np.put_along_axis(is_chosen, drawn, True, axis=1)
        return is_chosen

    def _choose_pieces(
        self, rows: JaggedRows, row_of: Int64[np.ndarray, " T"], random: np.random.Generator
    ) -> Bool[np.ndarray, " T"]:
        is_masked = np.zeros(len(rows.ids), bool)
        if not self.max_text_masked:
            return is_masked
        pieces = np.flatnonzero(self.is_piece[rows.ids])
        counts = np.bincount(row_of[pieces], minlength=len(rows.offsets) - 1)
        # Pieces are shuffled within each row, and the first of each row are masked.
        order = np.lexsort((random.random(len(pieces)), row_of[pieces]))
        rank_in_row = np.arange(len(pieces)) - np.repeat(np.cumsum(counts) - counts, counts)
        wanted = np.ceil(self.mask_fraction * counts)
        is_masked[pieces[order]] = rank_in_row < np.repeat(wanted, counts)
        return is_masked
