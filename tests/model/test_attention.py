from typing import Literal

import pytest
import torch

from wirebert.model.attention import KERNELS, SHORT_ROW, attend, fastest_kernel

KERNEL_NAMES: tuple[Literal["sdpa", "math"], ...] = ("sdpa", "math")


def random_heads(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
@pytest.mark.parametrize("asking", [1, 7])
def test_kernel_equals_the_formula_in_forward_and_gradient(kernel: Literal["sdpa", "math"], asking: int):
    query, key, value = (random_heads(3, 2, size, 4, seed=i) for i, size in enumerate((asking, 7, 7)))
    mask = torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    scores = torch.einsum("bhqe,bhle->bhql", query, key) / 2
    weights = torch.where(mask[:, None, None], scores.exp(), 0.0)
    expected = torch.einsum("bhql,bhle->bhqe", weights / weights.sum(-1, keepdim=True), value)
    given = attend(query, key, value, mask, dropout=0.0, kernel=kernel)
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)
    mine = torch.autograd.grad(given.square().sum(), (query, key, value))
    theirs = torch.autograd.grad(expected.square().sum(), (query, key, value))
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("kernel", ["math", "sdpa", "flex"])
def test_a_mask_per_pair_says_who_sees_whom(kernel: Literal["sdpa", "math", "flex"]):
    query, key, value = (random_heads(2, 2, 6, 16, seed=i).detach() for i in range(3))
    sees = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(4)) < 0.5
    sees |= torch.eye(6, dtype=torch.bool)
    weights = torch.einsum("bhqe,bhle->bhql", query, key) / 4
    weights = torch.where(sees[:, None], weights.exp(), 0.0)
    expected = torch.einsum("bhql,bhle->bhqe", weights / weights.sum(-1, keepdim=True), value)
    given = attend(query, key, value, sees, dropout=0.0, kernel=kernel)
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_padding_has_no_weight_at_all(kernel: Literal["sdpa", "math"]):
    query, key, value = (random_heads(1, 2, 5, 4, seed=i).detach() for i in range(3))
    mask = torch.tensor([[True, True, True, False, False]])
    before = attend(query, key, value, mask, dropout=0.0, kernel=kernel)
    value[:, :, 3:] = 1e30
    key[:, :, 3:] = 1e4
    assert torch.equal(attend(query, key, value, mask, dropout=0.0, kernel=kernel), before)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_no_mask_means_that_all_slots_are_real(kernel: Literal["sdpa", "math"]):
    query, key, value = (random_heads(2, 2, 5, 4, seed=i).detach() for i in range(3))
    everything = attend(query, key, value, torch.ones(2, 5, dtype=torch.bool), dropout=0.0, kernel=kernel)
    torch.testing.assert_close(attend(query, key, value, None, dropout=0.0, kernel=kernel), everything)


@pytest.mark.parametrize("kernel", KERNEL_NAMES)
def test_dropout_keeps_the_mean(kernel: Literal["sdpa", "math"]):
    torch.manual_seed(0)
    query, key = torch.zeros(400, 4, 1, 8), torch.zeros(400, 4, 10, 8)
    given = attend(query, key, torch.ones(400, 4, 10, 8), None, dropout=0.3, kernel=kernel)
    assert given.std() > 0.1
    assert abs(given.mean().item() - 1) < 0.02


def test_auto_names_a_kernel_that_exists():
    query = torch.zeros(1, 1, SHORT_ROW, 4)
    assert fastest_kernel(query, query) in KERNELS
    assert attend(query, query, query, None, dropout=0.0, kernel="auto").shape == query.shape
