from itertools import pairwise

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.model.masked_predictions import predict_masked

V = 20


def test_every_masked_token_is_judged_once_as_it_is_alone():
    architecture = Architecture(
        vocab_size=V, num_classes=V, dim=16, num_layers=1, num_heads=2, hidden_dim=16, max_masked=3
    )
    model = DistilBert(architecture, generator=torch.Generator().manual_seed(0))
    random = np.random.default_rng(0)
    lengths = random.integers(2, 8, 30)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(1, V, offsets[-1]).astype(np.uint16)
    ids[offsets[:-1] + 1] += V
    found = predict_masked(model, JaggedRows(ids, offsets))
    expected: list[tuple[int, int, float]] = []
    for first, last in pairwise(offsets):
        with torch.no_grad():
            logits = model.eval()(torch.from_numpy(ids[first:last].astype(np.int64))[None])[:1]
        token = int(ids[first + 1]) - V
        loss = cross_entropy(logits, torch.tensor([token])).item()
        expected.append((token, int(logits.argmax()), round(loss, 3)))
    rows = zip(found.tokens.tolist(), found.predicted.tolist(), found.losses.tolist(), strict=True)
    assert sorted((token, first, round(loss, 3)) for token, first, loss in rows) == sorted(expected)


def test_no_flows_have_no_answers():
    architecture = Architecture(
        vocab_size=V, num_classes=V, dim=16, num_layers=1, num_heads=2, hidden_dim=16, max_masked=3
    )
    found = predict_masked(
        DistilBert(architecture), JaggedRows(np.empty(0, np.uint16), np.zeros(1, np.int64))
    )
    assert [len(part) for part in found] == [0, 0, 0]
