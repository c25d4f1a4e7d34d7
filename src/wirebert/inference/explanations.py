"""The main evidence for a verdict in words, for the column `explanation`.

`src_bytes:q17 [181, 239) (+0.31)` is a feature and what it adds to the log-odds; `src_bytes:190 (novelty
0.62)` is a column and its fraction of the distance to the nearest training flow.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Shaped

from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import ALERT, PASS, UNKNOWN
from wirebert.encoding.matrix import LARGEST, extract_features, row_numbers
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.attribution import Attributions
from wirebert.inference.detector import Detector, Scores

NUM_FEATURES = 3
"""Features named per flow."""

LEAST_SHARE = 0.01
"""Of the novelty: a column that adds less is not named."""

SHOWN_CHARACTERS = 40
"""Of a value that training has not cut into tokens."""


def needs_explanation(scores: Scores) -> Bool[np.ndarray, " flows"]:
    """Flows of another class than the benign one, alerts and unknown flows; all where no class is known to be
    benign.
    """
    if scores.benign is None:
        return np.ones(len(scores.class_ids), np.bool_)
    return (scores.class_ids != scores.classes.index(scores.benign)) | (_verdicts(scores) != PASS)


def explain_rows(
    detector: Detector,
    table: pa.Table,
    block: JaggedRows,
    scores: Scores,
    is_explained: Bool[np.ndarray, " flows"],
) -> pa.Array:
    """The main evidence for the verdict of each flow, as a list of texts; null for flows that are not
    explained.

    A class is explained by what speaks for it; an alert of a flow whose class is benign by what speaks
    against that class; an unknown flow, and an alert of a benign class that novelty carries more than the
    attack score, by the columns that set it apart from training.
    """
    verdict = _verdicts(scores)
    is_turned = verdict == ALERT
    if scores.benign is not None:
        is_turned &= scores.class_ids == scores.classes.index(scores.benign)
    is_novel = (verdict == UNKNOWN) | (is_turned & _goes_by_novelty(scores))
    plain, novel = np.flatnonzero(is_explained & ~is_novel), np.flatnonzero(is_explained & is_novel)
    found = detector.explain_encoded(take_rows(block, plain), scores.class_ids[plain])
    signs = np.where(is_turned[plain, None], -1, 1).astype(np.float32)
    found = replace(found, contributions=signs * found.contributions)
    texts = [top_reasons(found, detector.artifact.tokenizer)]
    if detector.novelty_scorer is not None:
        measured = extract_features(table.take(row_numbers(novel)), detector.schema)
        texts.append(novelty_reasons(detector.novelty_scorer, measured))
    positions = np.full(len(is_explained), -1)
    positions[np.concatenate([plain, novel])] = np.arange(len(plain) + len(novel))
    return pa.concat_arrays(texts).take(pa.array(positions, pa.int64(), mask=positions < 0))


def top_reasons(
    attributions: Attributions, tokenizer: FlowTokenizer, *, num_reasons: int = NUM_FEATURES
) -> pa.Array:
    """For each flow the features that speak loudest for its class, loudest first, as a list of texts.

    Each says by how much the class's log-odds fall without the feature. What speaks against the class is not
    named, so a list may be shorter.
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
    return _lists(texts, speaks)


def novelty_reasons(
    novelty_scorer: NoveltyScorer, measured: pa.Table, *, num_reasons: int = NUM_FEATURES
) -> pa.Array:
    """For each measured flow the columns that set it farthest apart from training, farthest first, as a list
    of texts.

    Each has the flow's value, or `<unseen>`, and its share of the squared distance from the nearest training
    flow.
    """
    shares = novelty_scorer.contributions(measured)
    columns = np.argsort(-shares, axis=1, kind="stable")[:, :num_reasons]
    found = np.take_along_axis(shares, columns, axis=1)
    speaks = found >= LEAST_SHARE
    texts = np.empty(found.shape, object)
    matrix = novelty_scorer.space.encoder.matrix(measured)
    for column, (name, known) in enumerate(novelty_scorer.space.encoder.known):
        rows, positions = np.nonzero((columns == column) & speaks)
        values = _numbers(matrix[rows, column]) if known is None else _categories(matrix[rows, column], known)
        ends = np.char.mod(" (novelty %.2f)", found[rows, positions])
        texts[rows, positions] = np.char.add(np.char.add(f"{name}:", values), ends)
    return _lists(texts[speaks], speaks)


def _verdicts(scores: Scores) -> Shaped[np.ndarray, " flows"]:
    """The verdict of each flow; `pass` where the artifact has nothing to go by."""
    return np.array(scores.verdict or [PASS] * len(scores.class_ids))


def _goes_by_novelty(scores: Scores) -> Bool[np.ndarray, " flows"]:
    """Where novelty carries the alert score more than the attack score does."""
    if scores.combined_alert is None or scores.novelty is None or scores.attack_score is None:
        return np.zeros(len(scores.class_ids), np.bool_)
    return scores.combined_alert.goes_by_novelty(scores.attack_score, scores.novelty)


def _numbers(values: Float64[np.ndarray, " flows"]) -> Shaped[np.ndarray, " flows"]:
    told = np.where(np.abs(values) < LARGEST, values, np.copysign(np.inf, values))
    return np.where(np.isnan(values), "<missing>", np.char.mod("%.6g", told))


def _categories(codes: Float64[np.ndarray, " flows"], known: pa.Array) -> Shaped[np.ndarray, " flows"]:
    named = pa.concat_arrays([pc.utf8_slice_codeunits(known, 0, SHOWN_CHARACTERS), pa.array(["<unseen>"])])
    positions = np.nan_to_num(codes, nan=len(named)).astype(np.int64)
    return np.append(named.to_numpy(zero_copy_only=False), "<missing>").astype(str)[positions]


def _lists(texts: Shaped[np.ndarray, " top_reasons"], speaks: Bool[np.ndarray, "flows features"]) -> pa.Array:
    """A list for each flow, of as many of the texts as it has features that speak."""
    offsets = np.insert(np.cumsum(speaks.sum(axis=1)), 0, 0)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(texts, pa.string()))
