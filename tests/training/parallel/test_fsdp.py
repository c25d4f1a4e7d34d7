"""In a world of one process, where a part is the whole; `test_distributed` has two."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.parallel.fsdp import (
    choose_parallel,
    load_weights,
    part_like,
    sharded,
    whole,
)
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator

MakeModel = Callable[..., DistilBert]
CPU = torch.device("cpu")


@pytest.fixture
def _group() -> Iterator[None]:
    store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group")
def test_a_sharded_copy_computes_what_the_model_does(make_model: MakeModel):
    model = make_model().eval()
    ids = torch.arange(12).reshape(3, 4)
    torch.testing.assert_close(sharded(model, CPU).eval()(ids), model(ids))


@pytest.mark.usefixtures("_group")
def test_sharding_leaves_the_model_as_it_is(make_model: MakeModel):
    model = make_model()
    assert isinstance(sharded(model, CPU), FSDPModule)
    assert not isinstance(model, FSDPModule)
    assert all(type(weight) is torch.nn.Parameter for weight in model.parameters())


@pytest.mark.usefixtures("_group")
def test_whole_weights_go_into_parts_and_come_out_again(make_model: MakeModel):
    parts, other = sharded(make_model(), CPU), make_model(seed=7).state_dict()
    load_weights(parts, other)
    for name, weight in parts.state_dict().items():
        assert torch.equal(whole(weight), other[name])


@pytest.mark.usefixtures("_group")
def test_a_part_is_cut_as_the_one_that_it_replaces(make_model: MakeModel):
    own = next(sharded(make_model(), CPU).parameters())
    part = part_like(own, torch.ones(own.shape))
    assert type(part) is type(own.data)
    assert torch.equal(whole(part), torch.ones(own.shape))


def test_without_other_ranks_a_tensor_is_whole():
    tensor = torch.ones(3)
    assert torch.equal(whole(tensor), tensor)
    assert part_like(tensor, tensor) is tensor


def test_one_process_holds_all_weights_whatever_is_asked_for(make_model: MakeModel):
    config = TrainConfig(parallel="fsdp")
    assert choose_parallel(config, make_model(), CPU, SINGLE_RANK) == "ddp"
    assert choose_parallel(config, make_model(), CPU, Communicator(0, 2)) == "fsdp"
    assert choose_parallel(replace(config, parallel="auto"), make_model(), CPU, Communicator(0, 2)) == "ddp"
