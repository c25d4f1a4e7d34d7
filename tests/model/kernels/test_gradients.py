from typing import Any

import torch
from torch import Tensor

from wirebert.model.kernels.gradients import with_gradients


def product(x: Tensor, y: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    return x * y * factor, x.detach().clone()


def keep(ctx: Any, inputs: Any, output: Any) -> None:
    x, y, ctx.factor = inputs
    ctx.save_for_backward(x, y)
    ctx.mark_non_differentiable(output[1])


def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
    x, y = ctx.saved_tensors
    return grad * y * ctx.factor, grad * x * ctx.factor, None


def test_an_operation_has_the_gradients_that_it_was_given():
    operation = with_gradients(product, keep, backward)
    x, y = (torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out, copy = operation(x, y, 2.5)
    torch.testing.assert_close(out, x * y * 2.5)
    assert not copy.requires_grad

    def first_output(a: Tensor, b: Tensor) -> Tensor:
        return operation(a, b, 2.5)[0]

    assert torch.autograd.gradcheck(first_output, (x, y))


def test_two_operations_do_not_share_their_gradients():
    def halved(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, ...]:
        return tuple(None if one is None else one / 2 for one in backward(ctx, grad, _))  # pyright: ignore[reportReturnType]

    whole, half = with_gradients(product, keep, backward), with_gradients(product, keep, halved)
    x = torch.ones(2, requires_grad=True)
    (whole(x, torch.ones(2), 1.0)[0].sum() + half(x, torch.ones(2), 1.0)[0].sum()).backward()
    torch.testing.assert_close(x.grad, torch.full((2,), 1.5))
