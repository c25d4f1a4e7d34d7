"""Sealed files: what a manifest says of the files of its folder, and checking it. No link is followed."""

import hashlib
import json
import stat
from collections.abc import Mapping
from pathlib import Path

from wirebert.errors import ArtifactError


def plain_size(path: Path) -> int:
    """Bytes of a plain file in the folder. Links and devices are refused, and not followed."""
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise damaged(path, "expected a plain file, found a link or a device")
    return found.st_size


def check_size(path: Path, expected: Mapping[str, object]) -> None:
    """Raise an ArtifactError unless this is a readable plain file of the size that the manifest gives."""
    size = plain_size(path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise unreadable(path, error) from error
    if size != expected.get("size_bytes"):
        raise damaged(path, f"expected {expected.get('size_bytes')} bytes, found {size}")


def check_content(path: Path, expected: Mapping[str, object]) -> None:
    """Raise an ArtifactError unless this is the file that the manifest describes."""
    check_size(path, expected)
    try:
        content = describe(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if content != expected:
        raise damaged(path, "its content does not match its sha256")


def damaged(path: Path, why: str) -> ArtifactError:
    """The error for a damaged model folder."""
    return ArtifactError(
        f"{path}: the model folder is damaged: {why}; copy the folder again from where it was trained"
    )


def unreadable(path: Path, error: OSError) -> ArtifactError:
    """The error for a file that cannot be read."""
    return ArtifactError(
        f"{path}: expected a readable file, found one that is not ({error.strerror}); check its permissions"
    )


def describe(path: Path) -> dict[str, object]:
    """Sha256 and size of a file."""
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size_bytes": path.stat().st_size}


def sealed(manifest: Mapping[str, object]) -> str:
    """The text of `wirebert.json` with its own sha256: not even a blank can change unnoticed."""
    return as_json({"sha256": seal_of(manifest), **manifest})


def seal_of(manifest: Mapping[str, object]) -> str:
    """The sha256 of a manifest: the name of the model, as it holds the sha256 of every file."""
    compact = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(compact.encode("ascii")).hexdigest()


def as_json(content: Mapping[str, object]) -> str:
    """The text of a JSON file."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
