import pytest

from wirebert.errors import ConfigError
from wirebert.training.masking_config import MaskingConfig


def test_a_share_that_masks_all_or_nothing_is_refused():
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(ConfigError, match=r"masking\.mask_fraction must be in \(0, 1\)"):
            MaskingConfig(mask_fraction=share)
