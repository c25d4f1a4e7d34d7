from typing import Any

import pytest

from wirebert.data.config import DataConfig
from wirebert.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"delimiter": "::"}, r"data\.delimiter must be one ASCII character, got '::'"),
        ({"quote": "ab"}, r"data\.quote must be one ASCII character or empty, got 'ab'"),
        ({"escape": " "}, r"data\.escape must be"),
        ({"delimiter": ",", "quote": ","}, r"data\.delimiter must differ"),
        ({"skip_lines": -1}, r"data\.skip_lines must be at least 0, got -1"),
        ({"footer_lines": -1}, r"data\.footer_lines must be at least 0, got -1"),
        ({"min_class_rows": 0}, r"data\.min_class_rows must be at least 1"),
        ({"test_fraction": 0.6}, r"data\.test_fraction must be in \[0, 0\.5\], got 0\.6"),
        ({"split": "group"}, r"data\.split=group needs data\.group_column"),
        ({"split": "leave_attack_out"}, r"needs data\.left_out_class"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        DataConfig(**settings)


def test_an_empty_quote_means_none():
    assert DataConfig(quote="", escape="", comment="").quote == ""
