from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from wirebert.errors import TrainingError
from wirebert.model.distilbert import DistilBert
from wirebert.model.linear import Linear
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import LabelledFlows, StepFlows, steps
from wirebert.training.loop import TrainState, TrainStep, train
from wirebert.training.parallel.gradient_sum import GradientSum
from wirebert.training.parallel.process_group import Communicator

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]


def start(model: DistilBert, flows: LabelledFlows, **settings: object) -> tuple[TrainState, list[StepFlows]]:
    plain = TrainConfig(epochs=5, batch_size=32, device="cpu", learning_rate=1e-3)
    config = replace(plain, **settings)
    feed = list(steps(flows, config, seed=1))
    counts = np.bincount(flows.class_ids, minlength=3)
    return TrainState.start(model, config, seed=1, num_steps=len(feed), class_counts=counts), feed


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.state_dict().items()}


def test_training_lowers_the_loss(make_model: MakeModel, make_flows: MakeFlows):
    state, feed = start(make_model(), make_flows(400), epochs=4, learning_rate=3e-3)
    losses = [float(step.loss) for step in train(state, feed)]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_first_loss_is_the_mean_over_the_flows(make_model: MakeModel, make_flows: MakeFlows):
    flows = make_flows(20)
    model = make_model()
    losses = []
    for row in range(20):
        ids = torch.from_numpy(flows.ids[flows.offsets[row] : flows.offsets[row + 1]].astype(np.int64))[None]
        target = torch.from_numpy(flows.class_ids[row : row + 1])
        losses.append(nn.functional.cross_entropy(model(ids), target).item())
    state, feed = start(model, flows)
    assert float(next(iter(train(state, feed))).loss) == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_cutting_a_step_into_micro_batches_changes_nothing(
    make_model: MakeModel, make_flows: MakeFlows, class_weights: str
):
    flows, whole, cut = make_flows(64), make_model(), make_model()
    step_of: list[TrainStep] = []
    for model, budget in ((whole, "whole"), (cut, 30)):
        state, feed = start(
            model, flows, batch_size=64, micro_batch_tokens=budget, class_weights=class_weights
        )
        step_of += list(train(state, feed[:1]))
    torch.testing.assert_close(step_of[0].loss, step_of[1].loss)
    torch.testing.assert_close(step_of[0].grad_norm, step_of[1].grad_norm)


def test_one_unasked_step_is_one_not_made(make_model: MakeModel, make_flows: MakeFlows):
    state, feed = start(make_model(), make_flows(100))
    for step in train(state, feed):
        if step.index == 2:
            break
    assert state.step == 2


def test_gradients_are_clipped_to_the_norm(make_model: MakeModel, make_flows: MakeFlows):
    seen: list[float] = []

    def note(optimizer: torch.optim.Optimizer, *_: object) -> None:
        parameters = [p.grad.norm() for group in optimizer.param_groups for p in group["params"]]
        seen.append(float(torch.stack(parameters).norm()))

    state, feed = start(make_model(), make_flows(64), max_grad_norm=0.01)
    state.optimizer.register_step_pre_hook(note)
    step = next(iter(train(state, feed)))
    assert float(step.grad_norm) > 0.01
    assert seen[0] == pytest.approx(0.01, rel=1e-3)


def test_dropout_of_a_step_depends_on_seed_and_step_alone(make_model: MakeModel, make_flows: MakeFlows):
    flows, losses = make_flows(32), []
    for disturbance in (0, 99):
        state, feed = start(make_model(dropout=0.5), flows)
        torch.manual_seed(disturbance)
        losses.append(next(iter(train(state, feed))).loss)
    assert torch.equal(*losses)


def test_bf16_keeps_weights_in_single_precision(make_model: MakeModel, make_flows: MakeFlows):
    state, feed = start(make_model(), make_flows(64), precision="bf16")
    assert all(torch.isfinite(step.loss) for step in train(state, feed))
    assert {weight.dtype for weight in state.model.parameters()} == {torch.float32}


def test_overflowed_fp16_steps_are_counted_and_change_no_weight(make_model: MakeModel, make_flows: MakeFlows):
    state, feed = start(make_model(), make_flows(64), precision="fp16", epochs=30)
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**40})
    before = weights(state.model)
    step = next(iter(train(state, feed)))
    assert not torch.isfinite(step.grad_norm)
    assert all(torch.equal(before[name], weight) for name, weight in weights(state.model).items())
    assert state.scaler.get_scale() == 2.0**39
    state.check_finite()  # an overflow is no failure
    *_, last = train(state, feed[1:])
    assert torch.isfinite(last.grad_norm)
    assert 1 <= state.step_metrics.read().num_overflows < 40


def test_loss_scale_that_falls_without_end_stops_with_a_sentence(
    make_model: MakeModel, make_flows: MakeFlows
):
    state, _ = start(make_model(), make_flows(64), precision="fp16")
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**-11})
    with pytest.raises(TrainingError, match="overflow even at loss scale"):
        state.check_finite()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_loss_that_is_not_finite_names_step_rate_and_way_out(
    make_model: MakeModel, make_flows: MakeFlows, precision: str
):
    state, feed = start(make_model(), make_flows(128), precision=precision)
    for step in train(state, feed):
        if step.index == 2:
            with torch.no_grad():
                state.model.classifier.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"step 3: .* at learning rate .*lower training\.learning_rate"):
        state.check_finite()


def test_memory_that_runs_out_halves_the_micro_batch_and_plays_the_step_again(
    make_model: MakeModel, make_flows: MakeFlows
):
    flows, undisturbed_model, model = make_flows(64), make_model(), make_model()
    state, feed = start(undisturbed_model, flows, micro_batch_tokens=100)
    list(train(state, feed))

    calls: list[int] = []

    def run_out_once(_module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        calls.append(args[0].numel())
        if (
            len(calls) == 3
        ):  # in the middle of the first step: gradients of two micro-batches are there already
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    model.register_forward_pre_hook(run_out_once)
    state, feed = start(model, flows, micro_batch_tokens=100)
    list(train(state, feed))
    assert state.micro_batch_tokens == 50
    assert max(calls[3:]) <= 50
    for name, weight in weights(model).items():
        torch.testing.assert_close(weight, undisturbed_model.state_dict()[name], rtol=1e-4, atol=1e-6)


def test_flow_that_does_not_fit_alone_stops_with_a_sentence(make_model: MakeModel, make_flows: MakeFlows):
    model = make_model()

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(run_out)
    state, feed = start(model, make_flows(64))
    with pytest.raises(TrainingError, match="memory ran out with a single flow"):
        next(iter(train(state, feed)))


def test_a_device_that_others_have_filled_is_told_with_ways_out(
    make_model: MakeModel, make_flows: MakeFlows, monkeypatch: pytest.MonkeyPatch
):
    model = make_model()

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore of it.")

    monkeypatch.setattr(model, "to", run_out)
    with pytest.raises(TrainingError) as caught:
        start(model, make_flows(64))
    assert str(caught.value) == (
        "cpu has no memory left for the weights, perhaps because of other programs; end them (`nvidia-smi` "
        "shows them), choose another GPU with CUDA_VISIBLE_DEVICES, or set training.device=cpu (CUDA out of "
        "memory. Tried to allocate 20.00 MiB.)"
    )


def test_a_closed_training_leaves_no_buffer_at_the_layers(make_model: MakeModel, make_flows: MakeFlows):
    state, _ = start(make_model(), make_flows(64))
    state.gradient_sum = GradientSum(state.model.parameters(), Communicator(0, 2))
    state.gradient_sum.attach(state.model)
    layers = [layer for layer in state.model.modules() if isinstance(layer, Linear)]
    assert all(layer.gradient_room is not None for layer in layers)
    state.close()
    assert all(layer.gradient_room is None for layer in layers)


def test_totals_are_means_over_flows_and_then_start_over(make_model: MakeModel, make_flows: MakeFlows):
    state, feed = start(make_model(), make_flows(40), epochs=1)  # steps of 32 and 8 flows
    first, second = train(state, feed)
    totals = state.step_metrics.read()
    assert (totals.num_steps, totals.num_flows) == (2, 40)
    assert totals.loss == pytest.approx((32 * float(first.loss) + 8 * float(second.loss)) / 40)
    assert state.step_metrics.read().num_flows == 0


class NumbersRead(TorchDispatchMode):
    """Counts what a GPU would have to be waited for: numbers that Python reads, and results whose size
    depends on numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.num_read = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        waits = (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select)
        self.num_read += func.overloadpacket in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("micro_batch_tokens", ["whole", 30])
def test_a_step_reads_no_number_but_the_weight_of_its_flows_which_the_processor_has(
    make_model: MakeModel, make_flows: MakeFlows, precision: str, micro_batch_tokens: object
):
    settings = {"precision": precision, "micro_batch_tokens": micro_batch_tokens}
    state, feed = start(make_model(dropout=0.1), make_flows(96), **settings)
    with NumbersRead() as numbers:
        counts = [numbers.num_read for _ in train(state, feed[:4])]
    assert counts == [1, 2, 3, 4]
