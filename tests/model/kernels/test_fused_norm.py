"""The fused kernels against PyTorch's operations in double precision; need a CUDA GPU."""

import pytest
import torch
from torch import Tensor, nn

from wirebert.model.linear import Linear
from wirebert.model.normalization import linear_add_norm, linear_gelu, normalized

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 5e-3}


def distance(given: Tensor, expected: Tensor) -> float:
    return float((given.double() - expected).norm().detach() / expected.norm().detach())


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("num_tokens", [1, 37, 5000])
@pytest.mark.parametrize("dim", [128, 768])
def test_linear_add_norm_equals_layer_norm_in_forward_and_gradient(
    dtype: torch.dtype, num_tokens: int, dim: int
):
    norm, linear = nn.LayerNorm(dim, eps=1e-12, device="cuda"), Linear(dim, dim, device="cuda")
    for weight in (norm.weight, norm.bias, linear.bias):
        nn.init.normal_(weight)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(dim))  # exact in any precision: what is tested is what comes after
    linear.to(dtype)
    x, residual, weights = (torch.randn(num_tokens, dim, device="cuda", dtype=dtype) for _ in range(3))
    inputs = [x.requires_grad_(), residual.requires_grad_(), linear.bias, norm.weight, norm.bias]
    given = linear_add_norm(x, linear, residual, norm)
    gradients = torch.autograd.grad((given.double() * weights.double()).sum(), inputs)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    total = exact[0] + exact[2] + exact[1]
    expected = nn.functional.layer_norm(total, (dim,), exact[3], exact[4], 1e-12)
    expected_gradients = torch.autograd.grad((expected * weights.double()).sum(), exact)
    assert given.dtype == dtype
    assert distance(given, expected) < TOLERANCE[dtype]
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert distance(ours, theirs) < 2 * TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("num_tokens", [1, 37, 5000])
def test_linear_gelu_equals_gelu_in_forward_and_gradient(dtype: torch.dtype, num_tokens: int):
    linear = Linear(768, 768, device="cuda")
    nn.init.normal_(linear.bias)
    with torch.no_grad():
        linear.weight.copy_(torch.eye(768))
    linear.to(dtype)
    x, weights = (torch.randn(num_tokens, 768, device="cuda", dtype=dtype) for _ in range(2))
    inputs = [x.requires_grad_(), linear.bias]
    given = linear_gelu(x, linear)
    gradients = torch.autograd.grad((given.double() * weights.double()).sum(), inputs)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = nn.functional.gelu(exact[0] + exact[1])
    expected_gradients = torch.autograd.grad((expected * weights.double()).sum(), exact)
    assert distance(given, expected) < TOLERANCE[dtype]
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert distance(ours, theirs) < 2 * TOLERANCE[dtype]


def test_normalized_equals_layer_norm():
    norm, x = nn.LayerNorm(768, eps=1e-12, device="cuda"), torch.randn(100, 768, device="cuda")
    torch.testing.assert_close(normalized(x, norm), norm(x))


def test_dropout_falls_on_the_input_and_not_on_the_residual():
    norm, linear = nn.LayerNorm(128, eps=1e-12, device="cuda"), Linear(128, 128, device="cuda")
    with torch.no_grad():
        linear.weight.copy_(torch.eye(128))
    x, residual = torch.full((64, 128), 5.0, device="cuda"), torch.randn(64, 128, device="cuda")
    x.requires_grad_()
    residual.requires_grad_()
    out = linear_add_norm(x, linear, residual, norm, dropout=0.25)
    of_x, of_residual, of_bias = torch.autograd.grad(
        (out * torch.randn_like(out)).sum(), [x, residual, linear.bias]
    )
    dropped = of_x == 0
    assert 0.2 < float(dropped.float().mean()) < 0.3
    torch.testing.assert_close(of_x[~dropped], of_residual[~dropped] / 0.75)
    torch.testing.assert_close(of_bias, of_x.sum(0), atol=1e-4, rtol=1e-4)
