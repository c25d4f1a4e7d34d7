"""AdamW with separate learning rates for backbone and classifier, and their common schedule."""

from inspect import unwrap
from math import cos, pi
from typing import TYPE_CHECKING, Any, TypedDict, final

import torch
from torch import Tensor, nn

from wirebert.model.distilbert import DistilBert
from wirebert.model.linear import HalfWeights, Linear
from wirebert.shapes import Float, Int64
from wirebert.training.config import TrainConfig

if TYPE_CHECKING:
    from wirebert.model.kernels.adamw import Tables


class ParameterGroup(TypedDict):
    """One of AdamW's groups."""

    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def parameter_groups(model: DistilBert, config: TrainConfig) -> list[ParameterGroup]:
    """The backbone's group, then the classifier's, without frozen parameters."""
    return [
        {
            "params": [parameter for parameter in model.backbone_parameters() if parameter.requires_grad],
            "lr": config.peak_lr,
            "weight_decay": config.weight_decay,
        },
        {
            "params": [parameter for parameter in model.classifier_parameters() if parameter.requires_grad],
            "lr": config.peak_lr * config.classifier_lr_multiplier,
            "weight_decay": config.classifier_weight_decay,
        },
    ]


def make_optimizer(
    model: DistilBert, config: TrainConfig, *, capturable: bool = False, half: torch.dtype | None = None
) -> torch.optim.AdamW:
    """AdamW over both groups, fused into one kernel where every parameter's device supports it.

    Args:
        capturable: it can be recorded in a CUDA graph; its learning rates are tensors on the device.
        half: make a `ClippingAdamW` that keeps copies in this format.
    """
    groups = [dict(group) for group in parameter_groups(model, config)]
    devices = {parameter.device.type for parameter in model.parameters()}
    if capturable or half is not None:
        rates = torch.tensor([group["lr"] for group in groups], device=next(model.parameters()).device)
        groups = [group | {"lr": rate} for group, rate in zip(groups, rates.unbind(), strict=True)]
    optimizer = (torch.optim.AdamW if half is None else ClippingAdamW)(
        groups,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=devices <= {"cpu", "cuda"},
        capturable=capturable,
    )
    if isinstance(optimizer, ClippingAdamW) and half is not None:
        optimizer.keep_copies(model, half)
    return optimizer


@final
class ClippingAdamW(torch.optim.AdamW):
    """AdamW that clips, updates, and writes half-precision copies of linear layers, in three launches.

    Needs a GPU with Triton that holds all weights. Its state has the form of AdamW's; all weights share one
    count of steps.
    """

    _layers: tuple[Linear, ...] = ()
    _tables: "Tables | None" = None
    _addresses: tuple[tuple[int, ...], Int64[Tensor, " N"]] | None = None
    """Addresses of the gradients in the last step that was not recorded, and the same on the device."""

    _unwritten: tuple[Int64[Tensor, " N"], tuple[int, ...]] | None = None
    """The same of the step being recorded: its table, `_spare`, is written after the recording."""

    _spare: Int64[Tensor, " N"]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As AdamW's own, without the decorator that imports PyTorch's compiler: it takes seconds."""
        unwrap(torch.optim.AdamW.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As AdamW's own, without that decorator."""
        unwrap(torch.optim.AdamW.zero_grad)(self, set_to_none)

    def keep_copies(self, model: DistilBert, half: torch.dtype) -> None:
        """Let the model's linear layers train with copies in this format, which each update writes."""
        self._written: list[Tensor] = []
        self._layers = tuple(layer for layer in model.modules() if isinstance(layer, Linear))
        for layer in self._layers:
            layer.copies = HalfWeights(layer.weight.detach().to(half), layer.bias.detach().to(half))

    @torch.no_grad()
    def renew_copies(self) -> None:
        """Write the copies anew, after other weights were loaded."""
        for layer in self._layers:
            for copy, weight in zip(layer.copies or (), (layer.weight, layer.bias), strict=True):
                copy.copy_(weight)

    def drop_copies(self) -> None:
        """Free the copies; the layers compute with their weights again."""
        for layer in self._layers:
            layer.copies = None
        self._layers = ()

    def clip_and_step(self, limit: float) -> Float[Tensor, ""]:
        """Scale the gradients down to the norm `limit` and update; returns their norm before."""
        from wirebert.model.kernels.adamw import clip_and_update  # needs Triton

        self._tables = self._tables or self._make_tables()
        gradients = (moments.weight.grad for moments in self._tables.moments)
        addresses = tuple(0 if gradient is None else gradient.data_ptr() for gradient in gradients)
        settings = self.param_groups[0]
        is_aligned = all(address % 16 == 0 for address in addresses)
        return clip_and_update(
            *(self._tables, self._on_device(addresses)),
            limit=limit,
            betas=settings["betas"],
            eps=settings["eps"],
            is_aligned=is_aligned,
        )

    def finish_recording(self) -> None:
        """Write the table of a recorded step, before it is replayed for the first time."""
        if self._unwritten is not None:
            table, addresses = self._unwritten
            table.copy_(torch.tensor(addresses))
            self._written.append(table)  # a recorded step reads it
            self._spare, self._unwritten = torch.empty_like(table), None

    def _on_device(self, addresses: tuple[int, ...]) -> Int64[Tensor, " N"]:
        if torch.cuda.is_current_stream_capturing():
            # Not allocated here, where earlier kernels of the recorded step use the same memory.
            self._unwritten = self._spare, addresses
            return self._spare
        if self._addresses is None or self._addresses[0] != addresses:
            pinned = torch.tensor(addresses).pin_memory()  # so that the copy does not wait for the device
            table = pinned.to(self.param_groups[0]["lr"].device, non_blocking=True)
            self._addresses, self._spare = (addresses, table), torch.empty_like(table)
        return self._addresses[1]

    def _make_tables(self) -> "Tables":
        from wirebert.model.kernels.adamw import Moments, Tables  # needs Triton

        halves: dict[Tensor, Tensor] = {}
        for layer in self._layers:
            halves |= zip((layer.weight, layer.bias), layer.copies or (), strict=True)
        step = next((state["step"] for state in self.state.values()), torch.zeros(()))
        step = step.to(self.param_groups[0]["lr"].device)
        moments: list[Moments] = []
        for place, group in enumerate(self.param_groups):
            for weight in group["params"]:
                state = self.state[weight]
                for name in ("exp_avg", "exp_avg_sq"):
                    state.setdefault(name, torch.zeros_like(weight))
                state["step"] = step
                own = weight, state["exp_avg"], state["exp_avg_sq"]
                moments.append(Moments(*own, halves.get(weight), place))
        decays = [group["weight_decay"] for group in self.param_groups]
        return Tables(moments, step, torch.tensor(decays), [group["lr"] for group in self.param_groups])


def schedule_share(step: int, num_steps: int, config: TrainConfig) -> float:
    """Learning rate of update `step` (counted from 0) as a fraction of the peak, in (0, 1].

    A pure function of the step, so resuming needs no scheduler state. The warm-up is linear and starts above
    0; the fraction would reach 0 one update after the last.

    >>> config = TrainConfig(warmup_fraction=0.2)
    >>> [round(schedule_share(step, 10, config), 3) for step in range(10)]
    [0.333, 0.667, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    """
    num_warmup = round(num_steps * config.warmup_fraction)
    if step < num_warmup:
        return (step + 1) / (num_warmup + 1)
    done = min(1.0, (step - num_warmup) / max(1, num_steps - num_warmup))
    return (1 + cos(pi * done)) / 2 if config.schedule == "cosine" else 1 - done


def learning_rates(step: int, num_steps: int, config: TrainConfig) -> tuple[float, float]:
    """Learning rates of backbone and classifier for update `step`, counted from 0."""
    backbone = config.peak_lr * schedule_share(step, num_steps, config)
    return backbone, backbone * config.classifier_lr_multiplier
