"""The artifact: a folder that wirebert and stock `transformers` load alike.

| file | holds |
|---|---|
| `config.json`, `model.safetensors` | a stock DistilBERT for sequence classification |
| `tokenizer.json`, `tokenizer_config.json` | canonical text -> the same ids |
| `wirebert.json` | schema, encoders, classes, where it came from, and the sha256 of the files above |
| `novelty.safetensors` | training flows as points, if the model has a novelty reference |
| `model*.onnx` | exports: the same model for ONNX Runtime, and the small model of a cascade |
| `drift.safetensors` | distributions of features and scores, to notice drift, if there were enough flows |
| `README.md` | the model card, free to edit |

No file is a pickle, and none is parsed before its sha256 is checked. The large ones, weights and exports, are
checked and read on first use: scoring with an export reads no weights.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.calibration import LogitScaling
from wirebert.decision.drift import DriftReference
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import OperatingPoint
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ArtifactError, UserError
from wirebert.files import (
    MAX_TEXT_BYTES,
    atomic_folder,
    decode_json,
    previous_folder,
    read_json_file,
    write_atomic,
)
from wirebert.inference.engines import CASCADE, ENGINES
from wirebert.inference.sealing import (
    as_json,
    check_content,
    check_size,
    damaged,
    describe,
    plain_size,
    seal_of,
    sealed,
    unreadable,
)
from wirebert.inference.weights import LazyWeights, Weights, save_arrays
from wirebert.model.config import Architecture
from wirebert.run_folder import MANIFEST, model_name
from wirebert.serialization import from_builtins, to_builtins
from wirebert.untrusted_text import escape_control_chars

FORMAT_VERSION = 2
_WEIGHTS = "model.safetensors"
_STOCK_FILES = ("config.json", _WEIGHTS, "tokenizer.json", "tokenizer_config.json")
_NOVELTY = "novelty.safetensors"
_DRIFT = "drift.safetensors"
_EXPORT_FILES = frozenset(engine.file for engine in ENGINES.values() if engine.file is not None)
_SECTIONS = ("classes", "tokenizer", "origin", "files")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_OTHER_BYTES = 1 << 20
"""Bytes of the weights file beside the weights: names and shapes."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """The model in the format of another engine, in a file next to the weights."""

    path: Path
    about: Mapping[str, Any]
    """How well its scores match the weights, and rows to check them again on loading."""
    digest: Mapping[str, object]
    """Sha256 and size of the file, from the manifest."""
    is_current: bool
    """Whether it was made from the weights that lie beside it."""

    def check(self) -> None:
        """Raise an ArtifactError if the file is missing, truncated or changed."""
        check_content(self.path, self.digest)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A saved detector."""

    architecture: Architecture
    weights: Weights
    """Under Hugging Face's names, float32, column embeddings folded in. Read on first use, not on loading."""
    tokenizer: FlowTokenizer
    classes: ClassMap
    origin: Mapping[str, object] = field(default_factory=dict)
    """Provenance: wirebert version, settings, seed, fingerprint of the training data."""
    exports: Mapping[str, "Export"] = field(default_factory=dict)
    """Exports by engine. `save_artifact` does not write them: they are made from a saved artifact."""
    operating_point: OperatingPoint | None = None
    """Calibration and alert thresholds; None: nothing was fitted."""
    novelty: NoveltyScorer | None = None
    """Scores how unlike all training flows a flow is; None: the model has no novelty reference."""
    reference: DriftReference | None = None
    """Traffic on which its thresholds were set, to notice drift; None: there were too few flows."""
    sha256: str = ""
    """Names the model as it was loaded, without its exports; empty for one that was not saved."""
    name: str = ""
    """The folder that it was loaded from; for RUN/model the run."""
    saved: str = ""
    """Date on which that folder was written, as in 2026-01-31."""

    @property
    def schema(self) -> FlowSchema:
        """The columns it reads."""
        return self.tokenizer.schema

    @property
    def novelty_is_usable(self) -> bool:
        """Whether there are a novelty reference and thresholds."""
        operating = self.operating_point
        return bool(self.novelty is not None and operating and operating.novelty_thresholds)

    def scaled(self, scaling: LogitScaling, operating: OperatingPoint | None) -> "Artifact":
        """The artifact with scaled logits, at this operating point.

        Scale and bias go into the last layer, so stock `transformers` gives the same probabilities.
        """
        weight = self.weights["classifier.weight"].astype(np.float64) * scaling.scale[:, None]
        bias = self.weights["classifier.bias"].astype(np.float64) * scaling.scale + scaling.bias
        folded = {"classifier.weight": weight, "classifier.bias": bias}
        weights = {**self.weights, **{name: part.astype(np.float32) for name, part in folded.items()}}
        return replace(self, weights=weights, operating_point=operating)


def save_artifact(artifact: Artifact, folder: Path, *, card: str, with_exports: bool = False) -> list[str]:
    """Write the folder under a temporary name, then move it into place; an existing model folder is replaced.

    Args:
        with_exports: whether exports made from the artifact's weights are copied; their names are returned.

    Raises:
        ArtifactError: the folder holds something else, or cannot be written, or an export is damaged; nothing
            is changed.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and not _is_empty(folder):
        raise ArtifactError(
            f"{folder}: expected a new folder or a model folder to replace, found something else; choose "
            "another folder"
        )
    try:
        with atomic_folder(folder) as temporary:
            _write_files(artifact, temporary, card)
            return _copy_exports(artifact, temporary) if with_exports else []
    except (OSError, SafetensorError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ArtifactError(
            f"{folder}: the model cannot be written ({reason}); check the space and permissions there"
        ) from error


def write_card(folder: Path, card: str) -> None:
    """Write the model card into the model folder."""
    (folder / "README.md").write_text(escape_control_chars(card), encoding="utf-8")


def load_artifact(folder: Path) -> Artifact:
    """The artifact in `folder`, every file checked first.

    If a process was killed while it replaced the folder, the previous one is loaded.

    Raises:
        ArtifactError: a file is missing, truncated or changed (it is named), another version of wirebert
            wrote it, or it has no classes.
    """
    if not folder.exists() and previous_folder(folder).is_dir():
        folder = previous_folder(folder)
    manifest = _read_manifest(folder)
    _check_files(folder, manifest["files"])
    if not manifest["classes"].get("classes"):
        raise ArtifactError(
            f"{folder}: expected a detector, found a model without classes, which an earlier wirebert wrote; "
            "make a detector from the same traffic with `wirebert learn`"
        )
    try:
        config = cast(dict[str, Any], read_json_file(folder / "config.json"))
        architecture = Architecture.from_hugging_face(config, where=str(folder / "config.json"))
        _check_shape(folder, architecture, manifest)
        tokenizer, files = FlowTokenizer.from_dict(manifest["tokenizer"]), manifest["files"]
        return Artifact(
            architecture=architecture,
            weights=LazyWeights(path := folder / _WEIGHTS, partial(check_content, path, files[_WEIGHTS])),
            tokenizer=tokenizer,
            classes=from_builtins(ClassMap, {"benign": ..., **manifest["classes"]}),  # no default
            origin=manifest["origin"],
            exports=_read_exports(folder, manifest),
            operating_point=from_builtins(OperatingPoint, manifest["operating_point"])
            if "operating_point" in manifest
            else None,
            novelty=_read_novelty(folder, manifest),
            reference=DriftReference.of(load_file(folder / _DRIFT), tokenizer) if _DRIFT in files else None,
            sha256=_name_of(manifest),
            name=model_name(folder),
            saved=date.fromtimestamp((folder / MANIFEST).stat().st_mtime).isoformat(),
        )
    # The content is intact, so it was written by another version.
    except _UNREADABLE as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(
            f"{folder / MANIFEST}: expected a model of this version of wirebert, found another one "
            f"({error}); use wirebert {manifest['origin'].get('wirebert', '')}, which wrote it, or train "
            "again"
        ) from error


def _name_of(manifest: Mapping[str, Any]) -> str:
    """The sha256 of the manifest without exports, which give the same verdicts unless they are a cascade."""
    exports = {name: about for name, about in manifest.get("exports", {}).items() if name == CASCADE}
    same = _EXPORT_FILES - {about["file"] for about in exports.values()}
    files = {name: about for name, about in manifest["files"].items() if name not in same}
    return seal_of({**manifest, "files": files, "exports": exports})


_UNREADABLE = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError),
    *(SafetensorError, UserError),
)
"""What a parser raises on content of another form."""


def add_export(folder: Path, backend: str, content: bytes, about: Mapping[str, object]) -> Path:
    """Write an exported model into its model folder, replacing that backend's export; returns its path.

    Raises:
        ArtifactError: there is no model folder, or it cannot be written; its content is still intact.
    """
    manifest = _read_manifest(folder)
    name = ENGINES[backend].file
    if name is None:
        raise ArtifactError(f"{folder}: the inference engine {backend} reads the weights, and has no export")
    # Unlist a previous export first: a kill in between leaves an unlisted file, not a wrong one.
    exports = {other: entry for other, entry in manifest.get("exports", {}).items() if other != backend}
    files = {other: entry for other, entry in manifest["files"].items() if other != name}
    try:
        write_atomic(folder / MANIFEST, sealed({**manifest, "files": files, "exports": exports}).encode())
        write_atomic(folder / name, content)
        exports[backend] = {"file": name, "weights": manifest["files"][_WEIGHTS]["sha256"], **about}
        files[name] = describe(folder / name)
        write_atomic(folder / MANIFEST, sealed({**manifest, "files": files, "exports": exports}).encode())
    except OSError as error:
        raise ArtifactError(
            f"{folder}: the export cannot be written ({error.strerror}); check the space and permissions "
            "there"
        ) from error
    return folder / name


def _copy_exports(artifact: Artifact, folder: Path) -> list[str]:
    copied: list[str] = []
    for name, export in artifact.exports.items():
        if export.is_current:
            export.check()
            about = {key: value for key, value in export.about.items() if key not in ("file", "weights")}
            add_export(folder, name, export.path.read_bytes(), about)
            copied.append(name)
    return copied


def _read_exports(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Export]:
    exports: dict[str, Export] = {}
    for backend, entry in manifest.get("exports", {}).items():
        name = entry["file"]
        if name not in manifest["files"]:
            raise damaged(folder / MANIFEST, f"it does not list {name}")
        is_current = entry.get("weights") == manifest["files"][_WEIGHTS]["sha256"]
        exports[backend] = Export(
            path=folder / name, about=entry, digest=manifest["files"][name], is_current=is_current
        )
    return exports


def _read_novelty(folder: Path, manifest: Mapping[str, Any]) -> NoveltyScorer | None:
    if "novelty" not in manifest:
        return None
    if _NOVELTY not in manifest["files"]:
        raise damaged(folder / MANIFEST, f"it does not list {_NOVELTY}")
    return NoveltyScorer.of(manifest["novelty"]["codes"], load_file(folder / _NOVELTY))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _write_files(artifact: Artifact, folder: Path, card: str) -> None:
    config = artifact.architecture.to_hugging_face(artifact.classes.classes)
    (folder / "config.json").write_text(as_json(config), encoding="utf-8")
    save_arrays(artifact.weights, folder / _WEIGHTS, like=folder / "config.json")
    artifact.tokenizer.write_hugging_face(folder)
    write_card(folder, card)
    manifest: dict[str, object] = {
        "format": FORMAT_VERSION,
        "classes": {
            "classes": artifact.classes.classes,
            "label_map": dict(artifact.classes.label_map),
            "benign": artifact.classes.benign,
        },
        "tokenizer": artifact.tokenizer.to_dict(),
        "origin": dict(artifact.origin),
    }
    files: list[str] = [*_STOCK_FILES]
    if artifact.operating_point is not None:
        manifest["operating_point"] = to_builtins(artifact.operating_point)
    if artifact.novelty is not None:
        save_arrays(artifact.novelty.arrays, folder / _NOVELTY, like=folder / "config.json")
        manifest["novelty"] = {"codes": artifact.novelty.codes}
        files.append(_NOVELTY)
    if artifact.reference is not None:
        save_arrays(artifact.reference.arrays, folder / _DRIFT, like=folder / "config.json")
        files.append(_DRIFT)
    manifest["files"] = {name: describe(folder / name) for name in files}
    (folder / MANIFEST).write_text(sealed(manifest), encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise ArtifactError(
            f"{folder}: expected a model folder, found no {MANIFEST} in it; pass the model folder, e.g. "
            "runs/demo/model"
        )
    if plain_size(path) > MAX_TEXT_BYTES:
        raise damaged(path, f"it is larger than {MAX_TEXT_BYTES >> 20} MB")
    try:
        text = path.read_bytes().decode()
        manifest = decode_json(text)
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise damaged(path, "it is not JSON") from error
    if not isinstance(manifest, dict) or "format" not in manifest:
        raise damaged(path, "it names no format")
    if manifest["format"] != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: expected format version {FORMAT_VERSION}, found {manifest['format']!r}; "
            "use the wirebert that wrote it, or train again"
        )
    for name in _SECTIONS:
        if not isinstance(manifest.get(name), dict):
            raise damaged(path, f"it lacks {name!r}")
    manifest.pop("sha256", None)
    if text != sealed(manifest):
        raise damaged(path, "its content does not match its sha256")
    return manifest


def _check_files(folder: Path, files: Mapping[str, object]) -> None:
    for name in dict.fromkeys((*_STOCK_FILES, *files)):
        if not _FILE_NAME.fullmatch(name):  # no entry of a manifest may lead out of its folder
            raise damaged(folder / MANIFEST, f"it lists {name!r}, which is not a file name in it")
        path, expected = folder / name, files.get(name)
        if not isinstance(expected, Mapping):
            raise damaged(folder / MANIFEST, f"it does not list {name}")
        if name == _WEIGHTS or name in _EXPORT_FILES:
            check_size(path, expected)
            continue
        if path.suffix == ".json" and plain_size(path) > MAX_TEXT_BYTES:
            raise damaged(path, f"it is larger than {MAX_TEXT_BYTES >> 20} MB")
        check_content(path, expected)


def _check_shape(folder: Path, architecture: Architecture, manifest: Mapping[str, Any]) -> None:
    """Raise an ArtifactError unless the weights have the size of the architecture, before they are read."""
    size, least = manifest["files"][_WEIGHTS]["size_bytes"], 4 * architecture.num_parameters
    if not least <= size <= least + _MAX_OTHER_BYTES:
        raise damaged(
            folder / "config.json",
            f"it describes {architecture.num_parameters:,} weights, and {_WEIGHTS} has {size:,} bytes",
        )
