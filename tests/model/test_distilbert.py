from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert

TINY = Architecture(
    vocab_size=50, num_classes=3, dim=16, num_layers=2, num_heads=4, hidden_dim=32, max_positions=24
)


def seeded(architecture: Architecture = TINY, gradient_checkpointing: bool = False) -> DistilBert:
    return DistilBert(
        architecture,
        generator=torch.Generator().manual_seed(0),
        gradient_checkpointing=gradient_checkpointing,
    )


def test_base_has_the_66_million_parameters_of_distilbert():
    with torch.device("meta"):
        model = DistilBert(Architecture(vocab_size=30_522, num_classes=5))
    assert sum(weight.numel() for weight in model.parameters()) == 66_362_880 + 768 * 769 + 5 * 769
    assert sum(weight.numel() for weight in model.backbone_parameters()) == 66_362_880


def test_every_trained_weight_is_in_exactly_one_group():
    model = seeded(replace(TINY, positions=False, num_columns=2))
    groups = [*model.classifier_parameters(), *model.backbone_parameters()]
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert sorted(map(id, groups)) == sorted(map(id, trained))
    assert len(list(model.classifier_parameters())) == 4


def test_a_new_model_starts_as_distilbert_does():
    model = seeded(replace(TINY, vocab_size=500, dim=64))
    words = model.embeddings.word_embeddings.weight
    assert abs(words[1:].std().item() - 0.02) < 0.001
    assert not words[0].any()
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "LayerNorm.weight")):
            assert (weight == 1).all(), name
        elif name.endswith("bias"):
            assert not weight.any(), name
        else:
            assert abs(weight.std().item() - 0.02) < 0.003, name


def test_same_seed_same_start():
    first, second = seeded(), seeded()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_last_block_for_cls_alone_equals_the_last_block_for_all(padded: tuple[Tensor, Tensor]):
    model = seeded().double().eval()
    full = model.head(model.hidden_states(*padded)[-1][:, 0])
    torch.testing.assert_close(model(*padded), full, atol=1e-12, rtol=1e-12)


def test_all_slots_have_a_state_after_every_block(padded: tuple[Tensor, Tensor]):
    states = seeded().hidden_states(*padded)
    assert [tuple(state.shape) for state in states] == [(5, 9, 16)] * 3


def test_more_padding_changes_no_logit(padded: tuple[Tensor, Tensor]):
    model = seeded().eval()
    ids, mask = padded
    wider = torch.nn.functional.pad(ids, (0, 6)), torch.nn.functional.pad(mask, (0, 6))
    torch.testing.assert_close(model(*wider), model(ids, mask), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model(ids[2:3, :5]), model(ids, mask)[2:3], atol=1e-6, rtol=1e-5)


def test_without_positions_order_carries_nothing(padded: tuple[Tensor, Tensor]):
    ids = padded[0][:1]
    turned = torch.cat([ids[:, :1], ids[:, 1:].flip(1)], dim=1)
    without = seeded(replace(TINY, positions=False)).eval()
    torch.testing.assert_close(without(turned), without(ids), atol=1e-6, rtol=1e-5)
    assert not torch.allclose(seeded().eval()(turned), seeded().eval()(ids), atol=1e-6)


def test_without_positions_the_rows_are_zero_and_frozen():
    rows = seeded(replace(TINY, positions=False)).embeddings.position_embeddings.weight
    assert not rows.any()
    assert not rows.requires_grad


def test_a_column_embedding_moves_its_own_tokens_only():
    slots = torch.full((50,), -1)
    slots[10:20] = 1
    model = DistilBert(replace(TINY, num_columns=2), token_slots=slots).eval()
    columns = model.embeddings.column_embeddings
    assert columns is not None
    before = model.embeddings.folded().detach().clone()
    with torch.no_grad():
        columns.weight[1] += 1.0
    moved = (model.embeddings.folded() - before).abs().sum(dim=1) > 0.5
    assert moved.nonzero().flatten().tolist() == list(range(10, 20))
    model(torch.arange(1, 9)[None]).sum().backward()
    assert columns.weight.grad is not None
    assert not columns.weight.grad.any()  # tokens 1 to 8 belong to no column


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradient_checkpointing_gives_the_same_gradients(padded: tuple[Tensor, Tensor], dropout: float):
    gradients: list[list[Tensor | None]] = []
    for checkpointing in (False, True):
        rates = replace(TINY, dropout=dropout, attention_dropout=dropout)
        model = seeded(rates, gradient_checkpointing=checkpointing).train()
        torch.manual_seed(1)
        cross_entropy(model(*padded), torch.tensor([0, 1, 2, 0, 1])).backward()
        gradients.append([weight.grad for weight in model.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_gradient_checkpointing_keeps_a_small_part_for_the_backward_pass():
    """Of all but weights, after the forward pass; one block's share comes on top while it is computed
    again."""
    ids = torch.randint(1, 50, (8, 24), generator=torch.Generator().manual_seed(2))
    kept: list[int] = []
    for checkpointing in (False, True):
        model = seeded(replace(TINY, num_layers=6), gradient_checkpointing=checkpointing).train()
        sizes: dict[int, int] = {}

        def count(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            logits = model(ids, ids != 0)
        assert logits.requires_grad
        own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        kept.append(sum(size for place, size in sizes.items() if place not in own))
    assert kept[1] < 0.15 * kept[0]


def test_dropout_acts_in_training_only(padded: tuple[Tensor, Tensor]):
    model = seeded()
    assert not torch.equal(model.train()(*padded), model(*padded))
    assert torch.equal(model.eval()(*padded), model(*padded))
