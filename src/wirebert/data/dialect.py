"""How a traffic file is written: compression, encoding, delimiter, quotes, header; and its bytes as a stream.

Everything is told from the first bytes of the file, never from its name.
"""

import csv
import io
import lzma
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import pyarrow as pa

from wirebert.errors import DataError

Compression = Literal["none", "gzip", "bz2", "xz", "zstd", "zip"]
Encoding = Literal["utf-8", "utf-16", "cp1252", "latin-1"]
Format = Literal["delimited", "key_values", "parquet"]

HEAD_BYTES = 1 << 18
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
MAGIC_BYTES: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
OTHER_FORMATS = {
    b"ARROW1": "an Arrow file",
    b"\xd4\xc3\xb2\xa1": "a packet capture",
    b"\xa1\xb2\xc3\xd4": "a packet capture",
    b"\x0a\x0d\x0d\x0a": "a packet capture",
    b"#separator": "a Zeek log",
    b'{"': "JSON",
    b"[{": "JSON",
}

NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf(?:inity)?|nan)", re.IGNORECASE)
NEVER_A_NAME = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|\d{4}[-/]\d\d?[-/]\d\d?.*|\d\d?[-/]\d\d?[-/]\d{4}.*|0x[0-9a-fA-F]+|[-?]"
)
CONTROLS = frozenset(range(32)) - set(b"\t\n\r\f\x0b\x1b\x00")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """How one file is written."""

    format: Format = "delimited"
    compression: Compression = "none"
    encoding: Encoding = "utf-8"
    delimiter: str = ","
    quote: str | None = '"'
    """None: quotes are characters like any other."""
    has_header: bool = True

    def describe(self) -> str:
        """The dialect in words.

        >>> Dialect(compression="gzip", has_header=False).describe()
        'gzip, utf-8, comma-separated, no header'
        >>> Dialect(format="parquet").describe()
        'parquet'
        """
        packed = [] if self.compression == "none" else [self.compression]
        if self.format == "parquet":
            return ", ".join([*packed, "parquet"])
        if self.format == "key_values":
            return ", ".join([*packed, self.encoding, "key-value lines"])
        delimiter = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        quotes = [] if self.quote == '"' else ["no quotes" if self.quote is None else f"quote {self.quote}"]
        header = "header" if self.has_header else "no header"
        return ", ".join([*packed, self.encoding, f"{delimiter}-separated", *quotes, header])


def compression_of(path: Path) -> Compression:
    """How the file is compressed, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: can not be read ({error.strerror or error})") from error
    for magic, name in MAGIC_BYTES.items():
        if start.startswith(magic):
            return name
    return "none"


def open_bytes(path: Path, compression: Compression) -> pa.NativeFile:
    """The uncompressed bytes of a file as a stream.

    A zip archive must hold exactly one file.
    """
    if compression == "xz":
        return pa.PythonFile(lzma.open(path), mode="r")
    if compression == "zip":
        archive = zipfile.ZipFile(path)
        members = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(members) != 1:
            raise DataError(
                f"{path}: expected one file inside the zip archive, found {len(members)}; unpack it first"
            )
        return pa.PythonFile(cast(io.IOBase, archive.open(members[0])), mode="r")
    if compression == "none":
        return pa.OSFile(str(path), "rb")
    return pa.input_stream(str(path), compression=compression)


def reason_of(error: BaseException) -> str:
    """What a library complains of, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def read_head(path: Path, num_bytes: int = HEAD_BYTES) -> tuple[bytes, Compression]:
    """The first uncompressed bytes of a file, and how it is compressed."""
    compression = compression_of(path)
    try:
        with open_bytes(path, compression) as stream:
            return stream.read(num_bytes), compression
    except (OSError, EOFError, pa.ArrowException, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: the {compression} data is damaged or incomplete ({reason_of(error)})"
        ) from error


def detect_dialect(head: bytes, compression: Compression, where: str) -> Dialect:
    """The dialect of a file that begins with `head` (uncompressed).

    Raises:
        DataError: the file is empty, is not text, or is of a format that is not read.

    >>> detect_dialect(b"dur;proto\\n1;tcp\\n", "none", "flows.csv").describe()
    'utf-8, semicolon-separated, header'
    >>> detect_dialect(b"proto:tcp, service=http\\n", "none", "flows.txt").describe()
    'utf-8, key-value lines'
    >>> detect_dialect(b"", "none", "flows.csv")
    Traceback (most recent call last):
    wirebert.errors.DataError: flows.csv: expected a table of flows, found an empty file
    """
    if head.startswith(b"PAR1"):
        return Dialect(format="parquet", compression=compression)
    encoding = detect_encoding(head, is_whole=len(head) < HEAD_BYTES)
    refuse_other_formats(head, encoding, where)
    text = decode_head(head, encoding)
    lines = whole_lines(text, is_whole=len(head) < HEAD_BYTES)
    if not any(line.strip() for line in lines):
        raise DataError(f"{where}: expected a table of flows, found an empty file")
    if are_key_value_lines(lines):
        return Dialect(format="key_values", compression=compression, encoding=encoding)
    delimiter, quote = detect_delimiter(lines)
    rows = split_rows(lines, delimiter, quote)
    return Dialect(
        compression=compression,
        encoding=encoding,
        delimiter=delimiter,
        quote=quote,
        has_header=detect_header(rows),
    )


def detect_encoding(head: bytes, *, is_whole: bool) -> Encoding:
    """UTF-16 where its byte-order mark says so, else UTF-8 where the bytes are valid, else Windows-1252 or Latin-1."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut_character = not is_whole and error.start >= len(head) - 3
        if not is_cut_character:
            return single_byte_encoding(head)
    return "utf-8"


def single_byte_encoding(head: bytes) -> Encoding:
    """Windows-1252, or Latin-1 where bytes occur that Windows-1252 leaves undefined."""
    return "latin-1" if set(head) & set(b"\x81\x8d\x8f\x90\x9d") else "cp1252"


def refuse_other_formats(head: bytes, encoding: Encoding, where: str) -> None:
    """Raise a DataError for what is no delimited or key-value text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n") if encoding != "utf-16" else b""
    for magic, name in OTHER_FORMATS.items():
        if head.startswith(magic) or start.startswith(magic):
            raise DataError(
                f"{where}: expected delimited text, key-value lines or Parquet, found {name}; "
                "convert it to one of these"
            )
    num_controls = sum(byte in CONTROLS for byte in head)
    if encoding != "utf-16" and (num_controls > len(head) // 20 or head.count(0) > len(head) // 10):
        raise DataError(
            f"{where}: expected delimited text, key-value lines or Parquet, found binary data; "
            "convert it to one of these"
        )


def decode_head(head: bytes, encoding: Encoding) -> str:
    """The text of the head without byte-order mark; a character cut at its end is left out."""
    return head.decode(encoding, errors="ignore").removeprefix("\ufeff")


def whole_lines(text: str, *, is_whole: bool) -> list[str]:
    """Lines with their ends; the last one is left out if it may go on after the head."""
    lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", text)
    return lines if is_whole or len(lines) < 2 else lines[:-1]


def are_key_value_lines(lines: Sequence[str]) -> bool:
    """Whether (nearly) every line reads `key:value, key=value, ...`.

    >>> are_key_value_lines(["protocol_type:tcp, service=http"]), are_key_value_lines(["10:30:00,tcp"])
    (True, False)
    """
    filled = [line for line in lines[:200] if line.strip()]
    starts = [re.match(r"\s*([\w.\-]+)\s*[:=]", line) for line in filled]
    # Times and MAC addresses hold colons too: a key has a letter and more than two characters or no digit first.
    keys = [match.group(1) for match in starts if match and re.match(r"[A-Za-z_]", match.group(1))]
    if len(keys) < 0.9 * len(filled) or not keys:
        return False
    return sum(len(re.findall(r"(?:^|[,;\s])\s*[A-Za-z_][\w.\-]*\s*[:=]", line)) >= 2 for line in filled) >= (
        0.9 * len(filled)
    )


def detect_delimiter(lines: Sequence[str]) -> tuple[str, str | None]:
    """The delimiter and quote under which rows are most alike in their number of fields.

    One column is taken where no delimiter fits.
    """
    head = [line for line in lines[:500] if line.strip()]
    text = "".join(head)
    num_decimal_commas = len(re.findall(r"(?<=\d),(?=\d)", text))
    # A decimal comma ("1,5;tcp") stands between digits wherever it stands; a tie is the rarer character's.
    candidates = [d for d in ("\t", ";", "|", ",") if d in text]
    if len(candidates) > 1 and num_decimal_commas >= 0.9 * text.count(","):
        candidates = [delimiter for delimiter in candidates if delimiter != ","]
    best, best_score = (",", '"'), (0.0, 0)
    for quote in ('"', None):
        for delimiter in candidates:
            widths = Counter(len(row) for row in split_rows(head, delimiter, quote) if row)
            if not widths:
                continue
            width, num_rows = widths.most_common(1)[0]
            # Rows that vanish inside a quote that is never closed must not count as agreement.
            score = (0.0, 0) if width < 2 else (round(num_rows / sum(widths.values()), 2), width)
            if quote is None and score[0] < best_score[0] + 0.1:
                continue
            if score > best_score:
                best, best_score = (delimiter, quote), score
    return best if best_score[0] >= 0.5 else (",", '"')


def split_rows(lines: Sequence[str], delimiter: str, quote: str | None) -> list[list[str]]:
    """Fields of each line, quotes removed; blank lines are left out."""
    reader = csv.reader(
        io.StringIO("".join(lines), newline=""),
        delimiter=delimiter,
        quotechar=quote or '"',
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    try:
        return [row for row in reader if row]
    except csv.Error:  # a field beyond the csv module's size limit: not with this quote
        return []


def detect_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names.

    It does not if a cell of it is a number, an address, a date or a missing-value marker, or if one of its cells
    occurs again below it.

    >>> detect_header([["dur", "proto"], ["1.5", "tcp"]]), detect_header([["0", "tcp"], ["1", "udp"]])
    (True, False)
    >>> detect_header([["tcp", "http"], ["udp", "dns"], ["tcp", "smtp"]])
    False
    """
    first = [cell.strip() for cell in rows[0]]
    if len(first) > 2 and first in (
        [str(i) for i in range(len(first))],
        [str(i + 1) for i in range(len(first))],
    ):
        return True  # a table saved with its positions as names
    if any(NUMBER.fullmatch(cell) or NEVER_A_NAME.fullmatch(cell) for cell in first):
        return False
    below = [{row[index].strip() for row in rows[1:] if index < len(row)} for index in range(len(first))]
    return not any(cell and cell in values for cell, values in zip(first, below, strict=True))


def clean_names(raw: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Column names that are stripped, not blank and unique; and a note for each that had to be changed.

    >>> clean_names([" dur", "", "bytes", "bytes"])
    (('dur', 'column_2', 'bytes', 'bytes_2'), {'column_2': 'the name is blank in the file', ...})
    """
    names: list[str] = []
    notes: dict[str, str] = {}
    taken = {name.strip().removeprefix("\ufeff") for name in raw}
    for position, text in enumerate(raw, start=1):
        name = wanted = text.strip().removeprefix("\ufeff").strip() or f"column_{position}"
        copy = 1
        while name in names or (copy > 1 and name in taken):
            copy += 1
            name = f"{wanted}_{copy}"
        names.append(name)
        if name != wanted:
            notes[name] = f"the file has another column named {wanted!r}"
        elif not text.strip():
            notes[name] = "the name is blank in the file"
    return tuple(names), notes
