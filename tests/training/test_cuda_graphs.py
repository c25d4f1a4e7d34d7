"""Recorded steps against the same steps run one kernel at a time; needs a CUDA GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.distillation import SoftTargets
from wirebert.training.feeding import LabelledFlows, steps
from wirebert.training.loop import TrainState, train
from wirebert.training.memory import fit_into_memory
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU", allow_module_level=True)

MakeFlows = Callable[..., LabelledFlows]
CONFIG = TrainConfig(epochs=40, batch_size=32, learning_rate=1e-3, device="cuda")


def trained(
    flows: LabelledFlows,
    num_steps: int,
    *,
    dropout: float = 0.0,
    soft: SoftTargets | None = None,
    world: Communicator = SINGLE_RANK,
    **settings: object,
) -> TrainState:
    architecture = Architecture(
        vocab_size=1000,
        num_classes=int(flows.class_ids.max()) + 1,
        dim=64,
        num_layers=2,
        num_heads=2,
        hidden_dim=128,
        dropout=dropout,
        attention_dropout=dropout,
        head_dropout=dropout,
    )
    model = DistilBert(architecture, generator=torch.Generator().manual_seed(0))
    config = replace(CONFIG, **settings)  # pyright: ignore[reportArgumentType]
    counts = np.bincount(flows.class_ids)
    state = TrainState.start(
        model, config, seed=3, num_steps=400, class_counts=counts, world=world, soft=soft
    )
    teacher_log_probs = None if soft is None else soft.log_probabilities
    for step in train(state, steps(flows, config, seed=3, teacher_log_probs=teacher_log_probs)):
        if step.index == num_steps:
            break
    return state


def weights(state: TrainState) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in state.model.parameters()])


def test_recorded_steps_move_the_weights_as_others_do(make_flows: MakeFlows):
    flows = make_flows(300)
    recorded = trained(flows, 40, precision="fp32")
    plain = trained(flows, 40, precision="fp32", cuda_graphs=False)
    assert recorded.graphs is not None
    assert plain.graphs is None
    torch.testing.assert_close(weights(recorded), weights(plain), atol=1e-5, rtol=1e-4)


def test_recorded_steps_learn_from_a_teacher_as_others_do(make_flows: MakeFlows):
    flows = make_flows(300)
    said = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    soft = SoftTargets(log_probabilities=said, temperature=2.0, teacher_weight=0.7)
    recorded = trained(flows, 40, soft=soft, precision="fp32")
    plain = trained(flows, 40, soft=soft, precision="fp32", cuda_graphs=False)
    alone = trained(flows, 40, precision="fp32")
    torch.testing.assert_close(weights(recorded), weights(plain), atol=1e-5, rtol=1e-4)
    assert (weights(recorded) - weights(alone)).abs().max() > 1e-3


def test_recorded_steps_draw_the_dropout_that_their_seed_says(make_flows: MakeFlows):
    one, other = (weights(trained(make_flows(300), 30, dropout=0.3)) for _ in range(2))
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize(("dropout", "differ"), [(0.3, True), (0.0, False)])
def test_a_recorded_step_draws_new_dropout_each_time(make_flows: MakeFlows, dropout: float, differ: bool):
    """One batch again and again, at a learning rate that moves nothing."""
    flows = make_flows(32)
    still: dict[str, Any] = {"learning_rate": 1e-30, "weight_decay": 0.0, "precision": "fp32"}
    state = trained(flows, 3, dropout=dropout, **still)
    feed = steps(flows, replace(CONFIG, **still), seed=3, first_step=3)
    losses = [float(step.loss) for step in train(state, feed)]
    assert (np.ptp(losses[:10]) > 1e-3) == differ


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cuda_graphs": False},
        {"cuda_graphs": False, "micro_batch_tokens": 100},
        {"cuda_graphs": False, "precision": "fp16"},
    ],
    ids=str,
)
def test_steps_do_not_wait_for_the_device(make_flows: MakeFlows, settings: dict[str, Any]):
    flows = make_flows(320)
    state = trained(flows, 30, dropout=0.1, **settings)
    assert (state.graphs is None) == (settings != {})
    config = replace(CONFIG, **settings)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in train(state, steps(flows, config, seed=3, first_step=30)):
            if step.index == 90:
                break
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_that_runs_out_halves_the_micro_batch_and_plays_the_step_again(make_flows: MakeFlows):
    flows = make_flows(300)
    whole = trained(flows, 6, precision="fp32")
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 6 * 2**20) / total)
    try:
        cut = trained(flows, 6, precision="fp32")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert cut.micro_batch_tokens > 0
    torch.testing.assert_close(weights(cut), weights(whole), atol=1e-5, rtol=1e-4)


def test_a_step_that_fits_is_not_cut(make_flows: MakeFlows):
    state = trained(make_flows(300), 1)
    fit_into_memory(state, mean_length=20.0)
    assert state.micro_batch_tokens == 0


def test_recorded_steps_of_a_rank_send_the_gradients_that_others_do_and_let_the_group_end(
    make_flows: MakeFlows, tmp_path: Path
):
    flows, world = make_flows(256), Communicator(0, 2)
    # The other rank's gradients are zeros: the group has one process.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        recorded, others = (trained(flows, 12, world=world, cuda_graphs=each) for each in (True, False))
        torch.testing.assert_close(weights(recorded), weights(others), rtol=0, atol=1e-5)
        recorded.close()
    finally:
        dist.destroy_process_group()
