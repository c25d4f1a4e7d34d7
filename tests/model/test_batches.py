from dataclasses import dataclass
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Int64, UInt16

from wirebert.encoding.token_rows import by_length
from wirebert.model import batches
from wirebert.model.batches import FlowBatch, class_logits, pad, score
from wirebert.model.config import Architecture, Precision
from wirebert.model.distilbert import DistilBert

TINY = Architecture(
    vocab_size=50, num_classes=3, dim=16, num_layers=2, num_heads=4, hidden_dim=32, max_positions=24
)
LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=30)


@dataclass(frozen=True)
class Rows:
    """Encoded flows in memory."""

    ids: UInt16[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " flows+1"]


def random_rows(lengths: list[int], *, vocab_size: int = 50, seed: int = 0) -> Rows:
    """Flows of these lengths with random tokens other than padding."""
    ids = np.random.default_rng(seed).integers(1, vocab_size, sum(lengths)).astype(np.uint16)
    return Rows(ids, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def tiny() -> DistilBert:
    return DistilBert(TINY, generator=torch.Generator().manual_seed(0))


def test_rows_are_padded_to_the_longest_of_them():
    flows = Rows(np.array([1, 2, 3, 4, 5, 6], dtype=np.uint16), np.array([0, 1, 3, 6]))
    ids, mask = pad(flows, np.array([1, 0]), pad_id=9)
    assert ids.tolist() == [[2, 3], [1, 9]]
    assert mask is not None
    assert mask.tolist() == [[True, True], [True, False]]


def test_rows_of_one_length_need_no_mask():
    flows = Rows(np.array([1, 2, 3, 4], dtype=np.uint16), np.array([0, 2, 4]))
    ids, mask = pad(flows, np.array([1, 0]), pad_id=0)
    assert ids.tolist() == [[3, 4], [1, 2]]
    assert mask is None


@given(LENGTHS, st.integers(1, 64))
def test_batches_hold_every_row_once_and_no_more_slots_than_allowed(lengths: list[int], max_tokens: int):
    cut = by_length(np.array(lengths), max_tokens)
    assert sorted(np.concatenate(cut).tolist()) == list(range(len(lengths)))
    widths = [max(lengths[row] for row in batch) for batch in cut]
    assert widths == sorted(widths)
    for batch, width in zip(cut, widths, strict=True):
        assert len(batch) * width <= max_tokens or len(batch) == 1
    for batch, next_batch in pairwise(cut):  # no batch could have taken one more row
        assert (len(batch) + 1) * lengths[next_batch[0]] > max_tokens


def test_no_rows_give_no_batches():
    assert by_length(np.array([], dtype=np.int64), 100) == []
    assert score(tiny(), random_rows([])).shape == (0, 3)


@given(LENGTHS)
@settings(max_examples=20, deadline=None)
def test_padding_changes_no_score(lengths: list[int]):
    flows, model = random_rows(lengths), tiny()
    alone = score(model, flows, max_tokens=1)  # every flow by itself
    np.testing.assert_allclose(score(model, flows, max_tokens=400), alone, atol=1e-6)


@given(LENGTHS, st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_a_permutation_of_rows_permutes_the_scores(lengths: list[int], random: Random):
    flows, model = random_rows(lengths), tiny()
    order = random.sample(range(len(lengths)), len(lengths))
    parts = [flows.ids[flows.offsets[row] : flows.offsets[row + 1]] for row in order]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    turned = score(model, Rows(np.concatenate(parts), offsets))
    np.testing.assert_allclose(turned, score(model, flows)[order], atol=1e-6)


def test_where_memory_runs_out_smaller_batches_give_the_same_scores(monkeypatch: pytest.MonkeyPatch):
    rows, model = random_rows([5] * 2_000), tiny()
    expected = score(model, rows, max_tokens=10_000)
    tried: list[int] = []

    def within(model: DistilBert, batch: FlowBatch) -> torch.Tensor:
        tried.append(batch.ids.numel())
        if tried[-1] > 3_000:
            raise torch.OutOfMemoryError
        return class_logits(model, batch)

    monkeypatch.setattr(batches, "class_logits", within)
    monkeypatch.setattr(batches, "_fitting", {})
    np.testing.assert_allclose(score(model, rows), expected, atol=1e-5)
    assert max(tried[-4:]) <= 2_048
    tried.clear()
    score(model, rows)
    assert max(tried) <= 2_048, "it has to begin with what fitted before"


def test_memory_that_is_too_small_for_anything_is_an_error(monkeypatch: pytest.MonkeyPatch):
    def never(model: DistilBert, batch: FlowBatch) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(batches, "class_logits", never)
    monkeypatch.setattr(batches, "_fitting", {})
    with pytest.raises(torch.OutOfMemoryError):
        score(tiny(), random_rows([5] * 10))


def test_windows_change_no_score(monkeypatch: pytest.MonkeyPatch):
    flows, model = random_rows([5, 2, 9, 9, 1, 3, 7]), tiny()
    whole = score(model, flows)
    monkeypatch.setattr(batches, "SCORE_WINDOW", 3)
    np.testing.assert_allclose(score(model, flows), whole, atol=1e-6)


def packs_all(device: str) -> bool:
    """As if every device were a GPU."""
    return bool(device)


def not_pinned(batch: batches.PackedBatch) -> batches.PackedBatch:
    """Only CUDA has pinned memory."""
    return batch


@pytest.mark.parametrize("max_tokens", [1, 40, 4_096])
def test_a_gpu_scores_as_a_processor_does(max_tokens: int, monkeypatch: pytest.MonkeyPatch):
    """Packed batches that are made ahead, several of them between two copies; here on the processor."""
    lengths = np.random.default_rng(1).integers(1, 20, 60).tolist()
    flows, model = random_rows(lengths), tiny()
    expected = score(model, flows)
    monkeypatch.setattr(batches, "takes_packed", packs_all)
    monkeypatch.setattr(batches.PackedBatch, "pinned", not_pinned)
    monkeypatch.setattr(batches, "SCORE_WINDOW", 25)
    np.testing.assert_allclose(score(model, flows, max_tokens=max_tokens), expected, atol=1e-6)


@pytest.mark.parametrize("longest", [16, 60, 128])
def test_full_batches_of_a_gpu_are_filled_up_to_their_size_and_no_further(
    longest: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batches, "takes_packed", packs_all)
    monkeypatch.setattr(batches.PackedBatch, "pinned", not_pinned)
    flows = random_rows(np.random.default_rng(0).integers(longest // 2, longest + 1, 20_000).tolist())
    made = batches._scoring_batches(tiny(), flows, batches.GPU_TOKENS, "cpu")  # pyright: ignore[reportPrivateUsage]
    rows, batch = next(made)
    assert isinstance(batch, batches.PackedBatch)
    assert flows.offsets[len(rows)] <= batch.shape.num_tokens == batches.GPU_TOKENS


def test_scoring_leaves_the_model_as_it_was():
    model = tiny().train()
    first = score(model, random_rows([4, 2]))
    assert model.training
    np.testing.assert_array_equal(score(model, random_rows([4, 2])), first)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_scores_are_close(precision: Precision):
    flows, model = random_rows([5, 12, 12, 3]), tiny()
    exact = score(model, flows)
    lower = score(model, flows, precision=precision)
    assert lower.dtype == np.float32
    np.testing.assert_allclose(lower, exact, atol=2e-3)


def test_a_batch_moves_as_a_whole():
    ids, mask = pad(random_rows([2, 3]), np.array([0, 1]), pad_id=0)
    moved = FlowBatch(ids, mask, torch.zeros(2, dtype=torch.int64)).to("meta")
    assert moved.mask is not None
    assert {part.device.type for part in (moved.ids, moved.mask, moved.class_ids)} == {"meta"}
