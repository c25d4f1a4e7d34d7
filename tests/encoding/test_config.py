from typing import Any

import pytest

from wirebert.encoding.config import EncodingConfig
from wirebert.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_bins": 0}, r"encoding\.num_bins must be in \[1, 255\], got 0"),
        ({"num_bins": 256}, r"encoding\.num_bins"),
        ({"max_categories": 0}, r"encoding\.max_categories must be at least 1, got 0"),
        ({"max_text_tokens": 0}, r"encoding\.max_text_tokens"),
        ({"subword_vocab_size": 255}, r"encoding\.subword_vocab_size"),
        ({"max_length": 513}, r"encoding\.max_length"),
        ({"vocabulary": "extend"}, r"encoding\.wordpieces"),
        ({"networks": ("10.0.0.0/99",)}, r"encoding\.networks .*'10\.0\.0\.0/99'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        EncodingConfig(**wrong)
