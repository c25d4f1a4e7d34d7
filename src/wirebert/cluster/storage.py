"""Local paths and URIs (s3://, gs://, file://) by one interface; a file appears when it is whole."""

import hashlib
import io
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import pyarrow as pa
from pyarrow import fs, parquet

from wirebert.errors import DataError

PIECE_BYTES = 1 << 22
_ASIDE = ".unfinished"


def is_uri(name: str) -> bool:
    """Whether a name is a URI and no path.

    >>> is_uri("s3://flows/day=2026-11-29"), is_uri("flows.csv")
    (True, False)
    """
    return "://" in name


def next_to(name: str, suffix: str) -> str:
    """The name of a file or folder next to another, which may be a URI with options.

    >>> next_to("s3://b/out/?region=x", ".shards")
    's3://b/out.shards?region=x'
    """
    place, mark, query = name.partition("?") if is_uri(name) else (name, "", "")
    return f"{place.rstrip('/')}{suffix}{mark}{query}"


@final
class DigestingSink(io.RawIOBase):
    """Writes to a stream and keeps the sha256 and the number of bytes."""

    mode = "wb"

    def __init__(self, sink: pa.NativeFile, name: str) -> None:
        super().__init__()
        self.name = name
        self._sink, self._digest, self.num_bytes = sink, hashlib.sha256(), 0

    @property
    def sha256(self) -> str:
        """Of what was written so far, as hexadecimal text."""
        return self._digest.hexdigest()

    def writable(self) -> bool:
        """True: writing is all it is for."""
        return True

    def write(self, data: bytes | memoryview | pa.Buffer, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Append the bytes."""
        num_bytes = memoryview(data).nbytes
        self._digest.update(data)
        self._sink.write(data)
        self.num_bytes += num_bytes
        return num_bytes

    def tell(self) -> int:
        """Number of bytes so far."""
        return self.num_bytes


@dataclass(frozen=True, slots=True)
class Storage:
    """A folder on a disk or in an object store."""

    system: fs.FileSystem
    root: str
    name: str
    """As the user named it."""

    @classmethod
    def of(cls, name: str) -> "Storage":
        """The folder, or file, that the name means.

        Raises:
            DataError: the URI has an unknown scheme or no address.
        """
        if not is_uri(name):
            return cls(fs.LocalFileSystem(), str(Path(name).absolute()), name)
        if "@" in name.partition("://")[2].partition("/")[0]:
            raise DataError(
                "a URI with credentials would be written to logs; give them by environment variables"
            )
        try:
            system, root = fs.FileSystem.from_uri(name)
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{name}: cannot be opened ({reason}); give s3://BUCKET/FOLDER or a path"
            ) from error
        return cls(system, root.rstrip("/"), name)

    def path(self, name: str) -> str:
        """The path of a file of the folder, within the file system."""
        return f"{self.root}/{name}" if name else self.root

    def exists(self, name: str = "") -> bool:
        """Whether there is a file or folder of this name."""
        return self._info(name).type != fs.FileType.NotFound

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        info = self._info(name)
        return info.size if info.type == fs.FileType.File else None

    def list(self) -> Sequence[fs.FileInfo]:
        """The files below, by path; only the file where the name is one of a file."""
        info = self._info("")
        if info.type == fs.FileType.File:
            return [info]
        found = self.system.get_file_info(fs.FileSelector(self.root, allow_not_found=True, recursive=True))
        files = [info for info in found if info.type == fs.FileType.File]
        return sorted(files, key=lambda info: info.path)

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is none."""
        if self.size(name) is None:
            return None
        with self.system.open_input_stream(self.path(name)) as file:
            return file.read()

    def pieces(self, name: str) -> Iterator[bytes]:
        """The content of a file, some megabytes at a time."""
        with self.system.open_input_stream(self.path(name)) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def open_parquet(self, name: str) -> parquet.ParquetFile:
        """A Parquet file, of which only the footer is read."""
        return parquet.ParquetFile(self.system.open_input_file(self.path(name)))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in one step."""
        with self.new_file(name) as sink:
            sink.write(content)

    @contextmanager
    def new_file(self, name: str) -> Generator[DigestingSink]:
        """A sink for a file, which appears (or is replaced) when the block ends; else nothing stays.

        An object store shows an object when it is complete; elsewhere the file is written aside and renamed.

        Raises:
            DataError: it cannot be written, for example as the disk is full.
        """
        path = self.path(name)
        written = (
            path if self.system.type_name in ("s3", "gcs", "abfs") else f"{path}.{uuid.uuid4().hex}{_ASIDE}"
        )
        is_whole = False
        try:
            self.system.create_dir(path.rpartition("/")[0], recursive=True)
            with self.system.open_output_stream(written) as sink:
                yield DigestingSink(sink, name)
            if written != path:
                self.system.move(written, path)
            is_whole = True
        except OSError as error:
            raise DataError(
                f"{self.name}: cannot write ({error.strerror or _first_line(error)}); make room or choose "
                "another place (--out; TMPDIR for `inspect`), and start again: what `predict` has "
                "finished is kept"
            ) from error
        finally:
            if not is_whole:
                with suppress(OSError):
                    self.system.delete_file(written)

    def delete_unfinished(self) -> None:
        """Delete what was written aside by processes that were killed."""
        for info in self.list():
            if info.path.endswith(_ASIDE):
                self.system.delete_file(info.path)

    def delete(self) -> None:
        """Delete the folder and all in it."""
        self.system.delete_dir(self.root)

    def _info(self, name: str) -> fs.FileInfo:
        try:
            return self.system.get_file_info(self.path(name))
        except OSError as error:
            raise DataError(
                f"{self.name}: cannot be reached ({_first_line(error)}); check address and credentials"
            ) from error


@contextmanager
def temporary_storage() -> Generator[Storage]:
    """A folder below TMPDIR, which is deleted when the block ends."""
    with TemporaryDirectory(prefix="wirebert-shards-", ignore_cleanup_errors=True) as folder:
        yield Storage.of(folder)


def _first_line(error: OSError) -> str:
    return str(error).partition("\n")[0][:200]
