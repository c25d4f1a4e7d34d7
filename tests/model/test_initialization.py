from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import cosine_similarity

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import (
    TokenLayout,
    initialize_embeddings,
    initialize_from_subwords,
    initialize_numbers,
    initialize_special,
    smooth_curves,
)

TINY = Architecture(
    vocab_size=50, num_classes=3, dim=16, num_layers=2, num_heads=4, hidden_dim=32, max_positions=24
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny() -> tuple[DistilBert, torch.Tensor]:
    model = DistilBert(TINY, generator=generator())
    return model, model.embeddings.word_embeddings.weight.detach()


def test_neighbouring_bins_are_more_alike_than_bins_far_apart():
    for seed in range(5):
        curve = smooth_curves(64, 128, 8, generator(seed))
        alike = cosine_similarity(curve[:, None], curve[None], dim=-1)
        at_distance = [alike.diagonal(step).mean().item() for step in (1, 4, 16, 32)]
        assert at_distance == sorted(at_distance, reverse=True)
        assert at_distance[0] > 0.9
        assert at_distance[-1] < 0.3


def test_bins_are_as_large_as_other_embeddings():
    curve = smooth_curves(64, 128, 8, generator())
    torch.testing.assert_close(curve.square().mean(dim=1).sqrt(), torch.full((64,), 0.02))


def test_bins_are_laid_out_in_the_order_given_and_nothing_else_moves():
    model, words = tiny()
    before = words.clone()
    initialize_numbers(model, [np.array([30, 10, 20])], generator=generator())
    curve = smooth_curves(3, TINY.dim, 8, generator())
    torch.testing.assert_close(words[[30, 10, 20]], curve)
    others = [index for index in range(50) if index not in (10, 20, 30)]
    assert torch.equal(words[others], before[others])


def test_around_the_mean_keeps_what_the_bins_had_in_common():
    model, words = tiny()
    with torch.no_grad():
        words[10:14] += 5.0
    center = words[10:14].mean(dim=0)
    initialize_numbers(model, [np.arange(10, 14)], generator=generator(), around_mean=True)
    torch.testing.assert_close(
        words[10:14] - center, smooth_curves(4, TINY.dim, 8, generator()), atol=1e-5, rtol=0
    )


def test_columns_of_none_or_one_bin_stay_as_they_are():
    model, words = tiny()
    before = words.clone()
    initialize_numbers(model, [np.array([], dtype=np.int64), np.array([7])], generator=generator())
    assert torch.equal(words, before)


def test_special_tokens_start_at_the_mean_of_their_column():
    model, words = tiny()
    slots = np.array([-1, 0, 0, 0, 0, 0, 1, 1, 1] + [-1] * 41, dtype=np.int32)
    before = words.clone()
    initialize_special(model, [np.array([1, 2, 3]), np.array([6, 7, 8])], slots)
    torch.testing.assert_close(words[1:4], before[[4, 5]].mean(dim=0).expand(3, -1))
    assert torch.equal(words[4:], before[4:])  # the second slot has special tokens only


def test_a_new_token_starts_at_the_mean_of_its_pieces():
    model, words = tiny()
    before = words.clone()
    initialize_from_subwords(model, np.array([40, 41]), [np.array([3, 5, 5]), np.array([9])])
    torch.testing.assert_close(words[40], (before[3] + 2 * before[5]) / 3)
    torch.testing.assert_close(words[41], before[9])


@pytest.mark.parametrize("leave_out", [True, False])
def test_the_layout_of_a_tokenizer_fits_a_model(leave_out: bool):
    kinds = {"bytes": ColumnKind.COUNT, "service": ColumnKind.CATEGORY}
    columns = tuple(Column(name=name, kind=kind, is_feature=True) for name, kind in kinds.items())
    table = pa.table({"bytes": np.arange(40.0), "service": ["http", "ftp"] * 20})
    schema = FlowSchema(name="two", columns=columns)
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), EncodingConfig(omit_most_frequent=leave_out))
    layout = TokenLayout.of(tokenizer)
    assert layout.positions is not leave_out
    assert layout.num_slots == 2
    architecture = replace(TINY, vocab_size=len(layout.vocabulary))
    model = DistilBert(architecture, generator=generator())
    initialize_embeddings(model, layout, generator())
    words = model.embeddings.word_embeddings.weight.detach()
    bins = words[torch.from_numpy(layout.ordered_numbers[0])]
    assert cosine_similarity(bins[0], bins[1], dim=0) > cosine_similarity(bins[0], bins[-1], dim=0)
    for slot, marks in enumerate(layout.slot_special_states):
        values = np.setdiff1d(np.flatnonzero(layout.token_slots == slot), marks)
        torch.testing.assert_close(words[marks], words[values].mean(dim=0).expand(len(marks), -1))
