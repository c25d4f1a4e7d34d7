"""Surprisal against stock `transformers`, one masked feature at a time."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import DistilBertConfig, DistilBertForMaskedLM

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.config import ModelConfig
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.training.masking import Masking
from wirebert.training.masking_config import MaskingConfig
from wirebert.unsupervised.surprisal import SurprisalScorer, grouped_passes

COLUMNS = {"proto": ColumnKind.CATEGORY, "bytes": ColumnKind.NUMBER, "path": ColumnKind.TEXT}
ROWS = {
    "proto": ["tcp", "udp", "tcp", "tcp", "icmp", "tcp"] * 4,
    "bytes": list(range(24)),
    "path": ["/index", "/a?b=1", None, "/index", "/etc/passwd", ""] * 4,
}


def made(*names: str) -> tuple[FlowTokenizer, DistilBert, pa.Table]:
    schema = FlowSchema(
        name="made", columns=tuple(Column(name=name, kind=COLUMNS[name], is_feature=True) for name in names)
    )
    table = pa.table({name: ROWS[name] for name in names})
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), EncodingConfig(subword_vocab_size=280))
    masking = Masking.of(tokenizer, MaskingConfig())
    shape = ModelConfig(size="mini", dim=16, num_heads=2, num_layers=2, hidden_dim=32)
    model = build(shape, TokenLayout.of(tokenizer), seed=0, max_masked=masking.max_masked)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return tokenizer, model.eval(), table


def scorer(tokenizer: FlowTokenizer, model: DistilBert, num_groups: int | None) -> SurprisalScorer:
    passes = grouped_passes(tokenizer, num_groups, seed=0)
    return SurprisalScorer(model, tokenizer, Masking.of(tokenizer, MaskingConfig()), passes)


def stock(model: DistilBert) -> Any:
    theirs = DistilBertForMaskedLM(DistilBertConfig.from_dict(model.architecture.to_hugging_face(())))
    theirs.load_state_dict(hugging_face_state(model), strict=False)
    theirs.tie_weights()
    return theirs.eval()


def slow_surprisal(theirs: Any, tokenizer: FlowTokenizer, row: list[int], slot: int) -> float:
    """-log P of a feature of one row by the stock model, written or left out, less the entropy of P."""
    slots = tokenizer.token_slots
    written = [at for at, token in enumerate(row) if slots[token] == slot]
    value = row[written[0]] if written else int(tokenizer.default_ids[slot])
    shown = row if written else [*row, value]
    at = written[0] if written else len(row)
    shown = [*shown[:at], int(tokenizer.slot_special[slot, 2]), *shown[at + 1 :]]
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([shown])).logits[0, at]
    own = np.flatnonzero(slots == slot)
    entropy = torch.distributions.Categorical(logits=logits[own]).entropy()
    return float(-logits[own].log_softmax(0)[int(np.flatnonzero(own == value)[0])] - entropy)


@pytest.mark.parametrize("names", [("proto", "bytes"), ("proto", "bytes", "path")])
def test_leave_one_out_is_that_of_the_stock_model_row_by_row_left_out_values_too(names: tuple[str, ...]):
    tokenizer, model, table = made(*names)
    block = tokenizer.encode(table)
    assert tokenizer.omits_most_frequent == ("path" not in names)
    found = scorer(tokenizer, model, None).surprisals(block)
    theirs = stock(model)
    rows = [block.ids[a:b].tolist() for a, b in zip(block.offsets[:-1], block.offsets[1:], strict=True)]
    if "path" not in names:
        assert min(map(len, rows)) < 1 + len(tokenizer.slots)  # some value is left out
        expected = [[slow_surprisal(theirs, tokenizer, row, slot) for slot in range(2)] for row in rows]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        return
    # Texts share the passes: every piece is masked once, and no text means no surprisal.
    lengths = [sum(tokenizer.token_slots[token] < 0 for token in row) - 1 for row in rows]
    assert ((found[:, 2] != 0) == (np.array(lengths) > 0)).all()


def test_every_feature_is_predicted_in_one_of_the_groups():
    tokenizer, model, table = made("proto", "bytes")
    assert (np.sum(grouped_passes(tokenizer, 2, seed=3), axis=0) == 1).all()
    assert len(grouped_passes(tokenizer, 8, seed=3)) == 2  # no more groups than columns
    block = tokenizer.encode(table)
    one = scorer(tokenizer, model, 1).surprisals(block)
    assert one.shape == (24, 2)
    assert (one != 0).all()
    # With everything masked the prediction depends on no value: equal values surprise alike.
    same = one[np.array(ROWS["proto"]) == "tcp", 0]
    np.testing.assert_allclose(same, same[0], rtol=1e-5)
