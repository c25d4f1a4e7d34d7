import numpy as np
import pytest
import torch

from wirebert.training.config import TrainConfig
from wirebert.training.losses import Objective

LOGITS = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
CLASS_IDS = torch.tensor([0, 0, 1])
COUNTS = np.array([90, 10])


def mean_loss(config: TrainConfig, counts: np.ndarray = COUNTS) -> float:
    objective = Objective.for_classes(counts, config)
    return float(objective.total(LOGITS, CLASS_IDS) / objective.weight(CLASS_IDS))


def test_plain_loss_is_the_mean_cross_entropy():
    losses = [np.log(1 + np.exp(-2)), np.log(2), np.log(1 + np.exp(-1))]
    assert mean_loss(TrainConfig()) == pytest.approx(np.mean(losses))


def test_balanced_weights_give_each_class_the_same_say():
    # Class 1 is nine times rarer, so its flow counts nine times.
    losses = [np.log(1 + np.exp(-2)), np.log(2), np.log(1 + np.exp(-1))]
    assert mean_loss(TrainConfig(class_weights="balanced")) == pytest.approx(
        np.average(losses, weights=[1, 1, 9])
    )
    assert mean_loss(TrainConfig(class_weights="sqrt")) == pytest.approx(
        np.average(losses, weights=[1, 1, 3])
    )


def test_class_without_training_flows_keeps_the_loss_finite():
    config = TrainConfig(class_weights="balanced")
    assert np.isfinite(mean_loss(config, np.array([100, 0])))


def test_weighted_loss_does_not_depend_on_how_the_step_is_cut():
    objective = Objective.for_classes(COUNTS, TrainConfig(class_weights="balanced"))
    parts = objective.total(LOGITS[:1], CLASS_IDS[:1]) + objective.total(LOGITS[1:], CLASS_IDS[1:])
    torch.testing.assert_close(parts, objective.total(LOGITS, CLASS_IDS))
