"""A file, a folder, a glob or standard input -> `Flows`: typed tables under one schema, read in bounded blocks."""

import glob
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import pyarrow as pa

from wirebert.data.conversion import Misfits, convert
from wirebert.data.dialect import (
    HEAD_BYTES,
    Dialect,
    Encoding,
    clean_names,
    decode_head,
    detect_dialect,
    detect_header,
    read_head,
    split_rows,
    whole_lines,
)
from wirebert.data.inference import infer_schema, take_sample
from wirebert.data.schema import FlowSchema, known_schemas, missing_name, read_schema, recognise
from wirebert.data.sources import delimited, key_values, parquet
from wirebert.errors import ConfigError, DataError, SchemaError

DATA_SUFFIXES = {".csv", ".tsv", ".txt", ".log", ".data", ".parquet", ".pq", ".labeled", ".binetflow", ".kv"}
PACKED_SUFFIXES = {".gz", ".bz2", ".xz", ".zst", ".zip"}


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What the traffic files mean, where it is not found out by itself."""

    label: str | None = None
    """The label column. Unset: the schema's, or the column that looks like one."""

    benign: str | None = None
    """The class that means "no attack". Unset: the schema's, or a known name such as normal or benign."""

    schema: str | None = None
    """Name of a known schema, or a TOML file. Unset: recognised or inferred."""

    block_mb: int = 8
    """Size of the blocks in which files are read, in [1, 1024] MB; no row may be longer."""

    max_misfit_fraction: float = 0.01
    """Share of a column's rows, in [0, 1], that may hold what is no number where numbers are due."""

    valid_fraction: float = 0.1
    """Share of the training rows kept for validation, in (0, 0.5]."""

    delimiter: str | None = None
    """What stands between fields, one character. Unset: detected."""

    encoding: Encoding | None = None
    """How the text is encoded. Unset: detected."""

    has_header: bool | None = None
    """Whether the first row holds the names. Unset: detected."""

    def __post_init__(self) -> None:
        if not 1 <= self.block_mb <= 1024:
            raise ConfigError(f"data.block_mb must be in [1, 1024], got {self.block_mb}")
        if not 0 <= self.max_misfit_fraction <= 1:
            raise ConfigError(f"data.max_misfit_fraction must be in [0, 1], got {self.max_misfit_fraction}")
        if not 0 < self.valid_fraction <= 0.5:
            raise ConfigError(f"data.valid_fraction must be in (0, 0.5], got {self.valid_fraction}")
        if self.delimiter is not None and (len(self.delimiter) != 1 or not self.delimiter.isascii()):
            raise ConfigError(f"data.delimiter must be one ASCII character, got {self.delimiter!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowFile:
    """One file, how it is written, and what its columns are called."""

    path: Path
    where: str
    """How messages call it."""
    dialect: Dialect
    names: tuple[str, ...]
    notes: dict[str, str] = field(default_factory=dict)
    """What had to be changed about a name."""
    first_rows: tuple[tuple[str, ...], ...] = ()
    """Some rows from the head, to recognise a known schema by."""

    @property
    def has_names(self) -> bool:
        """Whether the file itself says what its columns are called."""
        return self.dialect.format != "delimited" or self.dialect.has_header

    def raw_blocks(self, block_bytes: int) -> Iterator[pa.Table]:
        """Blocks as the file has them, nothing interpreted, all with the same columns."""
        if self.dialect.format == "parquet":
            yield from parquet.read(self.path, block_bytes, names=self.names)
        elif self.dialect.format == "key_values":
            for block in key_values.read(self.path, self.dialect, block_bytes, where=self.where):
                yield _with_columns(block, self.names)
        else:
            yield from delimited.read(
                self.path, self.dialect, block_bytes, names=self.names, where=self.where
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """Labelled or unlabelled traffic on disk, under a schema."""

    name: str
    files: tuple[Path, ...]
    schema: FlowSchema
    config: DataConfig
    parts: tuple[FlowFile, ...]
    spool: "IO[bytes] | None" = None
    """Holds standard input, which is read several times; goes with this object."""

    @property
    def dialect(self) -> Dialect:
        """How the (first) file is written."""
        return self.parts[0].dialect

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def absent(self) -> tuple[str, ...]:
        """Features of the schema that the files lack."""
        return tuple(column.name for column in self.schema.features if column.name not in self.parts[0].names)

    @property
    def extra(self) -> tuple[str, ...]:
        """Columns of the files that the schema does not name; they are not read."""
        return tuple(name for name in self.parts[0].names if name not in self.schema.names)

    def require_label(self) -> str:
        """The label column; a SchemaError that lists the columns if the files have none."""
        label = self.schema.label
        if label is None:
            names = ", ".join(self.parts[0].names)
            raise SchemaError(
                f"{self.parts[0].where}: expected a label column, found none among {names}; name it with --label"
            )
        if label not in self.parts[0].names:
            raise SchemaError(
                f"{self.parts[0].where}: {missing_name('label column', label, self.parts[0].names)}"
            )
        return label

    def blocks(self, misfits: Misfits | None = None) -> Iterator[pa.Table]:
        """Typed tables in file order; see `convert`. Can be called again and gives the same blocks.

        Args:
            misfits: gets what did not fit, once a file is read to its end.

        Raises:
            DataError: a file is damaged or ragged, or too many values of a column do not fit.
        """
        for part in self.parts:
            first_row, counted = 1, Misfits()
            for block in part.raw_blocks(self.config.block_mb << 20):
                yield convert(block, self.schema, misfits=counted, first_row=first_row)
                first_row += block.num_rows
            counted.check(self.config.max_misfit_fraction, part.where)
            if misfits is not None:
                misfits.merge(counted)

    def fingerprint(self) -> str:
        """Sha256 over the sizes and contents of the files, as hexadecimal text."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(f"{path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        return digest.hexdigest()


def open_flows(
    data: str | Path, config: DataConfig | None = None, *, schema: FlowSchema | None = None
) -> Flows:
    """The traffic in a file, a folder (its data files, by name), a glob, or `-` (standard input).

    Without a schema, one is recognised or inferred. Under the `schema` of a trained model, columns are matched by name,
    or by position where the file has no header, and the label may be missing.

    Raises:
        DataError: nothing can be read there.
        SchemaError: the columns do not fit the schema, or the label column is not there.
    """
    config = config or DataConfig()
    spool = _spool_stdin() if str(data) == "-" else None
    paths = list(find_files(str(data))) if spool is None else [Path(spool.name)]
    name = "stdin" if spool is not None else _stem(Path(data) if len(paths) > 1 else paths[0])
    given = schema or _schema_of(config)
    parts = [_open_file(path, str(path) if spool is None else "stdin", config, given) for path in paths]
    for part in parts[1:]:
        if set(part.names) != set(parts[0].names):
            odd = sorted(set(part.names) ^ set(parts[0].names))[0]
            raise SchemaError(
                f"{part.where}: expected the columns of {parts[0].where}, found a difference at {odd!r}; "
                "give files of one layout"
            )
    recognised = given or recognise(parts[0].names if parts[0].has_names else None, parts[0].first_rows)
    if recognised is not None:
        parts = [_under(part, recognised) for part in parts]
    else:
        parts, recognised = _infer(parts, name, config)
    chosen = _apply(config, recognised, parts[0]) if schema is None else recognised
    files = tuple(part.path for part in parts)
    return Flows(name=name, files=files, schema=chosen, config=config, parts=tuple(parts), spool=spool)


def find_files(data: str) -> tuple[Path, ...]:
    """The files that `data` names, sorted; hidden files, and in a folder files of other kinds, are left out."""
    path = Path(data)
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.is_file() and _is_data(file.relative_to(path))]
        if not found:
            suffixes = ", ".join(sorted(DATA_SUFFIXES))
            raise DataError(
                f"{path}: expected traffic files ({suffixes}, packed or not), found none in the folder"
            )
        return tuple(sorted(found))
    # A pattern may be absolute, which Path.glob refuses.
    matched = [Path(name) for name in glob.glob(data, recursive=True)] if glob.has_magic(data) else []  # noqa: PTH207
    files = sorted(file for file in matched if file.is_file())
    if not files:
        raise DataError(
            f"{data}: expected a file, a folder, a glob or -, found nothing there; check the path"
        )
    return tuple(files)


def _is_data(path: Path) -> bool:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return (
        bool(suffixes)
        and suffixes[-1] in DATA_SUFFIXES
        and not any(part.startswith(".") for part in path.parts)
    )


def _stem(path: Path) -> str:
    """`KDDTrain+.txt.gz` -> `KDDTrain+`."""
    name = path.name
    for suffix in reversed(path.suffixes):
        if suffix.lower() not in DATA_SUFFIXES | PACKED_SUFFIXES:
            break
        name = name[: -len(suffix)]
    return name or path.name or "flows"


def _spool_stdin() -> "IO[bytes]":
    spool = tempfile.NamedTemporaryFile(prefix="wirebert-stdin-")  # noqa: SIM115 -- lives as long as its Flows
    while chunk := sys.stdin.buffer.read(1 << 20):
        spool.write(chunk)
    spool.flush()
    return spool


def _schema_of(config: DataConfig) -> FlowSchema | None:
    if config.schema is None:
        return None
    known = known_schemas()
    if config.schema in known:
        return known[config.schema]
    if not Path(config.schema).is_file():
        raise SchemaError(f"--schema: {missing_name('schema or file', config.schema, known)}")
    return read_schema(Path(config.schema))


def _open_file(path: Path, where: str, config: DataConfig, schema: FlowSchema | None) -> FlowFile:
    head, compression = read_head(path)
    dialect = detect_dialect(head, compression, where)
    if dialect.format == "parquet":
        if compression != "none":
            raise DataError(
                f"{where}: expected plain Parquet, found it inside {compression}; unpack it first"
            )
        raw, num_rows = parquet.read_names(path)
        names, notes = clean_names(raw)
        return _checked(FlowFile(path=path, where=where, dialect=dialect, names=names, notes=notes), num_rows)
    dialect = _override(dialect, config)
    if dialect.format == "key_values":
        keys: dict[str, None] = {}
        for block in key_values.read(path, dialect, config.block_mb << 20, where=where):
            keys.update(dict.fromkeys(block.column_names))
        return FlowFile(path=path, where=where, dialect=dialect, names=tuple(keys))
    lines = whole_lines(decode_head(head, dialect.encoding), is_whole=len(head) < HEAD_BYTES)
    rows = split_rows(lines, dialect.delimiter, dialect.quote)
    if not rows:
        raise DataError(f"{where}: expected a table of flows, found no row; check the file or data.delimiter")
    if config.has_header is None:
        named = {cell.strip() for cell in rows[0]} & set(schema.names if schema else ())
        is_header = bool(named) or detect_header(rows)
        dialect = replace(dialect, has_header=is_header)
    names, notes = clean_names(rows[0] if dialect.has_header else [""] * len(rows[0]))
    first = tuple(tuple(cell.strip() for cell in row) for row in rows[dialect.has_header :][:1000])
    part = FlowFile(
        path=path,
        where=where,
        dialect=dialect,
        names=names,
        notes=notes if dialect.has_header else {},
        first_rows=first,
    )
    return _checked(part, len(first))


def _checked(part: FlowFile, num_rows: int) -> FlowFile:
    if num_rows == 0:
        raise DataError(
            f"{part.where}: expected rows below the header, found none; give a file that holds flows"
        )
    return part


def _override(dialect: Dialect, config: DataConfig) -> Dialect:
    """The dialect with what the user decided."""
    return replace(
        dialect,
        encoding=config.encoding or dialect.encoding,
        delimiter=config.delimiter or dialect.delimiter,
        format="delimited" if config.delimiter else dialect.format,
        has_header=dialect.has_header if config.has_header is None else config.has_header,
    )


def _with_columns(block: pa.Table, names: tuple[str, ...]) -> pa.Table:
    """The block with all columns of its file; keys that no line of it has are null."""
    nulls = pa.nulls(block.num_rows, pa.string())
    return pa.table({name: block[name] if name in block.column_names else nulls for name in names})


def _under(part: FlowFile, schema: FlowSchema) -> FlowFile:
    """The file with the schema's names; a SchemaError if it can not be of this schema."""
    if part.has_names:
        if {column.name for column in schema.features}.isdisjoint(part.names):
            raise SchemaError(
                f"{part.where}: expected columns of schema {schema.name!r} ({', '.join(schema.names[:8])}, ...), found "
                f"{', '.join(part.names[:8])}, ...; give a file of that layout or another --schema"
            )
        return part
    names = schema.positional_names(len(part.names))
    if names is None:
        raise SchemaError(
            f"{part.where}: expected the {len(schema.columns)} columns of schema {schema.name!r}, found "
            f"{len(part.names)} and no header; add a header line or give another --schema"
        )
    return replace(part, names=names, notes={})


def _infer(parts: list[FlowFile], name: str, config: DataConfig) -> tuple[list[FlowFile], FlowSchema]:
    """Names, encodings and schema of unknown files, by a pass over all of them."""
    block_bytes, names = config.block_mb << 20, parts[0].names
    try:
        sample, varied = take_sample(
            (block for part in parts for block in part.raw_blocks(block_bytes)), names
        )
    except delimited.NotUtf8Error:
        if config.encoding is not None:
            raise
        parts = [replace(part, dialect=replace(part.dialect, encoding="cp1252")) for part in parts]
        sample, varied = take_sample(
            (block for part in parts for block in part.raw_blocks(block_bytes)), names
        )
    if sample.num_rows == 0:
        raise DataError(f"{parts[0].where}: expected rows, found none; give a file that holds flows")
    label = None if config.label is None else _label_name(config.label, parts[0].names)
    inferred = infer_schema(sample, name=name, label=label, notes=parts[0].notes, varied=varied)
    return parts, inferred


def _label_name(label: str, names: tuple[str, ...]) -> str:
    """The label column; a position, counted from 1, names it too where no column is called so."""
    if label not in names and label.isdecimal() and 1 <= int(label) <= len(names):
        return names[int(label) - 1]
    return label


def _apply(config: DataConfig, schema: FlowSchema, part: FlowFile) -> FlowSchema:
    """The schema with the label and benign class that the user named."""
    if config.label is not None:
        label = _label_name(config.label, part.names)
        if label not in part.names:
            raise SchemaError(f"{part.where}: {missing_name('label column', label, part.names)}")
        schema = schema.with_label(label)
    return schema if config.benign is None else replace(schema, benign=config.benign)
