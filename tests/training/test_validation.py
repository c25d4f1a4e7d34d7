from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from wirebert.model import batches
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import LabelledFlows
from wirebert.training.loop import TrainState
from wirebert.training.parallel.process_group import SINGLE_RANK
from wirebert.training.parallel.strategy import Replicated, Sharded
from wirebert.training.validation import all_logits, all_masked_predictions, validate

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]


def state_of(model: DistilBert, **settings: object) -> TrainState:
    config = TrainConfig(epochs=1, learning_rate=1e-3, device="cpu", **settings)  # pyright: ignore[reportArgumentType]
    return TrainState.start(model, config, seed=1, num_steps=1, class_counts=np.array([90, 9, 1]))


def test_ranks_that_hold_parts_of_the_weights_never_halve_their_batches_alone(
    make_model: MakeModel, make_flows: MakeFlows, monkeypatch: pytest.MonkeyPatch
):
    calls: list[int] = []

    def too_much(*_: object) -> torch.Tensor:
        calls.append(1)
        raise torch.OutOfMemoryError

    flows = make_flows(50)
    state = state_of(make_model())
    monkeypatch.setattr(batches, "class_logits", too_much)
    monkeypatch.setattr(batches, "_fitting", {})
    state.strategy = Sharded(SINGLE_RANK)
    with pytest.raises(torch.OutOfMemoryError):
        all_logits(state, flows)
    assert len(calls) == 1
    state.strategy = Replicated(SINGLE_RANK)
    with pytest.raises(torch.OutOfMemoryError):
        all_logits(state, flows)
    assert len(calls) > 2


def test_loss_is_the_trainings_own(make_model: MakeModel, make_flows: MakeFlows):
    model, flows = make_model(), make_flows(50)
    plain = validate(state_of(model), flows)
    weighted = validate(state_of(model, class_weights="balanced"), flows)
    assert weighted.loss != plain.loss
    assert weighted.accuracy == plain.accuracy


def test_validating_draws_nothing_and_changes_no_weight(make_model: MakeModel, make_flows: MakeFlows):
    model = make_model(dropout=0.5)
    before, random = model.classifier.weight.clone(), torch.get_rng_state()
    first = validate(state_of(model), make_flows(50))
    assert validate(state_of(model), make_flows(50)) == first
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("num_asked", [0, 2], ids=["classes", "masked tokens"])
def test_flows_are_judged_in_the_number_format_of_the_training(
    make_model: MakeModel, make_flows: MakeFlows, num_asked: int
):
    shape, flows = make_model().architecture, make_flows(50)
    model = DistilBert(replace(shape, max_masked=num_asked))
    ids, last = flows.ids.copy(), flows.offsets[1:] - 1
    ids[last] += shape.vocab_size if num_asked else 0  # that shows a token masked
    seen: set[torch.dtype] = set()

    def note(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        seen.add(output.dtype)

    model.layer[0].register_forward_hook(note)
    judge = all_masked_predictions if num_asked else all_logits
    judge(state_of(model, precision="bf16"), replace(cast(Any, flows), ids=ids))
    assert seen == {torch.bfloat16}
