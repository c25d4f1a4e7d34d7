"""The dialect of a traffic file (compression, encoding, delimiter, quotes, header), and its bytes as a
stream.

Text is UTF-8, UTF-16, Windows-1252 or Latin-1.
"""

import codecs
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, Protocol, cast, runtime_checkable

import pyarrow as pa

from wirebert.data.grammar import Grammar
from wirebert.data.other_formats import EXPECTED, REMEDIES, SPREADSHEET
from wirebert.data.standard_input import ArrivingBytes, arriving
from wirebert.errors import DataError, NoFlowsError
from wirebert.plurals import counted

if TYPE_CHECKING:
    import lzma

Compression = Literal["none", "gzip", "bz2", "xz", "zstd", "zip"]
Encoding = Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"]
LineEnd = Literal["LF", "CRLF", "CR"]

HEAD_BYTES = 1 << 18
MAX_XZ_BYTES = 1 << 28
"""Memory for unpacking; `xz -9` asks for a quarter of it, and a file could ask for 4 GB."""


def damage() -> tuple[type[Exception], ...]:
    """What libraries raise for compressed data that is damaged."""
    import lzma
    import zipfile
    import zlib

    return OSError, EOFError, pa.ArrowException, lzma.LZMAError, zipfile.BadZipFile, zlib.error


ONE_COLUMN = "\x1f"
"""Delimiter of a file that has none: a character that does not occur in text."""
DELIMITERS = {
    ",": "comma-separated",
    ";": "semicolon-separated",
    "\t": "tab-separated",
    "|": "pipe-separated",
    " ": "separated by blanks",
    ONE_COLUMN: "one column",
}
MAGIC_BYTES: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The dialect of one file."""

    format: str = "delimited"
    """delimited, key_values, parquet, arrow, json_lines, or the name of a sensor format."""
    compression: Compression = "none"
    encoding: Encoding = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'
    """None: quotes have no special meaning."""
    escape: str | None = None
    """Removes the special meaning of the next character."""
    comment: str | None = None
    """Prefix of comment lines; a line of as many fields as rows is a row."""
    hides_rows: bool = field(default=False, compare=False)
    """The prefix was set, not detected: every line that begins with it is a comment."""
    skip_lines: int = 0
    """Lines before the table; the header belongs to the table."""
    footer_lines: int | None = None
    """Lines after the table, without blank lines; None: lines with too few fields."""
    has_header: bool = True
    decimal_comma: bool = False
    """1,5 is a number."""
    has_byte_order_mark: bool = False
    line_end: LineEnd = "LF"
    """The most common one; all of them end a line."""
    blanks_before_quotes: bool = False
    """Blanks between delimiter and quote are not part of a value."""

    @property
    def grammar(self) -> Grammar:
        """Where fields and rows end."""
        return Grammar(self.delimiter, self.quote, self.escape)

    def describe(self) -> str:
        """The dialect in words.

        >>> Dialect(compression="gzip", has_header=False).describe()
        'gzip, utf-8, comma-separated, no header'
        >>> Dialect(delimiter=" ", comment="#", skip_lines=2, decimal_comma=True).describe()
        'utf-8, separated by blanks, header, 2 lines before the table, comments #, decimal comma'
        >>> Dialect(format="parquet").describe()
        'parquet'
        """
        packed = [] if self.compression == "none" else [self.compression]
        if self.format != "delimited":
            words = {"key_values": "key-value lines"}.get(self.format, self.format.replace("_", " "))
            return ", ".join([*packed, *([self.encoding] if self.format == "key_values" else []), words])
        parts = [
            f"{self.encoding} with byte-order mark" if self.has_byte_order_mark else self.encoding,
            DELIMITERS.get(self.delimiter, f"{self.delimiter!r}-separated"),
            "" if self.quote == '"' else "no quotes" if self.quote is None else f"quote {self.quote}",
            f"escape {self.escape}" if self.escape else "",
            "header" if self.has_header else "no header",
            f"{counted(self.skip_lines, 'line')} before the table" if self.skip_lines else "",
            f"{counted(self.footer_lines, 'line')} after the table" if self.footer_lines else "",
            f"comments {self.comment}" if self.comment else "",
            "decimal comma" if self.decimal_comma else "",
            f"{self.line_end} line ends" if self.line_end != "LF" else "",
        ]
        return ", ".join([*packed, *filter(None, parts)])

    def to_dict(self) -> dict[str, object]:
        """Everything that was detected, as plain values; values that can be set have the name of their
        setting."""
        plain: dict[str, object] = asdict(self)
        del plain["blanks_before_quotes"], plain["hides_rows"]
        if self.format != "delimited":
            return {name: plain[name] for name in ("format", "compression", "encoding")}
        return {name: "" if value is None else value for name, value in plain.items()}


class ContentDigest:
    """Sha256 over the sizes and contents of files, one after the other."""

    def __init__(self) -> None:
        import hashlib  # here, as it loads OpenSSL

        self._digest = hashlib.sha256()

    def hexdigest(self) -> str:
        """The digest of all files so far, as hexadecimal text."""
        return self._digest.hexdigest()

    def open(self, path: Path) -> "HashingReader":
        """The next file, which is added to the digest while it is read."""
        self._digest.update(f"{path.stat().st_size}\n".encode())
        return HashingReader(path, self._digest.update)

    def add(self, path: Path) -> None:
        """Read the next file from beginning to end."""
        with self.open(path) as file:
            file.drain()


class HashingReader(io.FileIO):
    """A file read forwards, each byte of which is added to a digest."""

    def __init__(self, path: Path, update: Callable[[bytes], None]) -> None:
        super().__init__(path)
        self._update = update

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = super().read(size)
        self._update(data)
        return data

    def drain(self) -> None:
        """Read the rest: what follows compressed data or the last row belongs to the content too."""
        while self.read(1 << 20):
            pass


class XzReader(io.RawIOBase):
    """The content of an xz file, which may ask for no more than `MAX_XZ_BYTES` of memory."""

    def __init__(self, file: io.IOBase) -> None:
        super().__init__()
        self._file = cast(BinaryIO, file)
        self._decoder: "lzma.LZMADecompressor | None" = None

    def readable(self) -> bool:
        """True: reading is all it is for."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill the buffer; 0 bytes at the end of the last stream."""
        data = b""
        while not data:
            packed = b""
            if self._decoder is None or self._decoder.eof:  # streams follow each other, zeros between them
                packed = b"" if self._decoder is None else self._decoder.unused_data.lstrip(b"\0")
                packed = packed or self._file.read(1 << 16).lstrip(b"\0")
                if not packed:
                    return 0
                import lzma

                self._decoder = lzma.LZMADecompressor(memlimit=MAX_XZ_BYTES)
            elif self._decoder.needs_input:
                packed = self._file.read(1 << 16)
                if not packed:
                    raise EOFError("it ends within a stream")
            data = self._decoder.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def compression_of(path: Path) -> Compression:
    """The compression of a file, by its first bytes."""
    try:
        with path.open("rb") as file:
            return _compression_of(file)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _compression_of(file: io.BufferedReader) -> Compression:
    start = file.read(8)
    file.seek(0)
    for magic, name in MAGIC_BYTES.items():
        if start.startswith(magic):
            return name
    return "none"


def open_bytes(path: Path, compression: Compression, file: io.IOBase | None = None) -> pa.NativeFile:
    """The uncompressed bytes of a file as a stream.

    A zip archive must hold exactly one file.

    Args:
        file: The file where it is open already, at its beginning; it is closed with the stream.
    """
    live = arriving(path) if file is None and compression == "none" else None
    if file is None and live is None and not str(path).isprintable():
        file = path.open("rb")  # Arrow takes no name that is no UTF-8
    if compression == "xz":
        return pa.PythonFile(io.BufferedReader(XzReader(path.open("rb") if file is None else file)), mode="r")
    if compression == "zip":
        return pa.PythonFile(_only_member(path, file), mode="r")
    if live is not None:
        return pa.PythonFile(ArrivingBytes(live), mode="r")
    if compression == "none":
        return pa.OSFile(os.fsencode(path), "rb") if file is None else pa.PythonFile(file, mode="r")  # pyright: ignore[reportArgumentType]
    if file is None:
        return pa.CompressedInputStream(pa.OSFile(os.fsencode(path), "rb"), compression)  # pyright: ignore[reportArgumentType]
    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), compression)


@runtime_checkable
class ByteStream(Protocol):
    """A stream of bytes."""

    def read(self, nbytes: int, /) -> bytes:
        """The next bytes; empty at the end."""
        ...


class Decoded:
    """A stream as UTF-8; bytes that are not valid in its encoding become replacement characters."""

    def __init__(self, raw: ByteStream, encoding: str) -> None:
        self._raw, self._decoder = raw, codecs.getincrementaldecoder(encoding)("replace")

    def read(self, nbytes: int, /) -> bytes:
        """The next text; empty at the end."""
        while data := self._raw.read(nbytes):
            if text := self._decoder.decode(data):
                return text.encode("utf-8", "replace")
        return self._decoder.decode(b"", final=True).encode("utf-8", "replace")


def _only_member(path: Path, file: io.IOBase | None) -> io.IOBase:
    """The file inside a zip archive.

    Raises:
        NoFlowsError: it holds another number of files, or is a document.
        DataError: it is encrypted, or packed by an unknown method.
    """
    try:
        import zipfile

        archive = zipfile.ZipFile(path if file is None else cast(BinaryIO, file))
        names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
        if "[Content_Types].xml" in names or "META-INF/manifest.xml" in names:
            raise NoFlowsError(f"{path}: {EXPECTED}, found {SPREADSHEET}; {REMEDIES[SPREADSHEET]}")
        if len(names) != 1:
            raise NoFlowsError(
                f"{path}: expected one file inside the zip archive, found {len(names)}; unpack it first"
            )
        return cast(io.IOBase, archive.open(names[0]))
    except (NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{path}: the zip archive cannot be read ({reason_of(error)}); unpack it first"
        ) from error


def reason_of(error: BaseException) -> str:
    """The message of a library's error, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def damaged(where: object, content: str, error: BaseException) -> DataError:
    """What to raise where a library cannot read content of this kind, such as gzip or Parquet."""
    return DataError(
        f"{where}: expected {content} data, found it damaged or incomplete ({reason_of(error)}); copy or "
        "download the file again"
    )


def open_binary(path: Path) -> io.BufferedReader:
    """The file, open for reading; a DataError where it cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def rewound(file: io.BufferedReader) -> io.BufferedReader:
    """The open file once more, from its beginning; closing one of the two leaves the other open."""
    descriptor = os.dup(file.fileno())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.fdopen(descriptor, "rb")


def read_head(
    path: Path, num_bytes: int = HEAD_BYTES, *, opened: io.BufferedReader | None = None
) -> tuple[bytes, Compression]:
    """The first uncompressed bytes of a file, which may be `opened` already, and its compression."""
    if (live := arriving(path)) is not None:
        return live.head(num_bytes), "none"
    with open_binary(path) if opened is None else rewound(opened) as file:
        compression = _compression_of(file)
        return _read_start(path, compression, file, num_bytes), compression


def _read_start(path: Path, compression: Compression, file: io.BufferedReader, num_bytes: int) -> bytes:
    try:
        with open_bytes(path, compression, file) as stream:
            return stream.read(num_bytes)
    except damage() as error:
        raise damaged(path, compression, error) from error


def decode_head(head: bytes, encoding: Encoding) -> str:
    """The text of the head without byte-order mark and without a cut character at its end."""
    return head.decode(encoding, errors="ignore").removeprefix("\ufeff")


def whole_lines(text: str, *, is_whole: bool, footer_lines: int | None = None) -> list[str]:
    """Lines with their line ends, without an incomplete last line; in a whole file, without the footer
    lines."""
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
    if not is_whole:
        return lines if len(lines) < 2 else lines[:-1]
    left = footer_lines or 0
    while left and lines:
        left -= bool(lines.pop().strip())
    return lines


def clean_names(raw: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Column names that are stripped, unique and not blank; and a note for each changed name.

    >>> clean_names([" dur", "", "bytes", "bytes"])
    (('dur', 'column_2', 'bytes', 'bytes_2'), {'column_2': 'the name is blank in the file', ...})
    """
    names: list[str] = []
    notes: dict[str, str] = {}
    taken = {name.strip().removeprefix("\ufeff") for name in raw}
    given: set[str] = set()
    copies: dict[str, int] = {}
    for position, text in enumerate(raw, start=1):
        name = wanted = text.strip().removeprefix("\ufeff").strip() or f"column_{position}"
        copy = copies.get(wanted, 1)
        while name in given or (copy > 1 and name in taken):
            copy += 1
            name = f"{wanted}_{copy}"
        copies[wanted] = copy
        names.append(name)
        given.add(name)
        if name != wanted:
            notes[name] = f"the file has another column named {wanted!r}"
        elif not text.strip():
            notes[name] = "the name is blank in the file"
    return tuple(names), notes
