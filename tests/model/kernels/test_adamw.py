"""The fused update against PyTorch's clipping and AdamW; needs a CUDA GPU."""

import pytest
import torch
from torch.nn.utils import clip_grad_norm_

from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.model.linear import Linear
from wirebert.training.config import TrainConfig
from wirebert.training.optimizer import ClippingAdamW, make_optimizer

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

CONFIG = TrainConfig(learning_rate=1e-2, weight_decay=0.1, adam_beta1=0.8)


@pytest.fixture
def pair() -> tuple[DistilBert, DistilBert]:
    """Two models with equal weights, some of several chunks, one of five numbers."""
    architecture = Architecture(
        vocab_size=101, num_classes=5, dim=96, num_layers=2, num_heads=2, hidden_dim=192
    )
    models = (DistilBert(architecture, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    one, other = (model.cuda() for model in models)
    return one, other


def give_gradients(models: tuple[DistilBert, DistilBert], scale: float, seed: int) -> None:
    random = torch.Generator("cuda").manual_seed(seed)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        if one.requires_grad:
            one.grad = scale * torch.randn(one.shape, generator=random, device="cuda")
            other.grad = one.grad.clone()


@pytest.mark.parametrize("scale", [1e-4, 10.0])
def test_update_is_clipping_then_adamw(pair: tuple[DistilBert, DistilBert], scale: float):
    ours, theirs = (
        make_optimizer(model, CONFIG, half=half)
        for model, half in zip(pair, (torch.bfloat16, None), strict=True)
    )
    assert isinstance(ours, ClippingAdamW)
    for step in range(4):
        give_gradients(pair, scale, step)
        norm = ours.clip_and_step(1.0)
        expected = clip_grad_norm_(pair[1].parameters(), 1.0)
        theirs.step()
        torch.testing.assert_close(norm, expected)
    for one, other in zip(*(model.parameters() for model in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for weight in pair[0].backbone_parameters():
        assert int(ours.state[weight]["step"]) == 4


def test_copies_follow_the_weights_and_weights_without_gradient_rest(pair: tuple[DistilBert, DistilBert]):
    model = pair[0]
    optimizer = make_optimizer(model, CONFIG, half=torch.bfloat16)
    assert isinstance(optimizer, ClippingAdamW)
    give_gradients(pair, 1.0, 1)
    model.classifier.weight.grad = None
    before = model.classifier.weight.clone()
    optimizer.clip_and_step(float("inf"))
    assert torch.equal(model.classifier.weight, before)
    layers = [layer for layer in model.modules() if isinstance(layer, Linear)]
    for layer in layers:
        assert layer.copies is not None
        assert torch.equal(layer.copies.weight, layer.weight.bfloat16())
        assert torch.equal(layer.copies.bias, layer.bias.bfloat16())
    optimizer.drop_copies()
    assert all(layer.copies is None for layer in layers)


def test_a_gradient_that_is_not_finite_is_told_by_the_norm(pair: tuple[DistilBert, DistilBert]):
    optimizer = make_optimizer(pair[0], CONFIG, half=torch.bfloat16)
    assert isinstance(optimizer, ClippingAdamW)
    give_gradients(pair, 1.0, 1)
    pair[0].classifier.weight.grad = torch.full_like(pair[0].classifier.weight, float("nan"))
    assert not bool(optimizer.clip_and_step(1.0).isfinite())


def test_gradients_may_lie_anywhere_in_one_buffer(pair: tuple[DistilBert, DistilBert]):
    """As after the exchange of several ranks: parts of one tensor, at addresses of any multiple of 4."""
    ours, apart = (make_optimizer(model, CONFIG, half=torch.bfloat16) for model in pair)
    assert isinstance(ours, ClippingAdamW)
    assert isinstance(apart, ClippingAdamW)
    give_gradients(pair, 1.0, 1)
    for model_weight in pair[0].parameters():
        if model_weight.grad is not None:
            buffer = torch.empty(model_weight.numel() + 1, device="cuda")
            buffer[1:] = model_weight.grad.flatten()
            model_weight.grad = buffer[1:].view_as(model_weight)
    torch.testing.assert_close(ours.clip_and_step(1.0), apart.clip_and_step(1.0))
    for one, other in zip(*(model.parameters() for model in pair), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
