"""Sharded weights (FSDP2): each rank holds a part of every tensor, for models that do not fit one GPU.

A block's weights are gathered just before it computes and freed afterwards. Otherwise no rank holds a whole
sharded tensor; checkpoints gather it first.

FSDP is imported where it is used, since the import takes most of a second.

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
"""Weight, gradient, summed gradient, and two moments of AdamW."""
MAX_WEIGHT_FRACTION: Final = 0.6
"""Fraction of a GPU's memory for weights, gradients and moments; the rest is for activations."""


def choose_parallel(
    config: TrainConfig, model: DistilBert, device: torch.device, world: Communicator
) -> Literal["ddp", "fsdp"]:
    """ddp (each rank holds all weights) or fsdp (each holds a part), from the settings and the memory."""
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
    """This rank's part of a sharded copy of the model, on `device`; the model itself is unchanged.

    Gradients are summed over the ranks, not averaged: a micro-batch's loss is divided by the weight of the
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
    """The whole tensor, gathered from all ranks if it is sharded; all ranks must call this."""
    if not dist.is_initialized():
        return tensor.detach()
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.detach()


def part_like(own: Tensor, tensor: Tensor) -> Tensor:
    """This rank's part of a whole tensor, sharded like `own`; the tensor itself if `own` is not sharded."""
    if not dist.is_initialized():
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(own, DTensor) or tensor.dim() == 0:  # AdamW's step count is not sharded
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def load_weights(model: DistilBert, weights: Mapping[str, Tensor]) -> None:
    """Load whole weights into the model, which may be sharded.

    Raises:
        RuntimeError: they have other shapes than the model's.
    """
    state = cast("Mapping[str, Tensor]", model.state_dict())
    parts = {
        name: part_like(state[name], weight) if name in state else weight for name, weight in weights.items()
    }
    model.load_state_dict(parts)
