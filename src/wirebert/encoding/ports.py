"""Destination ports with a named service, read from `ports.toml`."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

_TEXT = resources.files("wirebert.encoding").joinpath("ports.toml").read_text(encoding="utf-8")

SERVICES: Mapping[int, str] = MappingProxyType(
    {int(port): name for port, name in tomllib.loads(_TEXT).items()}
)
"""Port -> the service that usually answers there."""
