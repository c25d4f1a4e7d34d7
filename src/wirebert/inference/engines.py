"""The inference engines: one entry each, read by the detector, the export and the command line.

To add an engine, write a class with the methods of `wirebert.inference.backends.Backend` and add its entry
here. This module imports nothing heavy, because `--help` lists the engines.
"""

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How much the scores of an engine may differ from PyTorch in single precision."""

    same: float
    """The smallest accepted fraction of rows with the same class, and of rows with the same verdict."""
    mean_difference: float
    """The largest accepted mean difference of class probabilities."""
    max_difference: float = inf
    """The largest accepted difference of a class probability."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Engine:
    """An inference engine."""

    name: str
    """The value of `--backend`, and the name of its export in the manifest of a model folder."""
    title: str
    """Name in messages and help texts."""
    backend: str
    """`package.module:Class` of its `Backend`, imported when the engine is opened."""
    file: str | None = None
    """Name of the export that it reads from the model folder; None: it reads the weights."""
    export_command: str = ""
    """The command that writes the export."""
    bounds: Bounds | None = None
    """Parity with PyTorch that its export must reach; None: the scores are PyTorch's own, or of a cascade."""
    devices: tuple[str, ...] = ("cpu",)
    """Kinds of devices that it computes on."""


CASCADE: Final = "cascade"
"""The engine whose scores are not those of the weights alone: it has a second model."""

ENGINES: Final[dict[str, Engine]] = {
    engine.name: engine
    for engine in (
        Engine(
            name=CASCADE,
            title="Cascade of two models in ONNX Runtime",
            backend="wirebert.inference.cascade:CascadeBackend",
            file="model-small.onnx",
            export_command="wirebert calibrate MODEL LOGS --alerts-per-day N --cascade SMALL",
        ),
        Engine(
            name="onnx-int8",
            title="ONNX Runtime, 8 bit",
            backend="wirebert.inference.onnx_backend:OnnxBackend",
            file="model-int8.onnx",
            export_command="wirebert export MODEL --format onnx --int8",
            bounds=Bounds(same=0.98, mean_difference=0.01),
        ),
        Engine(
            name="onnx",
            title="ONNX Runtime",
            backend="wirebert.inference.onnx_backend:OnnxBackend",
            file="model.onnx",
            export_command="wirebert export MODEL --format onnx",
            bounds=Bounds(same=0.98, mean_difference=0.01, max_difference=1e-3),
        ),
        Engine(
            name="torch",
            title="PyTorch",
            backend="wirebert.inference.torch_backend:TorchBackend",
            devices=("cpu", "cuda"),
        ),
    )
}
"""By name. `auto` takes the first that can be opened: a cascade, then fastest first on a processor
(benchmarks/score.py)."""
