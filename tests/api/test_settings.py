"""Settings by name."""

from dataclasses import fields, is_dataclass

import pytest

from wirebert.api.settings import nested_settings, setting_names
from wirebert.config import RunConfig
from wirebert.errors import ConfigError


def test_no_two_sections_have_a_setting_of_the_same_name():
    sections = [getattr(RunConfig(), field.name) for field in fields(RunConfig)]
    names = [field.name for section in sections if is_dataclass(section) for field in fields(section)]
    assert len(set(names)) == len(names)
    assert set(names) <= set(setting_names())


def test_a_setting_and_its_section_go_together():
    nested = nested_settings({"epochs": 2, "training": {"batch_size": 8}})
    assert nested == {"training": {"epochs": 2, "batch_size": 8}}


def test_an_unknown_setting_is_told_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'batch_size'"):
        nested_settings({"batchsize": 3})
