"""The model of masked tokens: what it shows, where it is asked, and that it is Hugging Face's."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import DistilBertConfig, DistilBertForMaskedLM

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.batches import class_logits, masked_logits, pack
from wirebert.model.checkpoints import hugging_face_state, load_hugging_face_state
from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.model.masked_lm import NO_TOKEN, MaskedHead

V, MASK = 50, 4
TINY = Architecture(
    vocab_size=V,
    num_classes=V,
    dim=16,
    num_layers=2,
    num_heads=4,
    hidden_dim=32,
    max_positions=24,
    max_masked=2,
)


def ours(architecture: Architecture = TINY) -> DistilBert:
    """Our model, all weights drawn large enough to matter."""
    slots = torch.arange(V) % 3
    model = DistilBert(architecture, token_slots=slots, token_masks=torch.full((V,), MASK))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
            weight.copy_(drawn * 0.3)
        if model.embeddings.column_embeddings is not None:
            model.embeddings.column_embeddings.weight[-1] = 0
    return model.eval()


def head(token_masks: Tensor, num_asked: int) -> MaskedHead:
    return MaskedHead(8, num_asked=num_asked, token_masks=token_masks)


def test_a_masked_token_is_shown_as_its_own_mask_and_others_as_they_are():
    masks = torch.tensor([0, 1, 1, 1, 4])
    assert head(masks, 1).shown(torch.tensor([2, 5 + 2, 3, 5 + 4])).tolist() == [2, 1, 3, 4]


def test_places_and_answers_are_those_of_the_masked_tokens_in_order_and_then_none():
    ids = torch.tensor([[2, 5 + 2, 3], [5 + 4, 0, 0]])
    asked = head(torch.zeros(5, dtype=torch.int64), 2)
    assert asked.places(ids, 2).tolist() == [1, 3, 6, 6]
    assert asked.logits_of(ids, 2).tolist() == [2, 4, NO_TOKEN, NO_TOKEN]


@pytest.mark.parametrize("num_columns", [0, 3])
def test_logits_at_masked_places_are_those_of_the_stock_masked_language_model(num_columns: int):
    model = ours(replace(TINY, num_columns=num_columns))
    stock = DistilBertForMaskedLM(DistilBertConfig.from_dict(model.architecture.to_hugging_face(())))
    missing, unexpected = stock.load_state_dict(hugging_face_state(model), strict=False)
    assert set(missing) <= {"vocab_projector.weight"}
    assert not unexpected
    stock.tie_weights()
    stock.eval()
    shown = torch.randint(5, V, (3, 9), generator=torch.Generator().manual_seed(0))
    ids = shown.clone()
    places = ([0, 0, 1, 2], [3, 8, 0, 5])
    ids[places] += V
    shown[places] = MASK
    with torch.no_grad():
        expected = stock(input_ids=shown).logits[places]
        found = model(ids)[: len(places[0])]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_saved_folder_is_one_that_stock_transformers_reads(tmp_path: Path):
    from safetensors.torch import save_file

    model = ours()
    (tmp_path / "config.json").write_text(
        json.dumps(model.architecture.to_hugging_face(())), encoding="utf-8"
    )
    save_file(hugging_face_state(model), tmp_path / "model.safetensors", metadata={"format": "pt"})
    stock = DistilBertForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        expected = stock(input_ids=torch.tensor([[7, MASK, 9]])).logits[0, 1]
        torch.testing.assert_close(model(torch.tensor([[7, V + 3, 9]]))[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "pattern", ["full", "columns"]
)  # a batch has room for longer rows than this model takes
def test_packed_rows_get_the_logits_of_padded_ones(pattern: str):
    model = ours(replace(TINY, attention_pattern=pattern))
    random = np.random.default_rng(0)
    lengths = np.array([3, 9, 5])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(5, V, offsets[-1]).astype(np.uint16)
    ids[[1, 4, 7, 13]] += V
    packed = pack(JaggedRows(ids, offsets), np.arange(3), np.zeros(3, np.int64), pad_id=0)
    tokens = masked_logits(model, packed)
    with torch.no_grad():
        found = class_logits(model, packed)[tokens != NO_TOKEN]
        alone = [
            model(torch.from_numpy(ids[first:last].astype(np.int64))[None])[
                : int((ids[first:last] >= V).sum())
            ]
            for first, last in pairwise(offsets)
        ]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-5)
    assert tokens[tokens != NO_TOKEN].tolist() == (ids[[1, 4, 7, 13]] - V).tolist()


def test_weights_come_back_from_hugging_face_names():
    model, other = ours(replace(TINY, num_columns=3)), DistilBert(TINY, token_masks=torch.full((V,), MASK))
    load_hugging_face_state(other, hugging_face_state(model), where="here")
    ids = torch.tensor([[7, V + 3, 9]])
    with torch.no_grad():
        torch.testing.assert_close(other.eval()(ids), model(ids))
