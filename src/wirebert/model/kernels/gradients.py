"""Operations with gradients of their own."""

from collections.abc import Callable
from typing import Any

from torch.autograd import Function


def with_gradients(
    forward: Callable[..., Any], keep: Callable[[Any, Any, Any], None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """`forward` as an operation that autograd differentiates by `backward`.

    `torch.library` does the same and imports PyTorch's compiler, which takes seconds.

    Args:
        keep: Called with the context, the inputs as a tuple and the output, to save what `backward` needs.
        backward: Called with the context and the gradient of each output; returns that of each input.
    """

    class Operation(Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = forward(*inputs)
            keep(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    return Operation.apply  # pyright: ignore[reportReturnType]  # untyped in PyTorch
