"""Sums over tokens against PyTorch's in double precision; need a CUDA GPU."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from wirebert.model.kernels.sums import lookup, sum_rows


@pytest.mark.parametrize("shape", [(1, 5), (37, 128), (5000, 2304)])
def test_sum_rows_is_the_sum(shape: tuple[int, int]):
    torch.manual_seed(1)
    x = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    torch.testing.assert_close(sum_rows(x).double(), x.double().sum(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("padding", [0, None])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_lookup_is_an_embedding_whose_gradient_is_summed_in_a_fixed_order(
    dtype: torch.dtype, padding: int | None
):
    torch.manual_seed(1)
    table = torch.randn(50, 300, device="cuda", requires_grad=True)
    ids = torch.randint(0, 40, (7, 311), device="cuda", dtype=dtype)
    ids[:, 0] = 3  # more often than the others
    weights = torch.randn(7, 311, 300, device="cuda")
    out = lookup(ids, table, padding)
    assert torch.equal(out, functional.embedding(ids, table))
    (given,) = torch.autograd.grad((out * weights).sum(), table)
    (again,) = torch.autograd.grad((lookup(ids, table, padding) * weights).sum(), table)
    exact = table.detach().double().requires_grad_()
    summed = (functional.embedding(ids, exact, padding) * weights.double()).sum()
    (expected,) = torch.autograd.grad(summed, exact)
    torch.testing.assert_close(given.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(given, again)
