# pyright: basic
"""The kernels of training steps, compiled side by side before the first step needs them.

Compiling takes seconds on a machine whose cache has none of them; started early, it overlaps with reading.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wirebert.model.attention import attend_packed
from wirebert.model.linear import HalfWeights, Linear
from wirebert.model.normalization import linear_add_norm, linear_gelu, normalized
from wirebert.model.packing import CAPACITIES, Packing, plan

ROWS, ROW = 128, 16
"""Rows and tokens of a row: as in training, all sizes are multiples of 16, which kernels are compiled for."""


class StepKernels(NamedTuple):
    """What the kernels of a training step depend on."""

    device: torch.device
    dtype: torch.dtype
    dim: int
    num_heads: int
    dropout: float
    attention_dropout: float
    betas: tuple[float, float]
    eps: float

    @cache  # noqa: B019 - few are ever made
    def compiled(self) -> "Future[None]":
        """Start to compile them, once, in a thread; the first step shows what fails."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        try:
            return pool.submit(self._compile)
        finally:
            pool.shutdown(wait=False)

    def _compile(self) -> None:
        steps = self._steps()
        with ThreadPoolExecutor(len(steps), thread_name_prefix="compile") as pool:
            for done in [pool.submit(self._run, step) for step in steps]:
                done.result()
        torch.cuda.synchronize(self.device)

    def _run(self, step: Callable[[], Tensor]) -> None:
        with torch.cuda.device(self.device):
            with torch.autocast("cuda", self.dtype):
                out = step()
            if out.requires_grad:
                out.sum().backward()

    def _steps(self) -> list[Callable[[], Tensor]]:
        from wirebert.model.kernels.sums import lookup  # needs Triton

        dim, norm = self.dim, nn.LayerNorm(self.dim, device=self.device)
        linear, copied = (Linear(dim, dim, device=self.device) for _ in range(2))
        copied.copies = HalfWeights(
            copied.weight.detach().to(self.dtype), copied.bias.detach().to(self.dtype)
        )
        parts = plan(torch.full((ROWS,), ROW).numpy(), CAPACITIES[0])
        row_of, *rest = (torch.from_numpy(part).int().to(self.device) for part in parts)
        packing = Packing(row_of, *rest, capacity=CAPACITIES[0])

        def hidden(width: int = dim, rows: int = ROWS * ROW) -> Tensor:
            return torch.ones(rows, width, device=self.device, dtype=self.dtype, requires_grad=True)

        def attend(parts: int, query: Tensor | None) -> Tensor:
            rates = {"num_heads": self.num_heads, "dropout": self.attention_dropout}
            return attend_packed(hidden(parts * dim), query, packing, kernel="tiles", **rates)

        return [
            lambda: attend(3, None),
            lambda: attend(2, hidden(rows=ROWS)),
            lambda: linear_add_norm(hidden(), linear, hidden(), norm),
            lambda: linear_add_norm(hidden(), linear, hidden(), norm, dropout=self.dropout),
            lambda: normalized(hidden().float(), norm),
            lambda: linear_gelu(hidden(), linear),
            lambda: copied(hidden()),
            lambda: lookup(torch.zeros(16, dtype=torch.int32, device=self.device), linear.weight, 0),
            self._update,
        ]

    def _update(self) -> Tensor:
        from wirebert.model.kernels.adamw import Moments, Tables, clip_and_update  # needs Triton

        weight, mean, square, gradient, rate = torch.zeros(5, 64, device=self.device)
        moments = [Moments(weight, mean, square, weight.to(self.dtype), 0)]
        tables = Tables(moments, torch.zeros((), device=self.device), torch.zeros(1), [rate])
        addresses = torch.tensor([gradient.data_ptr()], device=self.device)
        settings = {"limit": 1.5, "betas": self.betas, "eps": self.eps, "is_aligned": True}
        return clip_and_update(tables, addresses, **settings)
