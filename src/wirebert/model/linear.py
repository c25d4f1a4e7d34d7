"""Linear layers with half-precision copies of their weights, which a GPU's optimizer keeps up to date.

Autocast casts each weight in every forward pass, and each weight's gradient back in the backward pass. Here
the optimizer writes the copy together with the weight (`wirebert.model.kernels.adamw`), and the gradient of a
weight is computed in single precision at once, where it is sent from if there are several ranks.
"""

from typing import Any, NamedTuple, cast, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor, nn

from wirebert.shapes import Float

EVERY_ROW = slice(None)


class HalfWeights(NamedTuple):
    """Copies of a layer's weight and bias in half precision."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, " O"]


@final
class Linear(nn.Linear):
    """A linear layer that trains with the weights in `copies`, if an optimizer keeps them."""

    copies: HalfWeights | None = None

    gradient_room: Float[Tensor, "O I"] | None = None
    """Where the weight's gradient is written, if it has none yet, so that it need not be copied there."""

    def forward(
        self,
        input: Float[Tensor, "*tokens I"],
        rows: slice = EVERY_ROW,
    ) -> Float[Tensor, "*tokens _"]:
        """The product with these rows of the weight, plus their biases."""
        return self._apply_rows(input, rows, has_bias=True)

    def product(self, x: Float[Tensor, "*tokens I"]) -> Float[Tensor, "*tokens O"]:
        """The matrix product without the bias."""
        return self._apply_rows(x, EVERY_ROW, has_bias=False)

    def _apply_rows(self, x: Tensor, rows: slice, *, has_bias: bool) -> Tensor:
        half = self.copies if torch.is_grad_enabled() else None
        weights = [self.weight, self.bias] if half is None else [self.weight, self.bias, *half]
        if rows != EVERY_ROW:
            weights = [tensor[rows] for tensor in weights]
        weight, bias, *copies = weights
        if half is None:
            return F.linear(x, weight, bias if has_bias else None)
        room = self.gradient_room if rows == EVERY_ROW and self.weight.grad is None else None
        return cast(Tensor, _HalfProduct.apply(x, weight, bias if has_bias else None, *copies, room))


class _HalfProduct(torch.autograd.Function):
    """A product with the copies, whose gradients go to the single-precision weights."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,  # noqa: ARG004 - receives the gradient
        bias: Tensor | None,
        half_weight: Tensor,
        half_bias: Tensor,
        room: Tensor | None,
    ) -> Tensor:
        x = x.to(half_weight.dtype)
        ctx.save_for_backward(x, half_weight)
        ctx.has_bias, ctx.room = bias is not None, room
        return F.linear(x, half_weight, half_bias if ctx.has_bias else None)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, half_weight = cast("tuple[Tensor, Tensor]", ctx.saved_tensors)
        grad = grads[0].flatten(0, -2)
        grad_x = (grad @ half_weight).view_as(x) if ctx.needs_input_grad[0] else None
        room: Tensor | None = ctx.room
        # A view of its own, which autograd makes the weight's gradient as it is.
        out = None if room is None else room.view(room.shape)
        grad_weight = torch.mm(grad.t(), x.flatten(0, -2), out_dtype=torch.float32, out=out)
        if not ctx.has_bias:
            return grad_x, grad_weight, None, None, None, None
        from wirebert.model.kernels.sums import sum_rows  # needs Triton, which CPU builds lack

        grad_bias = sum_rows(grad.contiguous())
        return grad_x, grad_weight, grad_bias, None, None, None
