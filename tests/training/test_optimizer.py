import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.optimizer import learning_rates, make_optimizer, schedule_share


def test_every_parameter_is_in_the_group_its_name_says(make_model: Callable[..., DistilBert]):
    model = make_model()
    backbone, classifier = make_optimizer(model, TrainConfig(learning_rate=1e-4)).param_groups
    assert (backbone["lr"], backbone["weight_decay"]) == (1e-4, 0.01)
    assert (classifier["lr"], classifier["weight_decay"]) == (pytest.approx(1e-3), 0.0)
    in_backbone = {id(parameter) for parameter in backbone["params"]}
    in_classifier = {id(parameter) for parameter in classifier["params"]}
    for name, parameter in model.named_parameters():
        is_classifier = name.startswith(("pre_classifier.", "classifier."))
        assert (id(parameter) in in_classifier) == is_classifier, name
        assert (id(parameter) in in_backbone) == (not is_classifier), name
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {
        *("embeddings", "layer", "pre_classifier", "classifier")
    }


def test_no_parameter_is_in_a_group_twice(make_model: Callable[..., DistilBert]):
    model = make_model()
    groups = make_optimizer(model, TrainConfig(learning_rate=3e-4)).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_frozen_parameters_are_in_no_group(make_model: Callable[..., DistilBert]):
    model = make_model()
    frozen = [model.classifier.bias, model.embeddings.position_embeddings.weight]
    for parameter in frozen:
        parameter.requires_grad_(False)
    grouped = {
        id(p)
        for group in make_optimizer(model, TrainConfig(learning_rate=3e-4)).param_groups
        for p in group["params"]
    }
    assert not grouped & {id(parameter) for parameter in frozen}
    assert len(grouped) == len(list(model.parameters())) - 2


def test_update_is_adamw_with_the_settings(make_model: Callable[..., DistilBert]):
    """One step worked out by hand: Adam's first update is lr * sign(gradient), after the weight decay."""
    model = make_model()
    weight, head = model.layer[0].get_parameter("lin1.weight"), model.classifier.weight
    before, head_before = weight.detach().clone(), head.detach().clone()
    optimizer = make_optimizer(model, TrainConfig(learning_rate=0.1, weight_decay=0.5))
    weight.grad, head.grad = torch.full_like(weight, 3.0), torch.full_like(head, -2.0)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before * (1 - 0.1 * 0.5) - 0.1)
    torch.testing.assert_close(head.detach(), head_before + 1.0)


def test_linear_schedule_climbs_and_falls_in_equal_parts():
    config = TrainConfig(learning_rate=3e-4, warmup_fraction=0.2, schedule="linear")
    shares = [schedule_share(step, 10, config) for step in range(11)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0])


def test_cosine_schedule_is_half_way_down_at_half_time():
    config = TrainConfig(learning_rate=3e-4, warmup_fraction=0.0, schedule="cosine")
    assert schedule_share(0, 8, config) == 1
    assert schedule_share(4, 8, config) == pytest.approx(0.5)
    assert schedule_share(8, 8, config) == pytest.approx(0)


def test_classifier_rate_is_ten_times_the_backbone_rate_at_every_step():
    config = TrainConfig(learning_rate=3e-4)
    for step in range(100):
        backbone, classifier = learning_rates(step, 100, config)
        assert classifier == pytest.approx(10 * backbone)


def test_the_optimizer_of_a_gpu_does_without_the_compiler_of_pytorch():
    """Importing it takes seconds of each training, for a decorator that has nothing to do."""
    program = """
import sys
import torch
from wirebert.model.config import ModelConfig, resolve
from wirebert.model.distilbert import DistilBert
from wirebert.training.config import TrainConfig
from wirebert.training.optimizer import ClippingAdamW, make_optimizer

model = DistilBert(resolve(ModelConfig(size="mini"), vocab_size=50, num_classes=2))
optimizer = make_optimizer(model, TrainConfig(learning_rate=1e-3), half=torch.bfloat16)
assert isinstance(optimizer, ClippingAdamW)
model.classifier.weight.grad = torch.ones_like(model.classifier.weight)
optimizer.zero_grad()
assert model.classifier.weight.grad is None
assert "torch._dynamo" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
