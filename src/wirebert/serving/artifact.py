"""The artifact: a folder that wirebert and stock `transformers` load alike.

| file | holds |
|---|---|
| `config.json`, `model.safetensors` | a stock DistilBERT for sequence classification |
| `tokenizer.json`, `tokenizer_config.json` | canonical text -> the same ids |
| `wirebert.json` | schema, encoders, classes, where it came from, and the sha256 of the files above |
| `README.md` | the model card; for people, who may amend it |

No file is a pickle, and none is read before its sha256 is checked.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file, save_file
from torch import Tensor

from wirebert.data.labels import ClassMap
from wirebert.data.schema import FlowSchema
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ArtifactError
from wirebert.model.distilbert import Architecture

FORMAT_VERSION = 1
MANIFEST = "wirebert.json"
_STOCK_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A trained detector at rest."""

    architecture: Architecture
    weights: Mapping[str, Tensor]
    """Under Hugging Face's names, float32, column embeddings folded in."""
    tokenizer: FlowTokenizer
    classes: ClassMap
    origin: Mapping[str, object] = field(default_factory=dict)
    """Where it came from: wirebert version, settings, seed, fingerprint of the training data."""

    @property
    def schema(self) -> FlowSchema:
        """The columns it reads."""
        return self.tokenizer.schema


def save_artifact(artifact: Artifact, folder: Path, *, card: str) -> None:
    """Write the folder beside its place and move it there whole; a folder already there is replaced."""
    aside = folder.with_name(folder.name + ".part")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    _write_json(aside / "config.json", artifact.architecture.to_hugging_face(artifact.classes.classes))
    save_file(dict(artifact.weights), aside / "model.safetensors", metadata={"format": "pt"})
    artifact.tokenizer.write_hugging_face(aside)
    write_card(aside, card)
    manifest: dict[str, object] = {
        "format": FORMAT_VERSION,
        "classes": {
            "classes": artifact.classes.classes,
            "label_map": dict(artifact.classes.label_map),
            "benign": artifact.classes.benign,
        },
        "tokenizer": artifact.tokenizer.to_dict(),
        "origin": dict(artifact.origin),
        "files": {name: _describe(aside / name) for name in _STOCK_FILES},
    }
    _write_json(aside / MANIFEST, {"sha256": _digest_of(manifest), **manifest})
    shutil.rmtree(folder, ignore_errors=True)
    aside.replace(folder)


def write_card(folder: Path, card: str) -> None:
    """Write the model card beside the model."""
    (folder / "README.md").write_text(card, encoding="utf-8")


def load_artifact(folder: Path) -> Artifact:
    """The artifact in `folder`, every file checked first.

    Raises:
        ArtifactError: a file is missing, truncated or changed (it is named), or another format version wrote it.
    """
    manifest = _read_manifest(folder)
    _check_files(folder, cast(Mapping[str, Mapping[str, object]], manifest["files"]))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return Artifact(
        architecture=Architecture.from_hugging_face(config, where=str(folder / "config.json")),
        weights=load_file(folder / "model.safetensors"),
        tokenizer=FlowTokenizer.from_dict(cast(dict[str, Any], manifest["tokenizer"])),
        classes=_read_classes(cast(dict[str, Any], manifest["classes"])),
        origin=cast(dict[str, object], manifest["origin"]),
    )


def _read_classes(state: Mapping[str, Any]) -> ClassMap:
    return ClassMap(classes=tuple(state["classes"]), label_map=state["label_map"], benign=state["benign"])


def _read_manifest(folder: Path) -> dict[str, object]:
    path = folder / MANIFEST
    try:
        manifest = cast(dict[str, object], json.loads(path.read_text(encoding="utf-8")))
        digest, version = manifest.pop("sha256"), manifest["format"]
    except FileNotFoundError as error:
        raise ArtifactError(
            f"{folder}: expected a model folder, found no {MANIFEST} in it; give RUN/model"
        ) from error
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, "it can not be read") from error
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path}: expected format version {FORMAT_VERSION}, found {version!r}; use the wirebert that wrote it, or train again"
        )
    if digest != _digest_of(manifest):
        raise _damaged(path, "its content does not match its sha256")
    return manifest


def _check_files(folder: Path, files: Mapping[str, Mapping[str, object]]) -> None:
    for name in _STOCK_FILES:
        if name not in files:
            raise _damaged(folder / MANIFEST, f"it does not list {name}")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise _damaged(path, "it is missing")
        if path.stat().st_size != expected["size_bytes"]:
            raise _damaged(path, f"expected {expected['size_bytes']} bytes, found {path.stat().st_size}")
        if _describe(path) != expected:
            raise _damaged(path, "its content does not match its sha256")


def _damaged(path: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"{path}: the model folder is damaged: {why}; copy the folder again from where it was trained"
    )


def _describe(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size_bytes": path.stat().st_size}


def _digest_of(manifest: Mapping[str, object]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
