"""Packed rows against the same rows, each by itself."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.batches import NO_CLASS, PackedBatch, class_logits, pack
from wirebert.model.config import Architecture, AttentionKernel
from wirebert.model.distilbert import DistilBert
from wirebert.model.packing import first_rows, plan, tile_capacity

PAD_ID = 0
LENGTHS = [5, 1, 17, 9, 64, 2, 30]


def packed(lengths: list[int], seed: int = 0) -> tuple[JaggedRows, PackedBatch]:
    random = np.random.default_rng(seed)
    rows = JaggedRows(
        random.integers(1, 40, sum(lengths)).astype(np.uint16), np.concatenate([[0], np.cumsum(lengths)])
    )
    chosen = np.arange(len(lengths))
    return rows, pack(rows, chosen, chosen % 3, pad_id=PAD_ID)


def small_model(*, positions: bool, kernel: AttentionKernel = "auto", dropout: float = 0.0) -> DistilBert:
    architecture = Architecture(
        vocab_size=40,
        num_classes=3,
        dim=32,
        num_layers=2,
        num_heads=2,
        hidden_dim=48,
        positions=positions,
        num_columns=4,
        dropout=dropout,
        attention_dropout=dropout,
        head_dropout=dropout,
    )
    slots = torch.arange(40) % 5 - 1
    return DistilBert(
        architecture,
        token_slots=slots,
        attention=kernel,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("kernel", ["auto", "math", "sdpa"])
@pytest.mark.parametrize("positions", [True, False])
def test_packed_rows_have_the_logits_they_have_alone(kernel: AttentionKernel, positions: bool):
    model = small_model(positions=positions, kernel=kernel).eval()
    rows, batch = packed(LENGTHS)
    with torch.inference_mode():
        together = class_logits(model, batch)[: len(LENGTHS)]
        alone = [
            model(torch.from_numpy(rows.ids[first:last].astype(np.int64))[None])
            for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


def test_packed_rows_give_the_gradients_they_give_alone():
    rows, batch = packed(LENGTHS)
    model = small_model(positions=True).train()
    class_logits(model, batch)[: len(LENGTHS)].square().sum().backward()
    together = [weight.grad for weight in model.parameters()]
    model.zero_grad()
    for first, last in zip(rows.offsets[:-1], rows.offsets[1:], strict=True):
        model(torch.from_numpy(rows.ids[first:last].astype(np.int64))[None]).square().sum().backward()
    for packed_grad, weight in zip(together, model.parameters(), strict=True):
        torch.testing.assert_close(packed_grad, weight.grad, atol=1e-6, rtol=1e-4)


def test_a_row_does_not_change_with_its_neighbours():
    model = small_model(positions=False, kernel="math").eval()
    rows, batch = packed(LENGTHS)
    others = rows.ids.copy()
    others[rows.offsets[1] :] = 7
    changed = pack(JaggedRows(others, rows.offsets), np.arange(7), np.zeros(7, np.int64), pad_id=PAD_ID)
    assert torch.equal(class_logits(model, batch)[0], class_logits(model, changed)[0])


def test_a_packed_batch_is_filled_up_with_rows_of_padding():
    _, batch = packed([5, 8])
    assert len(batch.ids) == 64
    assert batch.ids[13:].tolist() == [PAD_ID] * 51
    assert batch.packing.starts.tolist() == [0, 5, 13, 38, 64]
    assert batch.class_ids.tolist() == [0, 1, NO_CLASS, NO_CLASS]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=150), st.integers(0, 100))
def test_the_last_batch_is_filled_up_to_as_many_rows_and_about_as_many_tokens_as_the_others(
    lengths: list[int], seed: int
):
    rows, _ = packed(lengths, seed)
    chosen = np.arange(len(lengths))
    batch = pack(rows, chosen, chosen, pad_id=PAD_ID, num_flows=150)
    mean = sum(lengths) / len(lengths)
    assert batch.shape.num_rows >= 150
    assert mean * 150 - 1 <= batch.shape.num_tokens <= mean * 150 * (1 + 1 / 16) + 70
    widths = np.diff(batch.packing.starts.numpy())
    assert widths.min() >= 1
    assert widths.max() <= batch.shape.room


def test_flows_of_one_length_are_not_filled_up():
    _, batch = packed([7] * 9)
    assert batch.shape[:2] == (63, 9)


@given(st.lists(st.integers(1, 64), min_size=200, max_size=200), st.integers(0, 100))
def test_steps_of_as_many_flows_have_few_shapes(lengths: list[int], seed: int):
    """Their sizes come in steps of a 32nd to a 16th, and all else follows from the number of tokens."""
    shape = packed(lengths, seed)[1].shape
    num_tokens = sum(lengths)
    assert num_tokens <= shape.num_tokens <= num_tokens * (1 + 1 / 16) + 70
    assert shape.num_tiles == 2 * shape.num_tokens // shape.room + 2


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60))
def test_tiles_are_runs_of_whole_rows_that_cover_all_tokens_and_fit(lengths: list[int]):
    room = tile_capacity(max(lengths))
    row_of, starts, tiles, firsts = (part.tolist() for part in plan(np.array(lengths), room))
    assert tiles[0] == 0
    assert tiles[-1] == sum(lengths)
    assert firsts[-1] == len(lengths)
    assert tiles == [sum(lengths[:row]) for row in firsts]
    assert all(0 <= after - before <= room for before, after in pairwise(tiles))
    assert starts == [sum(lengths[:row]) for row in range(len(lengths) + 1)]
    assert row_of == [row for row, length in enumerate(lengths) for _ in range(length)]


def test_a_tile_takes_as_many_rows_as_fit():
    assert first_rows(np.array([0, 10, 20, 30, 40]), 20).tolist() == [0, 2, 4]


def test_a_batch_carries_its_loss_weight_exactly():
    rows, _ = packed([5, 8])
    batch = pack(rows, np.arange(2), np.zeros(2, np.int64), pad_id=PAD_ID, loss_weight=0.1)
    assert float(batch.loss_weight) == float(np.float32(0.1))
