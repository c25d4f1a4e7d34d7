import pytest

from wirebert.errors import ConfigError
from wirebert.training.surprisal_config import SurprisalConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_groups", 0),
        ("left_out_fraction", 0.5),
        ("left_out_fraction", -0.1),
        ("augmentation_factor", -1.0),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: float):
    with pytest.raises(ConfigError, match=rf"surprisal\.{name} must be .*, got {value}"):
        SurprisalConfig(**{name: value})  # pyright: ignore[reportArgumentType]
