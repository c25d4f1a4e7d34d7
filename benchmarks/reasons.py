"""Do the features that are named as reasons carry the verdict? Deletion tests.

    python benchmarks/reasons.py MODEL [--data DATA] [--rows N]

For different alerts of the data (KDDTest+ from the folder in WIREBERT_DATA, ../shared/data without it), the strongest
features by each method are taken away together, and the fall of the class's log-odds is averaged: the faster it falls, the
truer the order. Random features, and exact occlusion in one way only, are the rivals.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from wirebert.data.loading import open_flows
from wirebert.encoding.overlap import row_hashes
from wirebert.encoding.rows import EncodedBlock, take_rows
from wirebert.encoding.slots import ABSENT
from wirebert.model.attribution import explain, log_odds, with_tokens
from wirebert.model.checkpoints import restored
from wirebert.serving.cache import distinct_rows
from wirebert.serving.detector import Detector

STEPS = 8
COUNTS = (1, 2, 3, 5)


def occlusion(
    detector: Detector, block: EncodedBlock, class_ids: np.ndarray, instead: np.ndarray
) -> np.ndarray:
    """Fall of the log-odds when one feature becomes `instead`."""
    num_slots = len(instead)
    rows, slots = np.repeat(np.arange(len(block)), num_slots), np.tile(np.arange(num_slots), len(block))
    without = with_tokens(detector.artifact.tokenizer, block, rows, slots, instead[slots])
    left = log_odds(logits(detector, without), class_ids[rows]).reshape(len(block), num_slots)
    return log_odds(logits(detector, block), class_ids)[:, None] - left


def integrated_gradients(detector: Detector, block: EncodedBlock, class_ids: np.ndarray) -> np.ndarray:
    """Of the written features, from `<absent>` to what they are, one row at a time."""
    tokenizer = detector.artifact.tokenizer
    artifact = detector.artifact
    model = restored(artifact.architecture, artifact.weights, where="model.safetensors").eval()
    words = model.embeddings.word_embeddings.weight.detach()
    absent = tokenizer.slot_special[:, ABSENT]
    found = np.zeros((len(block), len(absent)))
    shares = ((torch.arange(STEPS) + 0.5) / STEPS)[:, None, None]
    for row, (ids, class_id) in enumerate(
        zip(np.split(block.ids, block.offsets[1:-1]), class_ids, strict=True)
    ):
        slots = tokenizer.token_slots[ids]
        other = np.where(slots >= 0, absent[slots], ids).astype(np.int64)
        here, there = words[ids.astype(np.int64)], words[other]
        path = (there + shares * (here - there)).requires_grad_()
        scores = model.head(model.encode(model.embeddings.LayerNorm(path), None))
        chosen = functional.one_hot(torch.tensor(class_id), scores.shape[1]).bool()
        odds = scores[:, chosen].squeeze(1) - scores.masked_fill(chosen, -torch.inf).logsumexp(1)
        (gradient,) = torch.autograd.grad(odds.sum(), path)
        found[row, slots[slots >= 0]] = (gradient.mean(0) * (here - there)).sum(1).numpy()[slots >= 0]
    return found


def logits(detector: Detector, block: EncodedBlock) -> np.ndarray:
    return np.log(detector.score_encoded(block).probabilities).astype(np.float32)


def falls(
    detector: Detector, block: EncodedBlock, class_ids: np.ndarray, by: np.ndarray, instead: np.ndarray
) -> list[float]:
    """Mean fall when the strongest features by `by` have become `instead`, for each of `COUNTS`."""
    order, rows = np.argsort(-by, axis=1), np.arange(len(block))
    before, left, means = log_odds(logits(detector, block), class_ids), block, []
    for place in range(max(COUNTS)):
        slots = order[:, place]
        left = with_tokens(detector.artifact.tokenizer, left, rows, slots, instead[slots])
        means.append(float((before - log_odds(logits(detector, left), class_ids)).mean()))
    return [means[count - 1] for count in COUNTS]


def main() -> None:
    parser = argparse.ArgumentParser(description="Deletion tests of attributions.")
    data = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", default=str(data / "nsl-kdd" / "KDDTest+.txt.gz"))
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    detector = Detector.load(options.model, cache_mb=0)
    tokenizer = detector.artifact.tokenizer
    block = detector.encode(next(iter(open_flows(options.data, schema=detector.schema).blocks())))
    block = take_rows(block, distinct_rows(block, row_hashes(block)).rows)
    classes = detector.score_encoded(block).class_ids
    benign = detector.artifact.classes.benign
    alerts = np.flatnonzero(classes != (detector.classes.index(benign) if benign else -1))
    rng = np.random.default_rng(0)
    chosen = rng.choice(alerts, min(options.rows, len(alerts)), replace=False)
    block, class_ids = take_rows(block, chosen), classes[chosen]
    absent = tokenizer.slot_special[:, ABSENT].astype(np.int64)
    default = tokenizer.default_ids.astype(np.int64)
    start = time.perf_counter()
    ours = explain(lambda rows: logits(detector, rows), tokenizer, block, class_ids).contributions
    print(f"{len(block) / (time.perf_counter() - start):,.0f} flows explained/s by {detector.backend}")
    methods = {
        "reasons (mean of both)": ours,
        "occlusion by <absent>": occlusion(detector, block, class_ids, absent),
        "occlusion by default": occlusion(detector, block, class_ids, default),
        f"integrated gradients, {STEPS} steps": integrated_gradients(detector, block, class_ids),
        "random": rng.random(ours.shape),
    }
    for name, instead in (("<absent>", absent), ("the most frequent value", default)):
        print(f"fall of the log-odds, strongest {COUNTS} features become {name}")
        for method, by in methods.items():
            means = falls(detector, block, class_ids, by, instead)
            print(f"  {method:32}" + "".join(f"{mean:7.2f}" for mean in means))


if __name__ == "__main__":
    main()
