"""What stands between matrix products, on a processor, against PyTorch's own modules one by one."""

import torch
from torch import nn

from wirebert.model.linear import Linear
from wirebert.model.normalization import linear_add_norm, linear_gelu, matmul_dtype, normalized


def modules() -> tuple[Linear, nn.LayerNorm]:
    torch.manual_seed(0)
    linear, norm = Linear(6, 8), nn.LayerNorm(8, eps=1e-12)
    nn.init.normal_(norm.weight)
    return linear, norm


def test_linear_add_norm_is_the_three_one_after_the_other():
    linear, norm = modules()
    x, residual = torch.randn(5, 6), torch.randn(5, 8)
    torch.testing.assert_close(linear_add_norm(x, linear, residual, norm), norm(linear(x) + residual))


def test_dropout_falls_on_the_linear_part_alone():
    linear, norm = modules()
    x, residual = torch.randn(3, 4, 6), torch.randn(3, 4, 8)
    torch.manual_seed(1)
    given = linear_add_norm(x, linear, residual, norm, dropout=0.5)
    torch.manual_seed(1)
    torch.testing.assert_close(given, norm(nn.functional.dropout(linear(x), 0.5) + residual))


def test_linear_gelu_is_the_exact_gelu():
    linear, _ = modules()
    x = torch.randn(5, 6)
    expected = linear(x) * 0.5 * (1 + torch.erf(linear(x) / 2**0.5))
    torch.testing.assert_close(linear_gelu(x, linear), expected)


def test_sums_are_in_single_precision_and_results_in_that_of_matrix_products():
    linear, norm = modules()
    x, residual = torch.randn(5, 6), torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        given = linear_add_norm(x, linear, residual.bfloat16(), norm)
        assert matmul_dtype(x) == torch.bfloat16
        assert normalized(residual, norm).dtype == torch.bfloat16
    assert given.dtype == torch.bfloat16
    torch.testing.assert_close(given.float(), norm(linear(x) + residual), atol=0.05, rtol=0.05)
    assert matmul_dtype(x) == torch.float32
