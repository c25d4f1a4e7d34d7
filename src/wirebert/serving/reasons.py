"""Attributions in words: `src_bytes:q17 [181, 239) (+0.31)`, for the column `why` of verdicts."""

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.attribution import Attributions

NUM_REASONS = 3
"""Features named per flow."""


def reasons(
    attributions: Attributions,
    tokenizer: FlowTokenizer,
    is_explained: Bool[np.ndarray, " flows"] | None = None,
    *,
    num_reasons: int = NUM_REASONS,
) -> pa.Array:
    """For each flow the features that speak loudest for its class, loudest first, as a list of texts.

    Each says by how much the class's log-odds fall without the feature. What speaks against the class is not named, so a
    list may be shorter. Flows that are not explained have null.

    Args:
        is_explained: marks the flows of a whole block that `attributions` has, in order; None: it has all.
    """
    slots = attributions.strongest(num_reasons)
    found = np.take_along_axis(attributions.contributions, slots, axis=1)
    tokens = np.take_along_axis(attributions.tokens, slots, axis=1)
    speaks = found > 0
    names = np.array(
        [f"{slot.name}:{text}" if text else slot.name for slot in tokenizer.slots for text in slot.texts]
    )
    first = int(tokenizer.slot_special[0, 0]) if len(tokenizer.slots) else 0
    texts = np.char.add(names[tokens[speaks] - first], np.char.mod(" (%+.2f)", found[speaks]))
    is_explained = np.ones(len(found), np.bool_) if is_explained is None else is_explained
    counts = np.zeros(len(is_explained), np.int64)
    counts[is_explained] = speaks.sum(axis=1)
    offsets = np.insert(np.cumsum(counts), 0, 0)
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), pa.array(texts, pa.string()), mask=pa.array(~is_explained)
    )
