"""The main evidence for a verdict in words, for the column `explanation`.

`src_bytes:q17 [181, 239) (+0.31)` is a feature and its contribution to the log-odds; `src_bytes:190 (novelty
0.62)` is a column and its fraction of the squared distance to the nearest training flow.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import dictionary_encode
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import ALERT, PASS, UNKNOWN
from wirebert.encoding.matrix import LARGEST, extract_features, row_numbers
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.attribution import Attributions
from wirebert.inference.detector import Detector, Scores
from wirebert.shapes import Bool, Float64, Shaped

NUM_FEATURES = 3
"""Features named per flow."""

LEAST_SHARE = 0.01
"""Columns with a smaller fraction of the novelty are not named."""

MIN_STRONGEST, ROWS_PER_STRONGEST = 8, 512
"""`strongest_alerts` chooses one of so many rows at most; each costs as much as a flow for each feature."""

SHOWN_CHARACTERS = 40
"""Characters shown of a text value."""


def needs_explanation(scores: Scores) -> Bool[np.ndarray, " flows"]:
    """Flows predicted as attacks, alerts and unknown flows; all flows if no class is known to be benign."""
    if scores.benign is None:
        return np.ones(len(scores.class_ids), np.bool_)
    return (scores.class_ids != scores.classes.index(scores.benign)) | (_verdicts(scores) != PASS)


def strongest_alerts(
    scores: Scores, sources: pa.Array | pa.ChunkedArray | None
) -> Bool[np.ndarray, " flows"]:
    """Of each source and class the alert or unknown flow of the highest attack score: one of
    `ROWS_PER_STRONGEST` rows at most.

    Their evidence is that of incidents, at a bounded cost. Without a threshold there is none.
    """
    rows = np.flatnonzero(_verdicts(scores) != PASS)
    attack_score = scores.attack_score
    if attack_score is not None:
        rows = rows[np.argsort(-attack_score[rows], kind="stable")]
    pairs = scores.class_ids[rows]
    if sources is not None:
        codes = dictionary_encode(sources).indices.fill_null(-1).to_numpy()
        pairs = pairs + len(scores.classes) * codes[rows]
    most = max(MIN_STRONGEST, len(scores.class_ids) // ROWS_PER_STRONGEST)
    first = np.sort(np.unique(pairs, return_index=True)[1])[:most]
    chosen = np.zeros(len(scores.class_ids), np.bool_)
    chosen[rows[first]] = True
    return chosen


def explain_rows(
    detector: Detector,
    table: pa.Table,
    block: JaggedRows,
    scores: Scores,
    is_explained: Bool[np.ndarray, " flows"],
) -> pa.Array:
    """The main evidence for the verdict of each flow, as a list of texts; null for flows not explained.

    A predicted class is explained by the evidence for it, an alert on a flow predicted benign by the evidence
    against benign. An unknown flow, and an alert on a flow predicted benign that is due more to novelty than
    to the attack score, are explained by the columns farthest from training.
    """
    verdict = _verdicts(scores)
    is_turned = verdict == ALERT
    if scores.benign is not None:
        is_turned &= scores.class_ids == scores.classes.index(scores.benign)
    is_novel = (verdict == UNKNOWN) | (is_turned & _goes_by_novelty(scores))
    plain, novel = np.flatnonzero(is_explained & ~is_novel), np.flatnonzero(is_explained & is_novel)
    attributions = detector.explain_encoded(take_rows(block, plain), scores.class_ids[plain])
    signs = np.where(is_turned[plain, None], -1, 1).astype(np.float32)
    attributions = replace(attributions, contributions=signs * attributions.contributions)
    texts = [top_reasons(attributions, detector.artifact.tokenizer)]
    if detector.novelty_scorer is not None:
        measured = extract_features(table.take(row_numbers(novel)), detector.schema)
        texts.append(novelty_reasons(detector.novelty_scorer, measured))
    positions = np.full(len(is_explained), -1)
    positions[np.concatenate([plain, novel])] = np.arange(len(plain) + len(novel))
    return pa.concat_arrays(texts).take(pa.array(positions, pa.int64(), mask=positions < 0))


def top_reasons(
    attributions: Attributions, tokenizer: FlowTokenizer, *, num_reasons: int = NUM_FEATURES
) -> pa.Array:
    """For each flow the features with the largest contributions to its class, largest first, as texts.

    Each text has the drop in the class's log-odds without the feature. Evidence against the class is not
    named, so a list may be shorter.
    """
    slots = attributions.strongest(num_reasons)
    contributions = np.take_along_axis(attributions.contributions, slots, axis=1)
    tokens = np.take_along_axis(attributions.tokens, slots, axis=1)
    speaks = contributions > 0
    names = np.array(
        [f"{slot.name}:{text}" if text else slot.name for slot in tokenizer.slots for text in slot.texts]
    )
    first = int(tokenizer.slot_special[0, 0]) if len(tokenizer.slots) else 0
    texts = np.char.add(names[tokens[speaks] - first], np.char.mod(" (%+.2f)", contributions[speaks]))
    return _lists(texts, speaks)


def novelty_reasons(
    novelty_scorer: NoveltyScorer, measured: pa.Table, *, num_reasons: int = NUM_FEATURES
) -> pa.Array:
    """For each measured flow the columns that add most to its novelty, largest first, as a list of texts.

    Each text has the flow's value, or `<unseen>`, and the column's fraction of the squared distance from the
    nearest training flow.
    """
    fractions = novelty_scorer.contributions(measured)
    columns = np.argsort(-fractions, axis=1, kind="stable")[:, :num_reasons]
    largest = np.take_along_axis(fractions, columns, axis=1)
    speaks = largest >= LEAST_SHARE
    texts = np.empty(largest.shape, object)
    matrix = novelty_scorer.space.encoder.matrix(measured)
    for column, (name, known) in enumerate(novelty_scorer.space.encoder.known):
        rows, positions = np.nonzero((columns == column) & speaks)
        values = _numbers(matrix[rows, column]) if known is None else _categories(matrix[rows, column], known)
        ends = np.char.mod(" (novelty %.2f)", largest[rows, positions])
        texts[rows, positions] = np.char.add(np.char.add(f"{name}:", values), ends)
    return _lists(texts[speaks], speaks)


def _verdicts(scores: Scores) -> Shaped[np.ndarray, " flows"]:
    """The verdict of each flow; `pass` where the artifact has no threshold."""
    return np.array(scores.verdict or [PASS] * len(scores.class_ids))


def _goes_by_novelty(scores: Scores) -> Bool[np.ndarray, " flows"]:
    """Flows whose alert score is due more to novelty than to the attack score."""
    if scores.combined_alert is None or scores.novelty is None or scores.attack_score is None:
        return np.zeros(len(scores.class_ids), np.bool_)
    return scores.combined_alert.goes_by_novelty(scores.attack_score, scores.novelty)


def _numbers(values: Float64[np.ndarray, " flows"]) -> Shaped[np.ndarray, " flows"]:
    bounded = np.where(np.abs(values) < LARGEST, values, np.copysign(np.inf, values))
    return np.where(np.isnan(values), "<missing>", np.char.mod("%.6g", bounded))


def _categories(codes: Float64[np.ndarray, " flows"], known: pa.Array) -> Shaped[np.ndarray, " flows"]:
    named = pa.concat_arrays([pc.utf8_slice_codeunits(known, 0, SHOWN_CHARACTERS), pa.array(["<unseen>"])])
    positions = np.nan_to_num(codes, nan=len(named)).astype(np.int64)
    return np.append(named.to_numpy(zero_copy_only=False), "<missing>").astype(str)[positions]


def _lists(texts: Shaped[np.ndarray, " top_reasons"], speaks: Bool[np.ndarray, "flows features"]) -> pa.Array:
    """A list of texts for each flow; `speaks` marks the features that have one."""
    offsets = np.insert(np.cumsum(speaks.sum(axis=1)), 0, 0)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(texts, pa.string()))
