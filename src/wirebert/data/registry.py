"""Public data sets: citation, licence and official split; files are recognised by content."""

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import pyarrow as pa

from wirebert.data.dialect import Compression, compression_of, damaged, open_bytes
from wirebert.data.schema.schema import missing_name
from wirebert.errors import DataError

Role = Literal["train", "test", "all", "sample"]
CHUNK_BYTES = 1 << 20
MAX_PUBLISHED_BYTES = 1 << 27
"""No file of the registry is larger; a larger one need not be read to know that it is another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One published file."""

    name: str
    role: Role
    sha256: str | None = None
    """Of the uncompressed content; None: unverified."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Citation:
    """The publication to cite for a data set."""

    kind: Literal["article", "inproceedings", "misc"]
    """Type of the BibTeX entry."""
    author: str
    """Full names, with `and` between them."""
    title: str
    venue: str
    """Journal, proceedings or publisher."""
    year: int | None = None
    """None: the publisher states none."""
    volume: int | None = None
    pages: str | None = None
    doi: str | None = None

    def __str__(self) -> str:
        year = "" if self.year is None else f", {self.year}"
        doi = "" if self.doi is None else f" doi:{self.doi}"
        return f"{self.author.replace(' and ', ', ')}: {self.title}. {self.venue}{year}.{doi}"

    def bibtex(self, key: str, url: str) -> str:
        """The BibTeX entry under this key; capitals of the title are kept."""
        where = {"article": "journal", "inproceedings": "booktitle", "misc": "publisher"}[self.kind]
        fields = {
            "author": self.author,
            "title": f"{{{self.title}}}",
            where: self.venue,
            "year": self.year,
            "volume": self.volume,
            "pages": self.pages,
            "doi": self.doi,
            "url": url,
        }
        lines = [
            f"  {name} = {{{str(value) if name in ('doi', 'url') else _bibtex_text(str(value))}}},"
            for name, value in fields.items()
            if value is not None
        ]
        return "\n".join([f"@{self.kind}{{{key},", *lines, "}"]) + "\n"


def _bibtex_text(text: str) -> str:
    return re.sub(r"([_&%#$])", r"\\\1", text)


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A public data set."""

    name: str
    title: str
    citation: Citation
    licence: str
    """From memory; check the page of the publisher."""
    homepage: str
    split: str
    """The official split, or how to split where there is none."""
    label: str
    schema: str | None = None
    """The schema of its files; None: inferred."""
    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """The identity of a file on disk."""

    path: Path
    status: Literal["verified", "changed", "unknown"]
    """verified: the content of a published file; changed: the name of a published file, but other content."""
    sha256: str
    data_set: str | None = None
    file: str | None = None


def known_datasets() -> Mapping[str, DataSet]:
    """The data sets that wirebert knows, by name."""
    text = resources.files("wirebert.data").joinpath("registry.toml").read_text(encoding="utf-8")
    data_sets = [msgspec.convert(plain, DataSet) for plain in tomllib.loads(text)["datasets"]]
    return {data_set.name: data_set for data_set in data_sets}


def bibtex(names: Sequence[str]) -> str:
    """The BibTeX entries of these data sets, one after the other; of all of them without a name.

    Raises:
        DataError: there is no such data set.
    """
    known = known_datasets()
    for name in names:
        if name not in known:
            raise DataError(missing_name("data set", name, known))
    chosen = [known[name] for name in dict.fromkeys(names)] or known.values()
    return "\n".join(data_set.citation.bibtex(data_set.name, data_set.homepage) for data_set in chosen)


def content_sha256(path: Path) -> str:
    """Sha256 of the uncompressed content of a file."""
    digest = hashlib.sha256()
    for chunk in _content(path, compression_of(path)):
        digest.update(chunk)
    return digest.hexdigest()


def identify(path: Path) -> DataFile | None:
    """The published file with this content; None for other content, and for what is too large to be one."""
    if not path.is_file() or path.stat().st_size > MAX_PUBLISHED_BYTES:
        return None
    sha256 = content_sha256(path)
    files = [file for data_set in known_datasets().values() for file in data_set.files]
    return next((file for file in files if file.sha256 == sha256), None)


def verify(folder: Path) -> tuple[Checked, ...]:
    """The identity of each file below `folder`, by its content, sorted by path. Hidden files are skipped.

    Raises:
        DataError: the folder does not exist or is empty, or a file is damaged.
    """
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    paths = [
        path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise DataError(f"{folder}: expected files of a data set, found none; check the path")
    published = [(data_set, file) for data_set in known_datasets().values() for file in data_set.files]
    by_content = {file.sha256: (data_set, file) for data_set, file in published if file.sha256 is not None}
    by_name = {file.name: (data_set, file) for data_set, file in published}
    checked: list[Checked] = []
    for path in paths:
        sha256 = content_sha256(path)
        status: Literal["verified", "changed", "unknown"] = "verified"
        match = by_content.get(sha256)
        if match is None:
            match = by_name.get(path.name) or by_name.get(path.name.removesuffix(path.suffix))
            status = "unknown" if match is None or match[1].sha256 is None else "changed"
        named = (None, None) if match is None else (match[0].name, match[1].name)
        checked.append(Checked(path=path, status=status, sha256=sha256, data_set=named[0], file=named[1]))
    return tuple(checked)


def _content(path: Path, compression: Compression) -> Iterator[bytes]:
    try:
        with open_bytes(path, compression) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, pa.ArrowException) as error:
        raise damaged(path, compression, error) from error
