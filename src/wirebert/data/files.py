"""One traffic file: its path, format, column names and raw rows."""

import glob
import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.delimited import reader as delimited
from wirebert.data.delimited.detection import detect_dialect, detect_header
from wirebert.data.delimited.preamble import names_above, read_arff
from wirebert.data.dialect import (
    HEAD_BYTES,
    Compression,
    ContentDigest,
    Dialect,
    clean_names,
    decode_head,
    read_head,
    whole_lines,
)
from wirebert.data.formats import SUFFIXES, open_source
from wirebert.data.other_formats import refuse_other_formats
from wirebert.data.readers import key_values, parquet
from wirebert.data.readers.json_layout import json_blocks, layout_of, plain_head
from wirebert.data.readers.source import Source
from wirebert.data.schema.matching import NameMatch
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.text_encoding import detect_encoding
from wirebert.errors import DataError, NoFlowsError
from wirebert.untrusted_text import printable_name

DATA_SUFFIXES = {
    ".csv",
    ".tsv",
    ".txt",
    ".log",
    ".data",
    ".parquet",
    ".pq",
    ".kv",
} | SUFFIXES
DOCUMENTS = ("README", "LICENSE", "LICENCE", "CHANGELOG", "CITATION", "COPYING")
"""Files that come with data sets, by the beginning of their names."""
ABOUT = "it is about the data"
HEAD_LINES = 100
PACKED_SUFFIXES = {".gz", ".bz2", ".xz", ".zst", ".zip"}


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowFile:
    """One file, its format, and the names of its columns."""

    path: Path
    where: str
    """The name of the file in messages."""
    dialect: Dialect
    names: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)
    """Column -> how its name in the file was changed."""
    is_ascii: bool = False
    """The head is plain ASCII, so the encoding of the rest is unknown."""
    first_rows: tuple[tuple[str, ...], ...] = ()
    """Rows from the head, for recognising a known schema."""
    is_named_above: bool = False
    """The names stand above the table, not in a header."""
    title: str = ""
    """What its reader is, and how its events are laid out; empty for formats with a dialect."""
    source: Source | None = None
    """Reader of formats other than delimited text, Parquet and key-value lines."""
    match: NameMatch = field(default_factory=NameMatch)
    """How columns of a schema are called in the file, and which of its numbers have another unit."""
    unnamed: tuple[str, ...] = ()
    """Features of a model that no row of the file names, where rows name their own columns: they are read as
    missing, like those that some rows leave out."""
    row_groups: range | None = None
    """Row groups of a Parquet file that are read; None: all."""

    @property
    def described(self) -> str:
        """The format in words."""
        return self.title or self.dialect.describe()

    @property
    def has_names(self) -> bool:
        """Whether the file itself names its columns."""
        return self.dialect.format != "delimited" or self.dialect.has_header or self.is_named_above

    @property
    def is_read_forwards(self) -> bool:
        """Whether `raw_blocks` reads the file once and in order, so that it can hash the bytes."""
        is_text = self.source is None and self.dialect.format == "delimited"
        return is_text and self.dialect.compression != "zip"

    def raw_blocks(
        self,
        block_bytes: int,
        parse_stats: ParseStats | None = None,
        content: ContentDigest | None = None,
        opened: io.BufferedReader | None = None,
        wanted: Collection[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Blocks of the raw values in the file, all with the same columns, under the schema's names.

        Args:
            block_bytes: Approximate size of a block.
            parse_stats: Receives the counts of the file's lines.
            content: Receives the file's bytes, if `is_read_forwards`.
            opened: The file, if it is already open; only delimited text is read from it.
            wanted: The names that are needed; of Parquet, no others are read. None: all.
        """
        as_in_file = dict(zip(self.names, self._names_in_file, strict=True))
        named = {in_file: name for name, in_file in as_in_file.items()}
        needed = None if wanted is None else {as_in_file.get(name, name) for name in wanted}
        for block in self._blocks_as_named(block_bytes, parse_stats, content, opened, needed):
            yield (
                block.rename_columns([named[name] for name in block.column_names])
                if self.match.renamed
                else block
            )

    @property
    def _names_in_file(self) -> tuple[str, ...]:
        return tuple(self.match.renamed.get(name, name) for name in self.names)

    def _blocks_as_named(
        self,
        block_bytes: int,
        parse_stats: ParseStats | None,
        content: ContentDigest | None,
        opened: io.BufferedReader | None,
        wanted: Collection[str] | None,
    ) -> Iterator[pa.Table]:
        """The blocks under the names in the file."""
        names = self._names_in_file
        if self.source is not None:
            for block in self.source.read(block_bytes, parse_stats):
                yield _with_columns(block, names)
        elif self.dialect.format == "parquet":
            yield from parquet.read_parquet(
                self.path, block_bytes, names=names, wanted=wanted, row_groups=self.row_groups
            )
        elif self.dialect.format == "key_values":
            for block in key_values.read_key_values(
                self.path, self.dialect, block_bytes, where=self.where, parse_stats=parse_stats
            ):
                yield _with_columns(block, names)
        else:
            yield from delimited.read_delimited(
                self.path,
                self.dialect,
                block_bytes,
                names=names,
                where=self.where,
                parse_stats=parse_stats,
                content=content if self.is_read_forwards else None,
                opened=opened,
            )


def find_files(data: str) -> tuple[Path, ...]:
    """The files that `data` names, sorted; of a folder, its data files without hidden ones."""
    path = Path(data)
    if path.is_file():
        return (path,)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and is_data(file.relative_to(path)))
        if not files:
            suffixes = ", ".join(sorted(DATA_SUFFIXES))
            raise DataError(
                f"{path}: expected traffic files ({suffixes}, compressed or not), found none in the folder"
            )
        return tuple(files)
    # A pattern may be absolute, which Path.glob refuses.
    matched = glob.glob(data, recursive=True) if glob.has_magic(data) else []  # noqa: PTH207
    files = sorted(file for file in map(Path, matched) if file.is_file())
    if not files:
        raise DataError(f"{data}: no such file, folder or pattern; check the path")
    return tuple(files)


def is_data(path: Path) -> bool:
    """Whether a file of a folder is read: by its name, relative to the folder."""
    if path.name.upper().startswith(DOCUMENTS):
        return False
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return (
        bool(suffixes)
        and suffixes[-1] in DATA_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
    )


def reason_to_skip(path: Path) -> str:
    """Why a file of a folder that is no data file is not read, and what to do."""
    if path.name.upper().startswith(DOCUMENTS):
        return ABOUT
    try:
        head = read_head(path, 512)[0]
        refuse_other_formats(head, "utf-8", path.name)
    except DataError as error:
        return str(error).removeprefix(f"{path.name}: ").removeprefix(f"{path}: ")
    if not head:
        return "it is empty"
    return f"a name that ends in {path.suffix!r} is not that of a traffic file; rename it, or give it by name"


def stem_of(path: Path) -> str:
    """`KDDTrain+.txt.gz` -> `KDDTrain+`."""
    name = path.name
    for suffix in reversed(path.suffixes):
        if suffix.lower() not in DATA_SUFFIXES | PACKED_SUFFIXES:
            break
        name = name[: -len(suffix)]
    return printable_name(name or path.name or "flows")


def open_file(
    path: Path,
    where: str,
    config: DataConfig,
    schema: FlowSchema | None,
    opened: io.BufferedReader | None = None,
) -> FlowFile:
    """The file with its dialect and column names, detected from its head.

    Under a `schema`, a first row that contains one of its column names is always a header.
    """
    head, compression = read_head(path, opened=opened)
    if config.delimiter is None:  # with a delimiter, the file is plain delimited text
        layout = layout_of(head)
        events = head if layout is None else plain_head(head, layout)
        if layout is not None and not events:
            events = next(json_blocks(path, compression, config.block_mb << 20, where), b"")
        source = open_source(path, events, compression, where, config.block_mb << 20, schema)
        if source is not None:
            dialect = Dialect(format=source.format, compression=compression)
            title = (
                source.title
                if layout is None or layout.is_lines
                else source.title.replace("JSON lines", "JSON")
            )
            described = ", ".join(filter(None, [title, layout.described if layout else ""]))
            return FlowFile(
                path=path, where=where, dialect=dialect, names=source.names, source=source, title=described
            )
        arff = _open_arff(path, where, head, compression, config)
        if arff is not None:
            return arff
    dialect = detect_dialect(head, compression, where, config)
    if dialect.format == "parquet":
        if compression != "none":
            raise DataError(
                f"{where}: expected plain Parquet, found it inside {compression}; unpack it first"
            )
        raw, num_rows = parquet.read_parquet_names(path)
        names, notes = clean_names(raw)
        return _checked(FlowFile(path=path, where=where, dialect=dialect, names=names, notes=notes), num_rows)
    if dialect.format == "key_values":
        keys = key_values.read_keys(path, dialect, config.block_mb << 20, where=where)
        return FlowFile(path=path, where=where, dialect=dialect, names=keys, is_ascii=head.isascii())
    return _open_delimited(path, where, head, dialect, config, schema)


def _open_arff(
    path: Path, where: str, head: bytes, compression: Compression, config: DataConfig
) -> FlowFile | None:
    encoding = config.encoding or detect_encoding(head, is_whole=len(head) < HEAD_BYTES)
    lines = whole_lines(decode_head(head, encoding), is_whole=len(head) < HEAD_BYTES)
    arff = read_arff(lines, where)
    if arff is None:
        return None
    dialect = Dialect(
        compression=compression,
        encoding=encoding,
        quote=arff.quote,
        escape="\\",
        comment="%",
        skip_lines=arff.skip_lines,
        has_header=False,
        blanks_before_quotes=True,
    )
    names, notes = clean_names(arff.names)
    rows = table_rows(lines, dialect)
    part = FlowFile(
        path=path,
        where=where,
        dialect=dialect,
        names=names,
        notes=notes,
        is_ascii=head.isascii(),
        first_rows=tuple(tuple(cell.strip() for cell in row) for row in rows[:1000]),
        is_named_above=True,
        title="ARFF",
    )
    return _checked(part, len(rows))


def _open_delimited(
    path: Path, where: str, head: bytes, dialect: Dialect, config: DataConfig, schema: FlowSchema | None
) -> FlowFile:
    is_whole = len(head) < HEAD_BYTES
    text = decode_head(head, dialect.encoding)
    lines = whole_lines(text, is_whole=is_whole, footer_lines=dialect.footer_lines)
    rows = table_rows(lines, dialect)
    if not rows:
        raise DataError(f"{where}: expected a table of flows, found no row; check the file or data.delimiter")
    if config.has_header is None:
        named = {cell.strip() for cell in rows[0]} & set(schema.names if schema else ())
        dialect = replace(dialect, has_header=bool(named) or detect_header(rows))
    width = max(Counter(map(len, rows)).items(), key=lambda item: (item[1], item[0]))[0]
    above = None if dialect.has_header else names_above(lines[:HEAD_LINES], width, dialect.delimiter)
    raw = header_cells(rows, width) if dialect.has_header else above or [""] * width
    names, notes = clean_names(raw)
    first = tuple(tuple(cell.strip() for cell in row) for row in rows[dialect.has_header :][:1000])
    if (
        not first
        and dialect.quote
        and any(record.is_broken for record in dialect.grammar.split("".join(lines)))
    ):
        raise DataError(
            f"{where}: expected rows below the header, found none whose quotes ({dialect.quote}) are closed "
            "at the end of a field; correct them, or set data.quote"
        )
    part = FlowFile(
        path=path,
        where=where,
        dialect=dialect,
        names=names,
        notes=notes if dialect.has_header or above else {},
        is_named_above=above is not None,
        is_ascii=head.isascii(),
        first_rows=first,
    )
    return _checked(part, len(first))


def table_rows(lines: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """The rows of the head and its header, without comments, blank lines and lines before the table."""
    first, *rest = lines[dialect.skip_lines :] or [""]
    if dialect.comment is not None:
        first = first.removeprefix(dialect.comment).lstrip()
        rest = [line for line in rest if not line.startswith(dialect.comment)]
    text = "".join([first, *rest])
    return [record.cells for record in dialect.grammar.split(text) if not record.is_broken]


def header_cells(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Names for `width` columns; a header may omit the column of row numbers or that of a trailing delimiter.

    >>> header_cells([["dur", "proto"], ["1", "5", "tcp"]], 3)
    ['', 'dur', 'proto']
    >>> header_cells([["dur", "proto"], ["5", "tcp", ""]], 3)
    ['dur', 'proto', '']
    """
    header, below = list(rows[0]), [row for row in rows[1:] if len(row) == width]
    if len(header) == width - 1:
        has_empty_end = all(not row[-1].strip() for row in below)
        return [*header, ""] if has_empty_end else ["", *header]
    return [*header, *[""] * (width - len(header))][:width]


def _checked(part: FlowFile, num_rows: int) -> FlowFile:
    if num_rows == 0:
        raise NoFlowsError(
            f"{part.where}: expected rows below the header, found none; give a file that holds flows"
        )
    return part


def _with_columns(block: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """The block with all columns of its file; columns that the block lacks are null."""
    nulls = pa.nulls(block.num_rows, pa.string())
    found = dict(zip(block.column_names, block.columns, strict=True))
    return pa.table({name: found.get(name, nulls) for name in names})
