"""Feature attribution by occlusion: remove each feature in turn and measure the drop in log-odds.

A feature is removed in two ways, and its contribution is the mean of both drops: the column is marked absent
(`column:<absent>`, which training shows by dropping columns), and it is set to its most frequent value. The
first also covers features that a row omits because they hold that value. Either way alone ranks features less
well, and so does a single gradient; integrated gradients rank as well, but not omitted features
(docs/experiments.md). Only scores of rows are needed, so any backend can compute it.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4
(occlusion).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from wirebert.encoding.token_rows import JaggedRows, ranges
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import ABSENT
from wirebert.shapes import Bool, Float, Float32, Int, Int64

Logits = Callable[[JaggedRows], Float32[np.ndarray, "flows classes"]]
"""Scores encoded rows."""

TOKENS_AT_ONCE: Final = 1 << 20
"""Tokens of occluded rows in memory at a time."""


@dataclass(frozen=True)
class Attributions:
    """The contribution of each feature of each flow to a class."""

    contributions: Float32[np.ndarray, "flows slots"]
    """Drop in the log-odds of the class (nats) when the feature is removed."""
    tokens: Int[np.ndarray, "flows slots"]
    """The token of each feature; that of the most frequent value where the row omits it."""
    class_ids: Int64[np.ndarray, " flows"]
    """The class that is explained."""

    def strongest(self, num_features: int) -> Int64[np.ndarray, "flows features"]:
        """The slots that contribute most to the class, the largest contribution first."""
        return np.argsort(-self.contributions, axis=1, kind="stable")[:, :num_features]


def explain(
    logits: Logits,
    tokenizer: FlowTokenizer,
    block: JaggedRows,
    class_ids: Int64[np.ndarray, " flows"],
) -> Attributions:
    """Contribution of each feature (slot of `tokenizer`) of each flow to its class in `class_ids`.

    Costs about one scored row per slot of a flow, and one more per token. Marking an absent feature absent
    changes nothing, and neither does setting a feature to its most frequent value if it holds that already.
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
    """log(P(class) / P(any other)), which, unlike P, does not saturate near 1."""
    rows = np.arange(len(logits))
    others = logits.astype(np.float64)
    chosen = others[rows, class_ids]
    others[rows, class_ids] = -np.inf
    highest = others.max(axis=1, initial=-np.inf)
    return chosen - highest - np.log(np.exp(others - highest[:, None]).sum(axis=1))


def slot_tokens(tokenizer: FlowTokenizer, block: JaggedRows) -> Int[np.ndarray, "flows slots"]:
    """The token in each slot of each row; that of the most frequent value where the row omits the slot."""
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
    """Copies of some rows, each with another token in one slot, in place of the slot's token or whole text.

    A most frequent value is omitted if this tokenizer omits them. If the row omits the slot, the new token
    comes last: order has no meaning then.
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
    """The slot of each token: pieces of a text follow the token of their column. `[CLS]` has none (-1).

    >>> is_cls = np.array([True, False, False, False, False, True, False])
    >>> _owners(np.array([-1, 0, 2, -1, -1, -1, 1]), is_cls)
    array([-1,  0,  2,  2,  2, -1,  1])
    """
    begins = is_cls | (token_slots >= 0)
    return token_slots[np.maximum.accumulate(np.where(begins, np.arange(len(token_slots)), 0))]
