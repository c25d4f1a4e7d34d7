import pytest

from wirebert.errors import ConfigError
from wirebert.training.config import TrainConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -1),
        ("learning_rate", -0.1),
        ("learning_rate", float("nan")),
        ("warmup_fraction", 1.0),
        ("weight_decay", -0.1),
    ],
)
def test_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object):
    with pytest.raises(ConfigError, match=rf"training\.{name} must be .*, got {value!r}"):
        TrainConfig(**{name: value})  # pyright: ignore[reportArgumentType]  # wrong on purpose


@pytest.mark.parametrize(
    ("num_flows", "epochs"),
    [(1_000_000, 5), (113_376, 5), (51_200, 10), (256, 40)],
)
def test_few_flows_are_passed_more_often(num_flows: int, epochs: int):
    assert TrainConfig().resolved(num_flows=num_flows, width=768, is_pretrained=False).epochs == epochs


def test_learning_rate_falls_with_the_width_and_is_small_for_a_pretrained_model():
    rates = [
        TrainConfig().resolved(num_flows=1, width=width, is_pretrained=is_pretrained).learning_rate
        for width, is_pretrained in ((128, False), (256, False), (768, True))
    ]
    assert rates == pytest.approx([1e-3, 5e-4, 5e-5])


def test_settings_that_are_given_are_kept():
    given = TrainConfig(epochs=2, learning_rate=0.1)
    assert given.resolved(num_flows=1, width=128, is_pretrained=False) == given


def test_defaults_are_the_two_learning_rates_and_weight_decays():
    config = TrainConfig()
    assert (config.classifier_lr_multiplier, config.weight_decay, config.classifier_weight_decay) == (
        10.0,
        0.01,
        0.0,
    )


def test_settings_that_weigh_classes_against_their_frequency_say_so():
    assert TrainConfig(class_weights="sqrt").reweights_classes
    assert not TrainConfig().reweights_classes
