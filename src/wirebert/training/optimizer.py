"""AdamW with separate learning rates for backbone and classifier, and their common schedule."""

from math import cos, pi
from typing import TypedDict

import torch
from torch import nn

from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig


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


def make_optimizer(model: DistilBert, config: TrainConfig, *, capturable: bool = False) -> torch.optim.AdamW:
    """AdamW over both groups, fused into one kernel where every parameter's device supports it.

    A `capturable` optimizer can be recorded in a CUDA graph; its learning rates are tensors on the device.
    """
    groups = [dict(group) for group in parameter_groups(model, config)]
    devices = {parameter.device.type for parameter in model.parameters()}
    if capturable:
        device = next(model.parameters()).device
        groups = [group | {"lr": torch.tensor(group["lr"], device=device)} for group in groups]
    return torch.optim.AdamW(
        groups,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=devices <= {"cpu", "cuda"},
        capturable=capturable,
    )


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
