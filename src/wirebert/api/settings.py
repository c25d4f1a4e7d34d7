"""Keyword arguments -> the settings of a run: single settings by name, or whole sections."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import cast

from wirebert.config import RunConfig
from wirebert.data.schema.schema import missing_name
from wirebert.errors import ConfigError
from wirebert.serialization import merge


def nested_settings(given: Mapping[str, object]) -> dict[str, object]:
    """The settings under their sections; those that are None are left out.

    Raises:
        ConfigError: there is no setting of this name.

    >>> nested_settings({"epochs": 3, "size": "mini", "data": {"block_mb": 1}, "seed": 2, "label": None})
    {'training': {'epochs': 3}, 'model': {'size': 'mini'}, 'data': {'block_mb': 1}, 'seed': 2}
    >>> nested_settings({"epoch": 3})
    Traceback (most recent call last):
    wirebert.errors.ConfigError: there is no setting 'epoch', did you mean 'epochs'? known: label, ...
    """
    section_of = setting_names()
    nested: dict[str, object] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in section_of:
            raise ConfigError(missing_name("setting", name, section_of))
        section = section_of[name]
        nested = merge(nested, {section: {name: value}} if section else {name: value})
    return nested


def setting_names() -> dict[str, str]:
    """Setting -> its section; sections, and settings of none, are at the end and have ''.

    No two sections have a setting of the same name, but that of the text encoding is a section too.
    """
    run = RunConfig()
    sections: dict[str, str] = {}
    for field in fields(run):
        section = cast(object, getattr(run, field.name))
        if is_dataclass(section):
            sections |= {setting.name: field.name for setting in fields(section)}
    return sections | {field.name: "" for field in fields(run) if field.name not in ("train", "test")}
