"""Flows of one key without a long gap between them belong together: plain grouping of whole arrays."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (Arrow arrays are generic in the type stubs alone, and they know no text literals as arguments.)

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import dictionary_encode, to_texts
from wirebert.shapes import Bool, Float, Float64, Int64

GroupBy = Literal["source_and_class", "source"]
_MAX_SCORE = 1 - 1e-12


def group_keys(source: pa.Array | pa.ChunkedArray, class_names: pa.Array, group_by: GroupBy) -> pa.Array:
    """What the flows of an incident share, as one text; flows without a source share that."""
    sources = to_texts(source).fill_null("")
    if group_by == "source":
        return sources
    return pc.binary_join_element_wise(sources, class_names, "\x1f")


def incident_ids(
    keys: pa.Array,
    time_s: Float64[np.ndarray, " flows"],
    is_chosen: Bool[np.ndarray, " flows"],
    gap_s: float,
    scores: Float[np.ndarray, " flows"] | None = None,
    min_score: float = 0.0,
) -> Int64[np.ndarray, " flows"]:
    """The number of each chosen flow's incident, from 0; -1 for other flows, those without a time, and those
    whose joint score is below `min_score`."""
    codes = dictionary_encode(keys).indices.to_numpy().astype(np.int64)
    groups = group_by_gap(np.where(is_chosen, codes, -1), time_s, gap_s)
    if scores is None:
        return groups
    rows = np.flatnonzero(groups >= 0)
    is_strong = -np.expm1(np.bincount(groups[rows], log_misses(scores[rows]))) >= min_score
    groups[rows] = np.where(is_strong, np.cumsum(is_strong) - 1, -1)[groups[rows]]
    return groups


def log_misses(scores: Float[np.ndarray, " flows"]) -> Float64[np.ndarray, " flows"]:
    """log(1 - score) of each flow. Their sum is that of the chance that none is an attack, were they
    independent; a score of 1 counts a little less, else it would decide alone."""
    return np.log1p(-np.clip(scores.astype(np.float64), 0, _MAX_SCORE))


def group_by_gap(
    keys: Int64[np.ndarray, " flows"], time_s: Float64[np.ndarray, " flows"], gap_s: float
) -> Int64[np.ndarray, " flows"]:
    """The number of each flow's group, from 0; -1 where the key is negative or the time is not known.

    Two flows of a key are in one group if no gap between flows of that key from one to the other is longer
    than `gap_s`. The order of the flows does not matter.

    >>> group_by_gap(np.array([7, 7, 8, 7]), np.array([0.0, 50.0, 5.0, 8.0]), 10.0)
    array([0, 1, 2, 0])
    """
    groups = np.full(len(keys), -1, np.int64)
    rows = np.flatnonzero((keys >= 0) & ~np.isnan(time_s))
    order = rows[np.lexsort((time_s[rows], keys[rows]))]
    if len(order):
        is_new = (np.diff(keys[order]) != 0) | (np.diff(time_s[order]) > gap_s)
        groups[order] = np.concatenate([[0], np.cumsum(is_new)])
    return groups
