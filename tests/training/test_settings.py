import pytest

from wirebert.errors import ConfigError
from wirebert.training.settings import TrainConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("warmup_fraction", 1.0),
        ("weight_decay", -0.1),
    ],
)
def test_setting_that_makes_no_sense_is_refused_by_name(name: str, value: object):
    with pytest.raises(ConfigError, match=rf"training\.{name} must be .*, got {value!r}"):
        TrainConfig(**{name: value})  # pyright: ignore[reportArgumentType]  # wrong on purpose


def test_defaults_are_the_two_learning_rates_and_weight_decays():
    config = TrainConfig()
    assert (config.classifier_multiplier, config.weight_decay, config.classifier_weight_decay) == (
        10.0,
        0.01,
        0.0,
    )
