"""wirebert trains DistilBERT to detect intrusions in network traffic.

Names of the Python library are imported when they are first used, so that `import wirebert` takes no time and
commands do not load what they do not need. `__init__.pyi` tells type checkers what they are.
"""

import importlib
from typing import Final

__version__ = "0.1.0"

_PUBLIC: Final = {
    "open": "wirebert.api.traffic:open_traffic",
    "inspect": "wirebert.api.training:inspect",
    "train": "wirebert.api.training:train",
    "compare": "wirebert.api.training:compare",
    "load": "wirebert.api.detector:load",
    "Detector": "wirebert.api.detector:Detector",
    "Evaluation": "wirebert.api.evaluation:Evaluation",
    "Traffic": "wirebert.api.traffic:Traffic",
    "WirebertClassifier": "wirebert.api.classifier:WirebertClassifier",
    "UserError": "wirebert.errors:UserError",
    "FindingWarning": "wirebert.errors:FindingWarning",
}
"""Public name -> where it is defined. A name that is not here may change in any version."""

_TRAINING: Final = ("wirebert.api.training", "wirebert.api.classifier")
"""Modules that import PyTorch."""

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'wirebert' has no attribute {name!r}")
    module, _, own = _PUBLIC[name].partition(":")
    if module in _TRAINING:
        importlib.import_module("wirebert.telemetry.threads").import_pytorch()
    value = getattr(importlib.import_module(module), own)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
