"""The operations between two matrix products: fused kernels on a GPU, PyTorch's own operations elsewhere.

Shape letters: D width, V rows of an embedding table.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the name every PyTorch user knows
from torch import Tensor, nn

from wirebert.model.attention import HAS_TRITON
from wirebert.model.linear import Linear
from wirebert.shapes import Float, Int

if TYPE_CHECKING:
    from wirebert.model.kernels.sums import Places


def linear_add_norm(
    x: Float[Tensor, "*tokens I"],
    linear: Linear,
    residual: Float[Tensor, "*tokens D"],
    norm: nn.LayerNorm,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "*tokens D"]:
    """LayerNorm(dropout(linear(x)) + residual), computed in fp32, returned in the matrix product's format.

    `dropout` is the probability of dropping a value (pass 0 outside training).
    """
    if _is_fused(x):
        return _fused_norm(linear.product(x), linear.bias, residual, norm, dropout)
    out = linear(x)
    return norm(F.dropout(out, dropout) + residual).to(out.dtype)


def normalized(x: Float[Tensor, "*tokens D"], norm: nn.LayerNorm) -> Float[Tensor, "*tokens D"]:
    """LayerNorm(x), computed in fp32, returned in the number format of matrix products."""
    return _fused_norm(x, None, None, norm, 0.0) if _is_fused(x) else norm(x).to(matmul_dtype(x))


def linear_gelu(x: Float[Tensor, "*tokens I"], linear: Linear) -> Float[Tensor, "*tokens D"]:
    """GELU(linear(x))."""
    if not _is_fused(x):
        return F.gelu(linear(x))
    from wirebert.model.kernels.fused_norm import fused_bias_gelu  # needs Triton, which CPU builds lack

    out = linear.product(x)
    return fused_bias_gelu(out.reshape(-1, out.shape[-1]), linear.bias).view(out.shape)


def looked_up(
    ids: Int[Tensor, "*tokens"],
    table: Float[Tensor, "V D"],
    padding: int | None,
    places: dict[torch.device, "Places"] | None = None,
) -> Float[Tensor, "*tokens D"]:
    """The rows of an embedding table at `ids`; the row `padding` receives no gradient.

    `places` remembers for ids that never change where on a device each row is asked for.
    """
    if not _is_fused(table):
        return F.embedding(ids, table, padding)
    from wirebert.model.kernels.sums import Places, lookup  # needs Triton, which CPU builds lack

    if places is None or not torch.is_grad_enabled():
        return lookup(ids, table, padding)
    if ids.device not in places:
        places[ids.device] = Places.of(ids, len(table))
    return lookup(ids, table, padding, places[ids.device])


def matmul_dtype(x: Tensor) -> torch.dtype:
    """The number format of matrix products on the device of `x`: autocast's, else that of `x`."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _is_fused(x: Tensor) -> bool:
    # torch.compile fuses these operations itself.
    return x.is_cuda and HAS_TRITON and not torch.compiler.is_compiling()


def _fused_norm(
    x: Tensor, bias: Tensor | None, residual: Tensor | None, norm: nn.LayerNorm, dropout: float
) -> Tensor:
    from wirebert.model.kernels.fused_norm import fused_add_norm  # needs Triton, which CPU builds lack

    dim = x.shape[-1]
    seed = torch.randint(2**31, (), device=x.device) if dropout else norm.bias
    flat_residual = None if residual is None else residual.reshape(-1, dim)
    out, *_ = fused_add_norm(
        *(x.reshape(-1, dim), bias, flat_residual, norm.weight, norm.bias, seed),
        *(norm.eps, dropout, matmul_dtype(x)),
    )
    return out.view(x.shape)
