"""Sharded weights (FSDP2): each rank holds a part of every tensor, for models that do not fit one GPU.

A block's weights are put together just before it computes and let go after. Outside of that a sharded tensor
is whole on no rank; checkpoints gather it first.

FSDP is imported where it is used: it takes most of a second, which a process alone is spared.

Source: Zhao et al., "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel", VLDB 2023, section 3.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Final, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor

from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.process_group import Communicator

BYTES_PER_WEIGHT: Final = 20
"""Weight, gradient, gradients added up, and two moments of AdamW."""
MAX_WEIGHT_FRACTION: Final = 0.6
"""Fraction of a GPU's memory that these may take; the rest is for activations."""


def choose_parallel(
    config: TrainConfig, model: DistilBert, device: torch.device, world: Communicator
) -> Literal["ddp", "fsdp"]:
    """Whether each rank holds all weights or a part of them."""
    if world.size == 1:
        return "ddp"
    if config.parallel != "auto":
        return config.parallel
    if device.type == "cpu":
        return "ddp"
    size_bytes = BYTES_PER_WEIGHT * sum(weight.numel() for weight in model.parameters())
    room = world.all_reduce_min(torch.cuda.mem_get_info(device)[1])
    return "fsdp" if size_bytes > MAX_WEIGHT_FRACTION * room else "ddp"


def sharded(model: DistilBert, device: torch.device) -> DistilBert:
    """A copy of the model on `device` of which each rank holds a part; the model itself stays as it is.

    Gradients are added up over the ranks, not averaged: a micro-batch's loss is divided by the weight of the
    whole step.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    model = deepcopy(model)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in (*model.layer, model):  # block by block, so that the device never holds the whole model
        fully_shard(part, mesh=mesh)
        assert isinstance(part, FSDPModule)
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)
    register_fsdp_forward_method(model, "forward_packed")
    return model


def whole(tensor: Tensor) -> Tensor:
    """The tensor put together from all ranks' parts, to be called by all; others are left as they are."""
    if not dist.is_initialized():
        return tensor.detach()
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def part_like(own: Tensor, tensor: Tensor) -> Tensor:
    """This rank's part of a whole tensor, cut as `own` is; the tensor itself if that is whole."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(own, DTensor) or tensor.dim() == 0:  # AdamW's number of steps is everyone's
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_weights(model: DistilBert, weights: Mapping[str, Tensor]) -> None:
    """Give the model these whole weights.

    Raises:
        RuntimeError: they are of a model of another shape.
    """
    own = cast("Mapping[str, Tensor]", model.state_dict())
    parts = {
        name: part_like(own[name], weight) if name in own else weight for name, weight in weights.items()
    }
    model.load_state_dict(parts)
