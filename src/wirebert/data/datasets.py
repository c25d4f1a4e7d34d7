"""Public data sets: what to cite and how to split them; files recognised by content; downloads checked before they are kept."""

import hashlib
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, cast

import pyarrow as pa

from wirebert.data.dialect import Compression, compression_of, open_bytes, reason_of
from wirebert.data.schema import missing_name
from wirebert.errors import ConfigError, DataError

Role = Literal["train", "test", "all", "sample"]
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFile:
    """One published file."""

    name: str
    role: Role
    sha256: str | None = None
    """Of the unpacked content; None: unverified."""
    size_bytes: int | None = None
    """Unpacked; None where it is not known."""


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

    @property
    def is_verified(self) -> bool:
        """Whether the content of every listed file is known, and there is one."""
        return bool(self.files) and all(file.sha256 is not None for file in self.files)


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
    text = resources.files("wirebert.data").joinpath("datasets.toml").read_text(encoding="utf-8")
    found: dict[str, DataSet] = {}
    for plain in tomllib.loads(text)["datasets"]:
        files = tuple(DataFile(**file) for file in plain.pop("files", []))
        found[plain["name"]] = DataSet(**plain, files=files)
    return found


def dataset(name: str) -> DataSet:
    """The data set of this name; a ConfigError that suggests the nearest if there is none."""
    known = known_datasets()
    if name not in known:
        raise ConfigError(f"datasets: {missing_name('data set', name, known)}")
    return known[name]


def content_sha256(path: Path) -> tuple[str, int]:
    """Sha256 and size of the unpacked content of a file."""
    digest, size = hashlib.sha256(), 0
    for chunk in _content(path, compression_of(path)):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


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
        sha256, _ = content_sha256(path)
        status: Literal["verified", "changed", "unknown"] = "verified"
        found = by_content.get(sha256)
        if found is None:
            found = by_name.get(path.name) or by_name.get(path.name.removesuffix(path.suffix))
            status = "unknown" if found is None or found[1].sha256 is None else "changed"
        named = (None, None) if found is None else (found[0].name, found[1].name)
        checked.append(Checked(path=path, status=status, sha256=sha256, data_set=named[0], file=named[1]))
    return tuple(checked)


def download(
    data_set: DataSet, base_url: str, folder: Path, note: Callable[[str], None] = lambda _: None
) -> tuple[Path, ...]:
    """The files of a data set, from `base_url/NAME` (or `NAME.gz`), each kept only if its content is the published one.

    A file that is there already with the right content is not fetched again. `note` gets a sentence per file.

    Raises:
        ConfigError: the address is no http address, or the set has no file with a known checksum.
        DataError: a file can not be fetched, or its content is another.
    """
    if urllib.parse.urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError(f"--from must be an http or https address, got {base_url!r}")
    wanted = [file for file in data_set.files if file.sha256 is not None]
    if not wanted:
        raise ConfigError(
            f"{data_set.name}: no checksum is known, so a download can not be checked; fetch it from "
            f"{data_set.homepage} and look at it with `wirebert inspect`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(_fetch_checked(file, base_url.rstrip("/"), folder, note) for file in wanted)


def _fetch_checked(file: DataFile, base_url: str, folder: Path, note: Callable[[str], None]) -> Path:
    for name in (file.name, f"{file.name}.gz"):
        target = folder / name
        if target.is_file() and content_sha256(target)[0] == file.sha256:
            note(f"{target}: already there, verified")
            return target
    partial = folder / f".{file.name}.partial"
    try:
        name = _fetch_either(file, base_url, partial)
        sha256, size = content_sha256(partial)
        if sha256 != file.sha256:
            raise DataError(
                f"{base_url}/{name}: expected content of sha256 {file.sha256}, found {sha256} ({size:,} bytes); "
                "nothing was kept, try another source"
            )
        partial.replace(folder / name)
    finally:
        partial.unlink(missing_ok=True)
    note(f"{folder / name}: {size:,} bytes, verified")
    return folder / name


def _fetch_either(file: DataFile, base_url: str, target: Path) -> str:
    """Fetch the file as it is or packed; which name it had."""
    for name in (file.name, f"{file.name}.gz"):
        url = f"{base_url}/{urllib.parse.quote(name)}"
        try:
            _fetch(url, target)
        except urllib.error.HTTPError as error:
            if error.code == 404 and name == file.name:
                continue
            raise DataError(f"{url}: can not be fetched ({error.code} {error.reason})") from error
        except (urllib.error.URLError, OSError) as error:
            raise DataError(f"{url}: can not be fetched ({reason_of(error)})") from error
        return name
    raise AssertionError("the second attempt returns or raises")


def _fetch(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response, target.open("wb") as file:
        while chunk := cast(bytes, response.read(CHUNK_BYTES)):
            file.write(chunk)


def _content(path: Path, compression: Compression) -> Iterator[bytes]:
    try:
        with open_bytes(path, compression) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path}: the {compression} data is damaged ({reason_of(error)})") from error
