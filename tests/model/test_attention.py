from typing import Literal, get_args

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.attention import (
    KERNELS,
    SHORT_ROW,
    AttentionKernel,
    attend,
    attend_packed,
    compiled_flex,
    fastest_kernel,
    fastest_packed_kernel,
    flex_blocks,
)
from wirebert.model.batches import pack
from wirebert.model.packing import Packing

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
    given = KERNELS[kernel](query, key, value, sees[:, None], 0.0)
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what importing torch.compile says
def test_flex_is_compiled_once_for_all_masks_and_sizes_of_short_rows():
    num_graphs = []
    for seed, (flows, length) in enumerate([(6, 40), (6, 40), (3, 40), (5, 17), (9, 100)]):
        query, key, value = (random_heads(flows, 2, length, 16, seed=i).detach() for i in range(3))
        sees = torch.rand(flows, 1, length, length, generator=torch.Generator().manual_seed(seed)) < 0.5
        sees |= torch.eye(length, dtype=torch.bool)
        given = compiled_flex("aot_eager")(query, key, value, block_mask=flex_blocks(sees))
        torch.testing.assert_close(given, KERNELS["math"](query, key, value, sees, 0.0), atol=1e-5, rtol=1e-5)
        num_graphs.append(counters["stats"]["unique_graphs"])
    assert num_graphs == num_graphs[:1] * 5


@pytest.mark.parametrize("kernel", get_args(AttentionKernel))
@pytest.mark.parametrize("is_padded", [False, True])
def test_every_kernel_trains_on_a_processor(kernel: AttentionKernel, is_padded: bool):
    query, key, value = (random_heads(2, 2, 5, 4, seed=i) for i in range(3))
    mask = torch.arange(5) < torch.tensor([[5], [2]]) if is_padded else None
    given, expected = (attend(query, key, value, mask, dropout=0.0, kernel=name) for name in (kernel, "math"))
    torch.testing.assert_close(given, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (given, expected))
    )


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


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
MOST_OFF = (1e-2, 2e-2, 2e-2, 2e-2)
"""Of bf16, result and gradients, as a share of the length of what is right."""


def share_off(given: torch.Tensor, expected: torch.Tensor) -> float:
    return float((given.cpu().double() - expected).norm() / expected.norm())


@needs_gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what compiling flex_attention says
@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("is_padded", [False, True])
def test_a_kernel_of_a_gpu_equals_the_formula_in_double_precision(kernel: AttentionKernel, is_padded: bool):
    inputs = [random_heads(6, 12, 40, 64, seed=i).detach().bfloat16() for i in range(3)]
    mask = torch.arange(40) < torch.tensor([40, 1, 4, 17, 39, 8])[:, None] if is_padded else None

    def through(
        tensors: list[torch.Tensor], mask: torch.Tensor | None, kernel: AttentionKernel
    ) -> tuple[torch.Tensor, ...]:
        query, key, value = tensors
        out = attend(query, key, value, mask, dropout=0.0, kernel=kernel)
        return (out, *torch.autograd.grad(out.double().square().sum(), tensors))

    expected = through([tensor.double().requires_grad_() for tensor in inputs], mask, "math")
    mine = [tensor.cuda().requires_grad_() for tensor in inputs]
    given = through(mine, None if mask is None else mask.cuda(), kernel)
    for own, right, most in zip(given, expected, MOST_OFF, strict=True):
        assert share_off(own, right) < most


@needs_gpu
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kernel", ["auto", "tiles", "varlen", *KERNELS])
@pytest.mark.parametrize("only_first", [False, True])
def test_a_kernel_for_packed_rows_equals_the_formula_in_double_precision(
    kernel: AttentionKernel, only_first: bool
):
    lengths = [5, 1, 17, 9, 64, 2, 30]
    rows = JaggedRows(np.zeros(sum(lengths), np.uint16), np.concatenate([[0], np.cumsum(lengths)]))
    batch = pack(rows, np.arange(7), np.zeros(7, np.int64), pad_id=0)
    num_tokens, num_rows = batch.shape[:2]
    sizes = [(num_tokens, 2 * 128), (num_rows, 128)] if only_first else [(num_tokens, 3 * 128)]
    inputs = [random_heads(*size, seed=i).detach().bfloat16() for i, size in enumerate(sizes)]
    exact = [tensor.double().requires_grad_() for tensor in inputs]
    mine = [tensor.cuda().requires_grad_() for tensor in inputs]

    def through(
        tensors: list[torch.Tensor], packing: Packing, kernel: AttentionKernel
    ) -> tuple[torch.Tensor, ...]:
        query = tensors[1] if only_first else None
        out = attend_packed(tensors[0], query, packing, num_heads=2, dropout=0.0, kernel=kernel)
        return (out, *torch.autograd.grad(out.double().square().sum(), tensors))

    expected = through(exact, batch.packing, "math")
    given = through(mine, batch.to("cuda").packing, kernel)
    for own, right, most in zip(given, expected, MOST_OFF, strict=False):
        assert share_off(own, right) < most


@needs_gpu
@pytest.mark.parametrize(
    ("length", "dtype", "dropout", "expected"),
    [
        (40, torch.bfloat16, 0.1, "tiles"),
        (200, torch.bfloat16, 0.0, "varlen"),
        (200, torch.bfloat16, 0.1, "sdpa"),  # varlen can not drop attention weights
        (200, torch.float32, 0.0, "sdpa"),
    ],
)
def test_auto_takes_what_the_table_of_the_benchmark_has_as_the_fastest(
    length: int, dtype: torch.dtype, dropout: float, expected: str
):
    rows = JaggedRows(np.zeros(4 * length, np.uint16), length * np.arange(5))
    packing = pack(rows, np.arange(4), np.zeros(4, np.int64), pad_id=0).packing
    projected = torch.zeros(4 * length, 12, dtype=dtype, device="cuda")
    assert fastest_packed_kernel(projected, packing, dropout) == expected
    parts = [torch.zeros(4, 2, length, 8, dtype=dtype, device="cuda")] * 2
    is_short = length < SHORT_ROW and dtype is not torch.float32
    assert fastest_kernel(*parts) == ("memory_efficient" if is_short else "sdpa")
