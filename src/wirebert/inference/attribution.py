"""Which features carried a verdict: each is taken away in turn, and the verdict's log-odds are computed
again.

It is taken away in two ways, and what counts is the mean of both falls: the model is told that the column is
not there (`column:<absent>`, which training shows it by dropping columns), and it is given the column's most
frequent value. The first reaches features that a row leaves out, too, because they hold that value. Either
way alone orders features less well, and so does one gradient; integrated gradients do as well, but not for
what is left out (docs/experiments.md). Only scores of rows are needed, so any backend computes it.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4
(occlusion).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

from wirebert.encoding.token_rows import JaggedRows, ranges
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import ABSENT

Logits = Callable[[JaggedRows], Float32[np.ndarray, "flows classes"]]
"""Scores encoded rows."""

TOKENS_AT_ONCE: Final = 1 << 20
"""Tokens of rows with a feature taken away that are held at a time."""


@dataclass(frozen=True)
class Attributions:
    """What each feature of each flow contributes to a class."""

    contributions: Float32[np.ndarray, "flows slots"]
    """By how much the log-odds of the class (in nats) fall without the feature."""
    tokens: Int[np.ndarray, "flows slots"]
    """The token that stands for each feature; that of the most frequent value where it is left out."""
    class_ids: Int64[np.ndarray, " flows"]
    """The class that is explained."""

    def strongest(self, num_features: int) -> Int64[np.ndarray, "flows features"]:
        """The slots that speak loudest for the class, loudest first."""
        return np.argsort(-self.contributions, axis=1, kind="stable")[:, :num_features]


def explain(
    logits: Logits,
    tokenizer: FlowTokenizer,
    block: JaggedRows,
    class_ids: Int64[np.ndarray, " flows"],
) -> Attributions:
    """Contribution of each feature (slot of `tokenizer`) of each flow to the class that `class_ids` gives it.

    Costs about one scored row per slot of a flow, and one more per token. A feature that is absent already
    can lose no more by being absent, and one that holds its most frequent value none by holding it.
    """
    num_slots = len(tokenizer.slots)
    tokens = slot_tokens(tokenizer, block)
    absent = tokenizer.slot_special[:, ABSENT].astype(np.int64)
    default = tokenizer.default_ids.astype(np.int64)
    whole = log_odds(logits(block), class_ids)
    falls = np.zeros((len(block), num_slots))
    longest = int(np.diff(block.offsets).max(initial=1)) + 1
    step = max(1, TOKENS_AT_ONCE // (longest * max(num_slots, 1)))
    for first in range(0, len(block), step):
        part = slice(first, first + step)
        for instead in (absent, default):
            rows, slots = np.nonzero(tokens[part] != instead)
            rows += first
            without = logits(with_tokens(tokenizer, block, rows, slots, instead[slots]))
            falls[rows, slots] += whole[rows] - log_odds(without, class_ids[rows])
    return Attributions((falls / 2).astype(np.float32), tokens, class_ids)


def log_odds(
    logits: Float32[np.ndarray, "flows classes"], class_ids: Int64[np.ndarray, " flows"]
) -> Float[np.ndarray, " flows"]:
    """Logarithm of P(class) / P(any other), which, unlike P, does not stop growing where it comes near 1."""
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    own = others[rows, class_ids]
    others[rows, class_ids] = -np.inf
    highest = others.max(axis=1, initial=-np.inf)
    return own - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))


def slot_tokens(tokenizer: FlowTokenizer, block: JaggedRows) -> Int[np.ndarray, "flows slots"]:
    """The token that each slot of each row holds; where it is left out, that of its most frequent value."""
    tokens = np.tile(tokenizer.default_ids.astype(np.int64), (len(block), 1))
    rows = np.repeat(np.arange(len(block)), np.diff(block.offsets))
    slots = tokenizer.token_slots[block.ids]
    is_feature = slots >= 0
    tokens[rows[is_feature], slots[is_feature]] = block.ids[is_feature]
    return tokens


def with_tokens(
    tokenizer: FlowTokenizer,
    block: JaggedRows,
    rows: Int64[np.ndarray, " copies"],
    slots: Int64[np.ndarray, " copies"],
    tokens: Int64[np.ndarray, " copies"],
) -> JaggedRows:
    """Copies of some rows, each with another token in one slot: it replaces the slot's token, or its whole
    text.

    As in any row, a most frequent value is left out where this tokenizer leaves them out. A slot that the row
    leaves out has no place of its own, since order means nothing then; its token comes last.
    """
    starts = block.offsets[rows]
    lengths = block.offsets[rows + 1] - starts
    ids = block.ids[ranges(starts, lengths)]
    copies = np.repeat(np.arange(len(rows)), lengths)
    token_slots = tokenizer.token_slots[ids]
    is_own = _owners(token_slots, ids == tokenizer.cls_id) == slots[copies]
    is_left_out = tokenizer.omits_most_frequent & (tokens == tokenizer.default_ids[slots])
    is_kept = ~is_own | ((token_slots >= 0) & ~is_left_out[copies])
    is_missing = ~is_left_out
    is_missing[copies[is_own]] = False
    ids = np.where(is_own, tokens[copies].astype(ids.dtype), ids)[is_kept]
    num_kept = np.bincount(copies[is_kept], minlength=len(rows))
    ids = np.insert(ids, np.cumsum(num_kept)[is_missing], tokens[is_missing].astype(ids.dtype))
    offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(num_kept + is_missing, out=offsets[1:])
    return JaggedRows(ids, offsets, 0)


def _owners(
    token_slots: Int[np.ndarray, " tokens"], is_cls: Bool[np.ndarray, " tokens"]
) -> Int[np.ndarray, " tokens"]:
    """The slot that each token belongs to: pieces of a text follow the token of their column. `[CLS]` has
    none.

    >>> is_cls = np.array([True, False, False, False, False, True, False])
    >>> _owners(np.array([-1, 0, 2, -1, -1, -1, 1]), is_cls)
    array([-1,  0,  2,  2,  2, -1,  1])
    """
    begins = is_cls | (token_slots >= 0)
    return token_slots[np.maximum.accumulate(np.where(begins, np.arange(len(token_slots)), 0))]
