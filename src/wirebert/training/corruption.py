"""Corruption of training flows: missing values, unseen values and dropped columns.

Training data may lack all three, so the model would never learn their tokens.

Works on `JaggedRows`; each row starts with `[CLS]`, a token without a slot.

Shape letters: B flows, T tokens of all flows, S slots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np

from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.shapes import Bool, Int, Integer
from wirebert.training.config import TrainConfig

NO_TOKEN: Final = -1
# A flow that loses columns loses up to this fraction of them, drawn uniformly.
MAX_COLUMNS_DROPPED: Final = 0.5


@runtime_checkable
class RowChange(Protocol):
    """A change of the flows before each step."""

    def apply(self, rows: JaggedRows, seed: int) -> JaggedRows:
        """Changed copies of the rows; the same seed changes the same rows in the same way."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """Random missing and unseen values, and dropped columns.

    With probability `feature_share`, a feature becomes one of its slot's special states (<missing>, <unseen>,
    <rare>, <above>, ...). So does a feature that leave-out omits; its new token goes to the end of the row. A
    fraction `column_share` of the flows loses a random set of columns: every slot of such a column becomes
    <absent>, and a text column loses its pieces.
    """

    token_slots: Int[np.ndarray, " tokens"]
    """Slot of each token of the vocabulary; -1 for special tokens and text pieces."""

    slot_special: Int[np.ndarray, "slots 3"]
    """Ids of <missing>, <unseen>, <absent> of each slot; -1 where a slot has no such token."""

    hidden_ids: Int[np.ndarray, "slots marks"]
    """Replacements of each slot's features, equally likely; rows are padded with -1."""

    num_hidden: Int[np.ndarray, " slots"]
    """Number of tokens in each row of `hidden_ids`."""

    slot_columns: Int[np.ndarray, " slots"]
    """Column of each slot, counted from 0: slots of one column are dropped together."""

    omits_most_frequent: bool
    """Whether a slot without a token represents its most frequent value."""

    feature_share: float
    """Probability that a feature is replaced by a special state."""

    column_share: float
    """Probability that a flow loses some columns."""

    max_length: int
    """Longest row that the model takes, in tokens."""

    @classmethod
    def of(cls, tokenizer: FlowTokenizer, config: TrainConfig) -> "Corruption":
        """The corruption set in `config`, for a tokenizer's rows."""
        return cls.from_vocabulary(
            config,
            token_slots=tokenizer.token_slots,
            slot_special=tokenizer.slot_special,
            leaves_out=tokenizer.omits_most_frequent,
            max_length=tokenizer.config.max_length,
            slot_columns=tokenizer.slot_columns,
            slot_marks=tokenizer.slot_special_states,
        )

    @classmethod
    def from_vocabulary(
        cls,
        config: TrainConfig,
        *,
        token_slots: Int[np.ndarray, " tokens"],
        slot_special: Int[np.ndarray, "slots 3"],
        leaves_out: bool,
        max_length: int,
        slot_columns: Int[np.ndarray, " slots"],
        slot_marks: Sequence[Int[np.ndarray, " _"]],
    ) -> "Corruption":
        """The corruption set in `config`, for a tokenizer with these tables.

        Args:
            slot_columns: Column of each slot, counted from 0.
            slot_marks: Per slot, the tokens that training data may lack: <missing>, <unseen>, <rare>,
                <above>, ...
        """
        # <absent> is drawn for whole columns, not for single features.
        marks = [ids[ids != absent] for ids, absent in zip(slot_marks, slot_special[:, 2], strict=True)]
        num_hidden = np.array([len(ids) for ids in marks], dtype=np.int64)
        hidden_ids = np.full((len(marks), int(num_hidden.max(initial=0))), NO_TOKEN, dtype=np.int64)
        for row, ids in zip(hidden_ids, marks, strict=True):
            row[: len(ids)] = ids
        return cls(
            token_slots=token_slots,
            slot_special=slot_special,
            hidden_ids=hidden_ids,
            num_hidden=num_hidden,
            slot_columns=slot_columns,
            omits_most_frequent=leaves_out,
            feature_share=config.feature_corruption,
            column_share=config.column_dropout,
            max_length=max_length,
        )

    def apply(self, rows: JaggedRows, seed: int) -> JaggedRows:
        """Changed copies of the rows; the same seed changes the same rows in the same way.

        No row gets longer than `max_length`: added tokens that do not fit are dropped.
        """
        if (self.feature_share == 0 and self.column_share == 0) or len(self.slot_special) == 0:
            return rows
        random = np.random.Generator(np.random.PCG64(seed))
        num_rows = len(rows.offsets) - 1
        row_of = np.repeat(np.arange(num_rows), np.diff(rows.offsets))
        slot_of = self.token_slots[rows.ids]
        is_feature = slot_of >= 0

        shown = np.full((num_rows, len(self.slot_special)), NO_TOKEN, dtype=np.int64)
        self._hide_features(shown, random)
        self._drop_columns(shown, random)

        replacement = np.where(is_feature, shown[row_of, slot_of], NO_TOKEN)
        changed = replacement >= 0
        ids = np.where(changed, replacement, rows.ids).astype(rows.ids.dtype)
        remains = ~_piece_owner_changed(rows, is_feature, changed)
        if not self.omits_most_frequent:
            return assemble(ids[remains], row_of[remains], num_rows, self.max_length)
        shown[row_of[is_feature], slot_of[is_feature]] = NO_TOKEN  # replaced in place above
        added_rows, added_slots = np.nonzero(shown >= 0)
        return assemble(
            np.concatenate([ids[remains], shown[added_rows, added_slots].astype(ids.dtype)]),
            np.concatenate([row_of[remains], added_rows]),
            num_rows,
            self.max_length,
        )

    def _hide_features(self, shown: Int[np.ndarray, "B S"], random: np.random.Generator) -> None:
        if self.feature_share == 0:
            return
        # The number of hits is drawn first, so that the cost grows with the hits, not with flows x slots.
        num_hits = random.binomial(shown.size, self.feature_share)
        hits = random.choice(shown.size, size=num_hits, replace=False, shuffle=False)
        slots = hits % shown.shape[1]
        shown.reshape(-1)[hits] = self.hidden_ids[slots, random.integers(0, self.num_hidden[slots])]

    def _drop_columns(self, shown: Int[np.ndarray, "B S"], random: np.random.Generator) -> None:
        if self.column_share == 0:
            return
        flows = np.flatnonzero(random.random(len(shown)) < self.column_share)
        fraction = random.random((len(flows), 1)) * MAX_COLUMNS_DROPPED
        is_dropped = random.random((len(flows), int(self.slot_columns.max()) + 1)) < fraction
        absent = self.slot_special[:, 2]
        shown[flows] = np.where(is_dropped[:, self.slot_columns] & (absent >= 0), absent, shown[flows])


def _piece_owner_changed(
    rows: JaggedRows, is_feature: Bool[np.ndarray, " T"], changed: Bool[np.ndarray, " T"]
) -> Bool[np.ndarray, " T"]:
    """True for text pieces whose `column:` token, the last feature before them, was replaced."""
    owner = np.where(is_feature, np.arange(len(is_feature)), 0)
    owner[rows.offsets[:-1]] = rows.offsets[:-1]  # [CLS] owns the tokens before the first feature
    return ~is_feature & changed[np.maximum.accumulate(owner)]


def assemble(
    ids: Integer[np.ndarray, " T"], row_of: Int[np.ndarray, " T"], num_rows: int, max_length: int
) -> JaggedRows:
    """Tokens grouped by row, in their order within a row, each row cut at `max_length`."""
    order = np.argsort(row_of, kind="stable")
    lengths = np.bincount(row_of, minlength=num_rows)
    if lengths.max(initial=0) > max_length:
        starts = np.cumsum(lengths) - lengths
        order = order[np.arange(len(order)) - np.repeat(starts, lengths) < max_length]
        lengths = np.minimum(lengths, max_length)
    return JaggedRows(ids[order], np.concatenate([[0], np.cumsum(lengths)]))
