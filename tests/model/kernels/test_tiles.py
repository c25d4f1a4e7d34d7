"""The Triton kernel against the plain formula in double precision; needs a CUDA GPU."""

import numpy as np
import pytest
import torch
from torch import Tensor

from wirebert.encoding.token_rows import JaggedRows
from wirebert.model.batches import pack

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")
if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

from wirebert.model.attention import attend_packed
from wirebert.model.packing import Packing

HEADS = 4
TOLERANCE = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 5e-3}


def packing_of(lengths: list[int]) -> Packing:
    rows = JaggedRows(np.zeros(sum(lengths), np.uint16), np.concatenate([[0], np.cumsum(lengths)]))
    chosen = np.arange(len(lengths))
    return pack(rows, chosen, chosen, pad_id=0).to("cuda").packing


def formula(query: Tensor, key: Tensor, value: Tensor, rows_q: Tensor, rows_k: Tensor) -> Tensor:
    parts = [part.double().unflatten(-1, (HEADS, -1)) for part in (query, key, value)]
    scores = torch.einsum("qhe,khe->hqk", parts[0], parts[1]) * parts[0].shape[-1] ** -0.5
    scores = scores.masked_fill(rows_q[:, None] != rows_k[None], float("-inf"))
    return torch.einsum("hqk,khe->qhe", scores.softmax(-1), parts[2]).flatten(1)


def distance(given: Tensor, expected: Tensor) -> float:
    return float((given.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("longest", [5, 23, 64, 128])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("only_first", [False, True])
def test_tiles_equal_the_formula_in_forward_and_gradient(
    dtype: torch.dtype, longest: int, width: int, only_first: bool
):
    lengths = np.random.default_rng(0).integers(1, longest + 1, 50).tolist()
    packing = packing_of([*lengths, longest])
    num_tokens, num_rows, dim = len(packing.row_of), len(packing.starts) - 1, HEADS * width
    projected = torch.randn(
        num_tokens, (2 if only_first else 3) * dim, device="cuda", dtype=dtype, requires_grad=True
    )
    query = torch.randn(num_rows, dim, device="cuda", dtype=dtype, requires_grad=True) if only_first else None
    given = attend_packed(projected, query, packing, num_heads=HEADS, dropout=0.0, kernel="tiles")
    weights = torch.randn_like(given)
    inputs = [projected] if query is None else [projected, query]
    gradients = torch.autograd.grad((given.float() * weights.float()).sum(), inputs)

    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    key, value = exact[0].split(dim, dim=-1)[-2:]
    rows_k = packing.row_of
    asking, rows_q = (
        (exact[0][:, :dim], rows_k) if query is None else (exact[1], torch.arange(num_rows, device="cuda"))
    )
    expected = formula(asking, key, value, rows_q, rows_k)
    expected_gradients = torch.autograd.grad((expected * weights.double()).sum(), exact)
    assert distance(given, expected) < TOLERANCE[dtype]
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        assert distance(ours, theirs) < TOLERANCE[dtype]


def test_dropout_keeps_the_mean_and_drops_what_is_asked_for():
    packing = packing_of([16] * 40)
    projected = torch.randn(640, 3 * HEADS * 32, device="cuda")
    plain = attend_packed(projected, None, packing, num_heads=HEADS, dropout=0.0, kernel="tiles")
    drawn = torch.stack(
        [
            attend_packed(projected, None, packing, num_heads=HEADS, dropout=0.3, kernel="tiles")
            for _ in range(400)
        ]
    )
    assert distance(drawn.mean(0), plain.double()) < 0.1
    assert not torch.equal(drawn[0], drawn[1])


def test_the_gradient_under_dropout_is_that_of_the_drawn_mask():
    torch.manual_seed(0)  # a slope far from 0: in single precision a difference of two sums is no better
    packing = packing_of([9] * 30)
    projected = torch.randn(270, 3 * HEADS * 32, device="cuda", requires_grad=True)

    def total(at: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attend_packed(at, None, packing, num_heads=HEADS, dropout=0.4, kernel="tiles").square().sum()

    (gradient,) = torch.autograd.grad(total(projected), projected)
    step = torch.randn_like(projected) * 1e-3
    with torch.no_grad():
        slope = (total(projected + step) - total(projected - step)) / 2
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=2e-2, atol=1e-4)
