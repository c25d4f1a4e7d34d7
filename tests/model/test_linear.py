"""Linear layers with copies of their weights in half precision."""

import pytest
import torch

from wirebert.model.linear import HalfWeights, Linear


@pytest.fixture
def layer() -> Linear:
    torch.manual_seed(1)
    return Linear(6, 4)


def test_without_copies_it_is_a_linear_layer(layer: Linear):
    x = torch.randn(3, 6)
    plain = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer(x), plain)
    torch.testing.assert_close(layer(x, slice(1, 3)), plain[:, 1:3])
    torch.testing.assert_close(layer.product(x) + layer.bias, plain)


def test_copies_are_for_training_only(layer: Linear):
    layer.copies = HalfWeights(torch.zeros(4, 6), torch.zeros(4))
    x = torch.randn(3, 6)
    assert not layer(x).any()
    with torch.inference_mode():
        assert layer(x).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("rows", [slice(None), slice(None, 128), slice(128, None)])
def test_gradients_reach_the_weights_in_single_precision(rows: slice):
    torch.manual_seed(1)
    layer = Linear(64, 256, device="cuda")
    layer.copies = HalfWeights(layer.weight.detach().bfloat16(), layer.bias.detach().bfloat16())
    x = torch.randn(2, 50, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    weights = torch.randn(2, 50, 256, device="cuda")[..., rows].bfloat16()
    given = torch.autograd.grad(layer(x, rows), [x, layer.weight, layer.bias], weights)
    assert [gradient.dtype for gradient in given] == [torch.bfloat16, torch.float32, torch.float32]
    exact = [tensor.detach().double().requires_grad_() for tensor in (x, *layer.copies)]
    out = torch.nn.functional.linear(exact[0], exact[1], exact[2])[..., rows]
    expected = torch.autograd.grad(out, exact, weights.double())
    for ours, theirs, bound in zip(given, expected, (5e-3, 1e-5, 1e-5), strict=True):
        assert float((ours.double() - theirs).norm() / theirs.norm()) < bound


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_first_gradient_is_written_into_its_room_and_later_ones_are_added():
    torch.manual_seed(1)
    layer = Linear(64, 256, device="cuda")
    layer.copies = HalfWeights(layer.weight.detach().bfloat16(), layer.bias.detach().bfloat16())
    x = torch.randn(2, 50, 64, device="cuda", dtype=torch.bfloat16)
    layer(x).sum().backward()
    plain = layer.weight.grad
    assert plain is not None
    layer.zero_grad()
    buffer = torch.zeros(8 + 256 * 64, device="cuda")
    layer.gradient_room = buffer[8:].view(256, 64)
    for number in (1, 2):
        layer(x).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.data_ptr() == layer.gradient_room.data_ptr()
        torch.testing.assert_close(layer.gradient_room, number * plain)
    assert not buffer[:8].any()
