"""The interface of inference backends, and opening one by the name of its engine.

A backend gives a row the same logits whatever other rows are in the batch, up to rounding, so equal rows are
scored once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import ArtifactError, ConfigError
from wirebert.inference.artifact import Artifact
from wirebert.inference.engines import ENGINES, Engine
from wirebert.model.config import Precision
from wirebert.shapes import Float32


@runtime_checkable
class Backend(Protocol):
    """Scores encoded flows; several threads may share one.

    Its class has a method `open(engine, artifact, options)`. It raises an ArtifactError if the export gives
    other scores on this machine, and a ConfigError if a package is missing.
    """

    @property
    def name(self) -> str:
        """The name of its engine."""
        ...

    def logits(self, flows: JaggedRows) -> Float32[np.ndarray, "flows classes"]:
        """Class logits of every flow, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Options of inference; each engine reads those that it supports."""

    device: str = "cpu"
    precision: Literal["auto"] | Precision = "auto"
    """Numeric precision of PyTorch's matrix products."""
    threads: int | None = None
    """CPU threads; None: all."""
    max_tokens: int | None = None
    """Slots of a batch in PyTorch; None: chosen for the device."""
    on_rejection: Callable[[str, str], None] = lambda _name, _reason: None
    """Called with the name of an engine or precision that `auto` does not use, and the reason."""


def open_backend(name: str, artifact: Artifact, options: EngineOptions) -> Backend:
    """The backend of this name, or for `auto` the cascade, or the fastest export that matches PyTorch here.

    Raises:
        ArtifactError: the export is damaged, or gives other scores on this machine.
        ConfigError: there is no such engine or export, it cannot use the device, or a package is missing.
    """
    if name != "auto":
        if name not in ENGINES:
            raise ConfigError(f"--backend must be auto or one of {', '.join(ENGINES)}, got {name!r}")
        _check_export(ENGINES[name], artifact)
        return _open(ENGINES[name], artifact, options)
    reasons: dict[str, str] = {}
    for engine in ENGINES.values():
        if not _runs_on(engine, options.device):
            continue
        if engine.file is not None and engine.name not in artifact.exports:
            continue
        _check_export(engine, artifact)  # a damaged file is an error, not a reason to use another engine
        try:
            return _open(engine, artifact, options)
        except (ArtifactError, ConfigError) as error:
            if engine.file is None:
                if not reasons:
                    raise
                raise ConfigError(f"{error}; {'; '.join(reasons.values())}") from error
            reasons[engine.name] = str(error)
            options.on_rejection(engine.name, str(error))
    raise ConfigError(f"no inference engine can use --device {options.device}; use --device auto")


def require_finite(
    logits: Float32[np.ndarray, "flows classes"], engine: str
) -> Float32[np.ndarray, "flows classes"]:
    """The logits; an ArtifactError if one is not finite. NaN would raise no alert, so it must not pass."""
    if not np.isfinite(logits).all():
        raise ArtifactError(
            f"the model gives scores that are not finite ({engine}); its weights are damaged: copy the model "
            "folder again or train again"
        )
    return logits


def _open(engine: Engine, artifact: Artifact, options: EngineOptions) -> Backend:
    if engine.file is not None and engine.name not in artifact.exports:
        raise ConfigError(
            f"--backend {engine.name}: the model folder holds no such export; write one with "
            f"`{engine.export_command}`"
        )
    if not _runs_on(engine, options.device):
        raise ConfigError(
            f"--backend {engine.name} computes on {', '.join(engine.devices)}, got --device "
            f"{options.device}; "
            "leave one of the two out"
        )
    if engine.file is not None and not artifact.exports[engine.name].is_current:
        raise ArtifactError(
            f"{artifact.exports[engine.name].path}: was made from other weights than those beside it; write "
            f"it again with `{engine.export_command}`"
        )
    module, _, name = engine.backend.partition(":")
    try:
        Implementation = getattr(import_module(module), name)
    except ImportError as error:
        raise ConfigError(
            f"--backend {engine.name} needs {engine.title}, which is not installed ({error}); install it "
            "with `pip install 'wirebert[train]'`, or use a model folder with an export that "
            "`wirebert export` wrote"
        ) from error
    return Implementation.open(engine, artifact, options)


def _check_export(engine: Engine, artifact: Artifact) -> None:
    if engine.file is not None and engine.name in artifact.exports:
        artifact.exports[engine.name].check()


def _runs_on(engine: Engine, device: str) -> bool:
    return device.partition(":")[0] in engine.devices
