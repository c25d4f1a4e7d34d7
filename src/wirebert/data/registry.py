"""Public data sets: what to cite and how to split them; files recognised by content."""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import pyarrow as pa

from wirebert.data.dialect import Compression, compression_of, open_bytes, reason_of
from wirebert.errors import DataError

Role = Literal["train", "test", "all", "sample"]
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One published file."""

    name: str
    role: Role
    sha256: str | None = None
    """Of the unpacked content; None: unverified."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A public data set."""

    name: str
    title: str
    citation: str
    licence: str
    """As remembered from the publisher's page."""
    homepage: str
    split: str
    """The official split, or how to split where there is none."""
    label: str
    schema: str | None = None
    """The schema its files are read under; None: inferred."""
    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What a file on disk turned out to be."""

    path: Path
    status: Literal["verified", "changed", "unknown"]
    """verified: content is that of a published file; changed: it has the name of one, and another content."""
    sha256: str
    data_set: str | None = None
    file: str | None = None


def known_datasets() -> Mapping[str, DataSet]:
    """The data sets that wirebert knows, by name."""
    text = resources.files("wirebert.data").joinpath("registry.toml").read_text(encoding="utf-8")
    found: dict[str, DataSet] = {}
    for plain in tomllib.loads(text)["datasets"]:
        files = tuple(DataFile(**file) for file in plain.pop("files", []))
        found[plain["name"]] = DataSet(**plain, files=files)
    return found


def content_sha256(path: Path) -> str:
    """Sha256 of the unpacked content of a file."""
    digest = hashlib.sha256()
    for chunk in _content(path, compression_of(path)):
        digest.update(chunk)
    return digest.hexdigest()


def verify(folder: Path) -> tuple[Checked, ...]:
    """What each file below `folder` is, by its content; in order of path. Hidden files are left out.

    Raises:
        DataError: there is no such folder, it holds no file, or a file is damaged.
    """
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [
        path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise DataError(f"{folder}: expected files of a data set, found none; check the path")
    published = [(known, file) for known in known_datasets().values() for file in known.files]
    by_content = {file.sha256: (known, file) for known, file in published if file.sha256 is not None}
    by_name = {file.name: (known, file) for known, file in published}
    checked: list[Checked] = []
    for path in paths:
        sha256 = content_sha256(path)
        status: Literal["verified", "changed", "unknown"] = "verified"
        found = by_content.get(sha256)
        if found is None:
            found = by_name.get(path.name) or by_name.get(path.name.removesuffix(path.suffix))
            status = "unknown" if found is None or found[1].sha256 is None else "changed"
        named = (None, None) if found is None else (found[0].name, found[1].name)
        checked.append(Checked(path=path, status=status, sha256=sha256, data_set=named[0], file=named[1]))
    return tuple(checked)


def _content(path: Path, compression: Compression) -> Iterator[bytes]:
    try:
        with open_bytes(path, compression) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: the {compression} data is damaged ({reason_of(error)})") from error
