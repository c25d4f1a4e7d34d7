"""A file, a folder, a glob or standard input -> `Flows`: typed tables under one schema, block by block."""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.accounting import MOST_REJECTED
from wirebert.data.config import DataConfig
from wirebert.data.context.context import ContextSource, FlowContext, has_context
from wirebert.data.dialect import ContentDigest, Dialect, open_binary
from wirebert.data.files import FlowFile, find_files, open_file, stem_of
from wirebert.data.findings import Finding
from wirebert.data.folders import (
    FileListing,
    check_vocabularies,
    describe_parts,
    list_files,
    skipped_finding,
)
from wirebert.data.formats import flow_files, joined_columns, shared_schema
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.data.schema.library import match_schema
from wirebert.data.schema.schema import ColumnKind, FlowSchema, missing_name
from wirebert.data.schema_settings import infer_from_files, schema_of, with_settings
from wirebert.data.sensors.formats import SENSOR_FORMATS
from wirebert.data.standard_input import StandardInput
from wirebert.data.typed_rows import read_typed_rows
from wirebert.data.under_schema import under_schema, with_community_id, with_optional
from wirebert.errors import DataError, NoFlowsError, SchemaError, UserError
from wirebert.shapes import Bool, Int64
from wirebert.untrusted_text import printable_name

__all__ = ["DataConfig", "FlowFile", "Flows", "find_files", "open_flows"]


MAX_COLUMNS = 2_000
"""As of JSON; checks compare columns with each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """Labelled or unlabelled traffic on disk, under a schema."""

    name: str
    files: tuple[Path, ...]
    schema: FlowSchema
    config: DataConfig
    parts: tuple[FlowFile, ...]
    spool: StandardInput | None = None
    """Standard input, which is read several times; its temporary copy is deleted with this object."""
    findings: tuple[Finding, ...] = ()
    """What was noticed while the files were opened, such as how names were matched."""
    listing: tuple[FileListing, ...] = ()
    """What became of each file that was named."""
    is_trained_on: bool = False
    """The labels of all files are to be those of one vocabulary, and few rows may be lost."""
    can_be_empty: bool = False
    """No flow at all is no error: it is a piece of a log."""
    typed_rows: Path | None = None
    """Folder of the typed rows of the files under this schema; see `wirebert.data.typed_rows`."""
    time_units: Mapping[str, str] = field(default_factory=dict)
    """Column of times -> how it is written, where these are later rows of a file; else its rows tell."""
    new_context: Callable[[], ContextSource] | None = None
    """What knows the context of later rows of a log; None: it is computed from the first row on."""

    @property
    def dialect(self) -> Dialect:
        """Format of the (first) file."""
        return self.parts[0].dialect

    @property
    def described(self) -> str:
        """Format of the files, in words."""
        return describe_parts(self.parts)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def absent(self) -> tuple[str, ...]:
        """Features of the schema that the files lack, or that no row of them names."""
        names = set(self.parts[0].names).difference(self.parts[0].unnamed)
        can_compute_context = has_context(names)
        return tuple(
            column.name
            for column in self.schema.features
            if column.name not in names and not (can_compute_context and self.schema.is_context(column.name))
        )

    def require_label(self) -> str:
        """The label column; a SchemaError that lists the columns if the files have none."""
        label = self.schema.label
        if label is None:
            notes = {
                c.name: f" ({c.note})"
                for c in self.schema.columns
                if c.kind is ColumnKind.CONSTANT and c.note
            }
            names = ", ".join(f"{name}{notes.get(name, '')}" for name in self.parts[0].names)
            raise SchemaError(
                f"{self.parts[0].where}: expected a label column, found none among {names}; name it with "
                "--label"
            )
        if label not in self.parts[0].names:
            raise SchemaError(
                f"{self.parts[0].where}: {missing_name('label column', label, self.parts[0].names)}"
            )
        return label

    @property
    def is_read_forwards(self) -> bool:
        """Whether the files can be hashed while they are parsed."""
        paths = tuple(part.path for part in self.parts)
        return paths == self.files and all(part.is_read_forwards for part in self.parts)

    @property
    def is_read_whole(self) -> bool:
        """Whether the files are read to their end before the first row: other events or logs join it."""
        return any(set(part.names) & joined_columns(part.dialect.format).keys() for part in self.parts)

    def blocks(
        self,
        invalid_values: InvalidValues | None = None,
        context: ContextSource | None = None,
        content: ContentDigest | None = None,
    ) -> Iterator[pa.Table]:
        """Typed tables in file order; see `convert`. Can be called again and gives the same blocks.

        Files are parsed, unless their typed rows are on disk and no argument is given.

        Args:
            invalid_values: Receives invalid values and rejected lines at the end of each file.
            context: Context of earlier flows, to which these are added; None starts without any.
            content: Receives the bytes of the files, if `is_read_forwards`.

        Raises:
            DataError: a file is damaged, or most of its rows are rejected; if it is trained on, more than
                `data.max_invalid_fraction` of its rows, or of the values of a column.
        """
        if self.typed_rows is not None and invalid_values is None and context is None and content is None:
            yield from read_typed_rows(self.typed_rows)
            return
        if context is None and self.schema.context is not None:  # the files are one log
            context = FlowContext(self.schema.context) if self.new_context is None else self.new_context()
        block_bytes = self.config.block_mb << 20
        num_rows, events, labels = 0, Counter[str](), list[set[str]]()
        for part in self.parts:
            first_row, invalid = 1, InvalidValues(time_units=dict(self.time_units))
            labels.append(set())
            if invalid_values is not None:
                invalid.lines.share(invalid_values.lines, part.where)
            for block in part.raw_blocks(block_bytes, invalid.lines, content, wanted=self.schema.names):
                table = convert(
                    block,
                    self.schema,
                    invalid=invalid,
                    first_row=first_row,
                    decimal_comma=part.dialect.decimal_comma,
                    factors=part.match.factors,
                )
                if invalid_values is not None:
                    invalid_values.lines.row_lines = invalid.lines.row_lines
                    invalid_values.lines.row_file = part.where
                if self.is_trained_on and len(self.parts) > 1 and self.schema.label in table.column_names:
                    labels[-1].update(filter(None, pc.unique(table[self.schema.label]).to_pylist()))
                yield table if context is None else context.append(table)
                first_row += block.num_rows
            for name, count in invalid.lines.num_odd.items():
                row, value = invalid.lines.odd_examples[name]
                invalid.add(name, [value], [row], count)
            invalid.lines.rows_by_file = {part.where: first_row - 1}
            num_rows += first_row - 1
            events.update(invalid.lines.events)
            check_vocabularies(self.parts, labels)
            self.check_usable(invalid, part.where)
            if invalid_values is not None:
                invalid_values.merge(invalid, part.where if len(self.parts) > 1 else "")

        if not num_rows and not self.can_be_empty:
            raise NoFlowsError(self.no_flows(events))

    def check_usable(self, invalid: InvalidValues, where: str) -> None:
        """Refuse a file of which too much cannot be used: where it is trained on, labels are lost with it.

        Raises:
            DataError: it is refused.
        """
        if self.is_trained_on:
            invalid.lines.check(self.config.max_invalid_fraction, where)
            invalid.check(self.config.max_invalid_fraction, where)
        elif not self.can_be_empty:
            invalid.lines.check(MOST_REJECTED, where)

    def no_flows(self, events: Mapping[str, int]) -> str:
        """The sentence for files without a flow."""
        sensor = SENSOR_FORMATS.get(self.dialect.format)
        found = ", ".join(f"{count:,} {kind}" for kind, count in Counter(events).most_common(10))
        return (
            f"{self.name}: expected flows, found none in {self.described}"
            f"{f' (events: {found})' if found else ''}; "
            f"{'give a file that holds flows' if sensor is None else sensor.table().remedy}"
        )

    def fingerprint(self) -> str:
        """Sha256 over the sizes and contents of the files, as hexadecimal text."""
        content = ContentDigest()
        for path in self.files:
            content.add(path)
        return content.hexdigest()


def open_flows(
    data: str | Path,
    config: DataConfig | None = None,
    *,
    schema: FlowSchema | None = None,
    can_be_empty: bool = False,
    is_live: bool = False,
) -> Flows:
    """The traffic in a file, a folder (its data files, by name), a glob, or `-` (standard input).

    Without a schema, one is recognised or inferred. Under the `schema` of a trained model, columns are
    matched by name, or by position in files without a header, and the label may be missing.

    Args:
        can_be_empty: No flow at all is no error, as in a piece of a log; else reading ends in a NoFlowsError.
        is_live: Of standard input only the first rows are awaited; others are read as they arrive.

    Raises:
        DataError: there is no file, or it cannot be read.
        SchemaError: the columns do not fit the schema, or the label column is missing.
    """
    config = config or DataConfig()
    spool = StandardInput(is_live=is_live) if str(data) == "-" else None
    found = find_files(str(data)) if spool is None else (spool.path,)
    paths = flow_files(found)
    name = "stdin" if spool is not None else stem_of(Path(data) if len(paths) > 1 else paths[0])
    given = schema or schema_of(config)
    # A single file stays open from format detection to the end of schema inference.
    is_kept_open = len(paths) == 1 and not (spool is not None and is_live)
    try:
        with open_binary(paths[0]) if is_kept_open else nullcontext() as opened:
            parts, skipped = _open_files(paths, config, given, opened, is_stdin=spool is not None)
            flows = _open_parts(parts, name, config, given, schema, spool, opened)
    except UserError:
        if spool is not None:
            spool.drain()
        raise
    if schema is not None:
        flows = replace(
            flows,
            parts=tuple(with_optional(part, schema) for part in flows.parts),
            schema=with_community_id(flows.schema, flows.parts[0]),
        )
    listing = list_files(str(data), found, parts, flows.schema.label, skipped) if spool is None else ()
    return replace(
        flows,
        listing=listing,
        findings=(*flows.findings, *skipped_finding(listing)),
        is_trained_on=schema is None,
        can_be_empty=can_be_empty,
    )


def _open_files(
    paths: Sequence[Path],
    config: DataConfig,
    given: FlowSchema | None,
    opened: io.BufferedReader | None,
    *,
    is_stdin: bool,
) -> tuple[list[FlowFile], dict[Path, str]]:
    """The files that hold flows; and others among several, with the reason."""
    parts: list[FlowFile] = []
    skipped: dict[Path, str] = {}
    for path in paths:
        where = "stdin" if is_stdin else printable_name(path)
        try:
            part = open_file(path, where, config, given, opened)
            if len(part.names) > MAX_COLUMNS:
                raise DataError(
                    f"{where}: expected at most {MAX_COLUMNS:,} columns, found {len(part.names):,}; keep "
                    "those that describe a flow"
                )
            parts.append(part)
        except NoFlowsError as error:
            if len(paths) == 1:
                raise
            skipped[path] = str(error).removeprefix(f"{where}: ")
    if not parts:
        first, reason = next(iter(skipped.items()))
        raise NoFlowsError(f"{first}: {reason}; none of the {len(paths)} files holds flows")
    return parts, skipped


def _open_parts(
    parts: list[FlowFile],
    name: str,
    config: DataConfig,
    given: FlowSchema | None,
    schema: FlowSchema | None,
    spool: StandardInput | None,
    opened: io.BufferedReader | None,
) -> Flows:
    shared, parts = _share_columns(parts)
    if shared is not None and config.schema == shared.name and schema is None:
        given = shared  # a sensor's logs are read under this schema anyway
    for part in parts[1:]:
        if set(part.names) != set(parts[0].names):
            differing = min(set(part.names) ^ set(parts[0].names))
            raise SchemaError(
                f"{part.where}: expected the columns of {parts[0].where}, found a difference at "
                f"{differing!r}; give files of one layout"
            )
    recognised = (
        given or shared or match_schema(parts[0].names if parts[0].has_names else None, parts[0].first_rows)
    )
    if recognised is not None:
        parts = [under_schema(part, recognised) for part in parts]
    else:
        parts, recognised = infer_from_files(parts, name, config, opened)
    if schema is None:
        recognised = with_settings(config, recognised, parts[0])
    joined = [path for part in parts if part.source is not None for path in part.source.joined_files]
    files = tuple(dict.fromkeys([*(part.path for part in parts), *joined]))
    findings = tuple(dict.fromkeys(finding for part in parts for finding in part.match.findings))
    return Flows(
        name=name,
        files=files,
        schema=recognised,
        config=config,
        parts=tuple(parts),
        spool=spool,
        findings=findings,
    )


def _share_columns(parts: list[FlowFile]) -> tuple[FlowSchema | None, list[FlowFile]]:
    """The canonical schema of sensor logs, and the logs under its columns; other files are unchanged."""
    names = tuple(dict.fromkeys(name for part in parts for name in part.names))
    shared = shared_schema([part.source for part in parts], names)
    if shared is None:
        return None, parts
    return shared, [replace(part, names=shared.names) for part in parts]


@dataclass(frozen=True)
class FlowSubset:
    """Some rows of a data set, such as the training rows of a file, or all rows of a test file."""

    name: str
    flows: Flows
    rows: Bool[np.ndarray, " flows"] | None = None
    """True for each row of the subset; None: all rows."""

    def blocks(self) -> Iterator[tuple[pa.Table, Int64[np.ndarray, " rows"]]]:
        """Typed tables of the subset's rows, each with their row numbers in the file."""
        return select_rows(self.flows.blocks(), self.rows)

    def tables(self) -> Iterator[pa.Table]:
        """The typed tables without row numbers."""
        return (table for table, _ in self.blocks())


def select_rows(
    tables: Iterable[pa.Table], rows: Bool[np.ndarray, " flows"] | None, first_row: int = 0
) -> Iterator[tuple[pa.Table, Int64[np.ndarray, " rows"]]]:
    """The rows of each table where `rows` is True (None: all), with their numbers from `first_row` on."""
    at = 0
    for table in tables:
        row_numbers = np.arange(at, at + table.num_rows, dtype=np.int64)
        at += table.num_rows
        if rows is not None:
            is_selected = rows[row_numbers]
            table, row_numbers = table.filter(pa.array(is_selected)), row_numbers[is_selected]
        if len(row_numbers):
            yield table, row_numbers + first_row
