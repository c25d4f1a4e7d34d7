"""Verdicts of a whole file, in input order, written block by block."""

import io
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, cast, final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from wirebert.alerts.ecs import EcsContext, ecs_events
from wirebert.alerts.flow_columns import flow_columns
from wirebert.data.accounting import ParseStats
from wirebert.data.context.context import FlowContext
from wirebert.data.flows import Flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import DataError
from wirebert.files import atomic_file
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.explanations import explain_rows, needs_explanation, strongest_alerts
from wirebert.inference.verdicts import verdict_table
from wirebert.prefetch import prefetch
from wirebert.shapes import Int64
from wirebert.untrusted_text import escape_control_chars

PART_ROWS = 16_384
"""Rows that a detector scores at a time: enough to share equal rows, few enough that the stages overlap."""
FORMULA = r"^([=+\-@\t\r\n])"
"""Texts that a spreadsheet would take for a formula."""


def predict_blocks(
    detector: Detector,
    flows: Flows,
    fit: TrafficFit | None = None,
    *,
    explained: Literal["alerts", "all", "incidents"] | None = None,
    context: FlowContext | None = None,
    first_row: int = 0,
    carried: Sequence[str] = (),
) -> Generator[pa.Table]:
    """Verdict tables of a file, in input order; memory is bounded by a few blocks.

    Reading and encoding, scoring, and the caller's work on a table overlap. `fit` collects values and rows
    that cannot be used, and values that training lacked. `explained` flows get a column `explanation`:
    `alerts` are flows predicted as attacks, alerts and unknown flows, or all flows if no class is known to be
    benign; `incidents` the strongest alerts of sources.

    `row` counts usable rows from `first_row`; `line` is where the row begins in its file, for delimited text
    and key-value lines; `file` is present for several files. `context` is that of the flows before these (see
    `Flows.blocks`). `carried` columns are in the verdict tables too.

    Without any row there is still one table, so that a file of verdicts always has its columns.
    """
    fit = fit or TrafficFit.of(detector.artifact.tokenizer, flows)
    parts = flow_parts(flows, fit.invalid_values, context, first_row)
    yield from predict_parts(detector, parts, fit, explained=explained, carried=carried)


def predict_parts(
    detector: Detector,
    parts: Iterator["FlowPart"],
    fit: TrafficFit,
    *,
    explained: Literal["alerts", "all", "incidents"] | None = None,
    carried: Sequence[str] = (),
) -> Generator[pa.Table]:
    """A verdict table of each part; see `predict_blocks`."""
    encoded = ((part, detector.encode(part.table)) for part in parts)
    scored = ((part, block, detector.score(part.table, block)) for part, block in prefetch(encoded))
    for part, block, scores in prefetch(scored):
        fit.add(part.table, block)
        verdicts = verdict_table(
            part.table,
            scores,
            detector.schema,
            part.rows,
            part.positions,
            fit.codes,
            seed=detector.community_id_seed,
            carried=carried,
        )
        if explained is not None:
            if explained == "incidents":
                source = flow_columns(verdicts.column_names).source
                chosen = strongest_alerts(scores, None if source is None else verdicts[source])
            else:
                everyone = np.ones(len(block), np.bool_)
                chosen = everyone if explained == "all" else needs_explanation(scores)
            verdicts = verdicts.append_column(
                "explanation", explain_rows(detector, part.table, block, scores, chosen)
            )
        yield verdicts


class FlowPart(NamedTuple):
    """Some rows of a file."""

    table: pa.Table
    rows: Int64[np.ndarray, " rows"]
    positions: dict[str, pa.Array]


def flow_parts(
    flows: Flows, invalid_values: InvalidValues, context: FlowContext | None, first_row: int
) -> Iterator[FlowPart]:
    """The rows of the file, at most `PART_ROWS` at a time; one part without rows if there is none."""
    invalid_values.lines.finds_lines = True
    blocks = flows.blocks(invalid_values, context)
    for table in chain([next(blocks, no_rows(flows))], blocks):
        rows = np.arange(first_row, first_row + table.num_rows, dtype=np.int64)
        first_row += table.num_rows
        positions = _positions(flows, invalid_values.lines, table.num_rows)
        for start in range(0, max(table.num_rows, 1), PART_ROWS):
            part = slice(start, start + PART_ROWS)
            cut = {name: values.slice(start, PART_ROWS) for name, values in positions.items()}
            yield FlowPart(table.slice(start, PART_ROWS), rows[part], cut)


def _positions(flows: Flows, lines: ParseStats, num_rows: int) -> dict[str, pa.Array]:
    """Locations of rows: `file` if there are several, and `line` in formats with one flow per line."""
    positions: dict[str, pa.Array] = {}
    if len(flows.parts) > 1:
        positions["file"] = pa.repeat(lines.row_file, num_rows)
    if all(part.dialect.format in ("delimited", "key_values") for part in flows.parts):
        # Without rows, the lines are still those of the block before, which may be of another piece of a log.
        row_lines = lines.row_lines if num_rows else None
        positions["line"] = pa.array(np.empty(0, np.int64) if row_lines is None else row_lines)
    return positions


def no_rows(flows: Flows) -> pa.Table:
    """A typed table with the columns of `flows` and no rows."""
    columns = [column for column in flows.schema.columns if column.name in flows.parts[0].names]
    types = {column.name: pa.float64() if column.kind.is_numeric else pa.string() for column in columns}
    return pa.table({name: pa.array([], kind) for name, kind in types.items()})


class TableWriter(Protocol):
    """Writes verdict tables with the same columns, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


@final
class CsvWriter:
    """Comma-separated values with a header; texts are quoted where they need it.

    A text or name that a spreadsheet would take for a formula is prefixed with an apostrophe: texts from
    hosts must not be executed.

    Source:
        OWASP, CSV Injection: cells that begin with =, +, -, @, tab, carriage return or line feed.
    """

    def __init__(self, sink: BinaryIO | io.BytesIO) -> None:
        self._sink = sink
        self._writer: csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        table = escaped_for_terminal(table) if self._sink.isatty() else table
        table = table.rename_columns([_no_formula(name) for name in table.column_names])
        for index, column in enumerate(table.columns):
            if pa.types.is_list(column.type):
                column = cast(pa.ChunkedArray, pc.binary_join(column, "; "))
                table = table.set_column(index, table.column_names[index], column)
            if pa.types.is_string(column.type):
                texts = cast(pa.ChunkedArray, pc.replace_substring_regex(column, FORMULA, r"'\1"))
                table = table.set_column(index, table.column_names[index], texts)
        if self._writer is None:
            self._writer = csv.CSVWriter(
                self._sink, table.schema, write_options=csv.WriteOptions(quoting_style="needed")
            )
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


@final
class LinesWriter:
    """One JSON object a line: what `encode` makes of the rows of a table."""

    def __init__(self, encode: Callable[[pa.Table], bytes], sink: BinaryIO) -> None:
        self._sink, self._encode = sink, encode

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        table = escaped_for_terminal(table) if self._sink.isatty() else table
        self._sink.write(self._encode(table))

    def close(self) -> None:
        """Nothing is pending."""


def _json_lines(table: pa.Table) -> bytes:
    """The rows as they are; missing values, and numbers that are not finite, are null."""
    return msgspec.json.Encoder().encode_lines(table.to_pylist())


def ecs_writer(context: EcsContext) -> Callable[[BinaryIO], LinesWriter]:
    """What opens a writer of events of the Elastic Common Schema."""

    def encode(table: pa.Table) -> bytes:
        return b"".join(b"%b\n" % event for event in ecs_events(table, context))

    return partial(LinesWriter, encode)


@final
class ParquetWriter:
    """Parquet, one row group a block."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: parquet.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._sink, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


WRITERS: dict[str, Callable[[BinaryIO], TableWriter]] = {
    ".csv": CsvWriter,
    ".jsonl": partial(LinesWriter, _json_lines),
    ".parquet": ParquetWriter,
}


@contextmanager
def open_writer(path: Path, ecs: EcsContext | None = None) -> Generator[TableWriter]:
    """A writer for the file's suffix, or with `ecs` of events; the file appears under its name when
    everything is written.

    Raises:
        DataError: another suffix, or the file already exists (it is kept).
    """
    ending = path.suffix.lower()
    kinds = WRITERS if ecs is None else {".jsonl": ecs_writer(ecs)}
    if ending not in kinds:
        endings = ", ".join(kinds)
        raise DataError(
            f"--out {path}: expected a name that ends in one of {endings}, found {path.suffix!r}; rename it"
        )
    if os.path.lexists(path):
        raise DataError(f"--out {path}: expected a new file, but it exists and is kept; choose another name")
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: the folder {path.parent} does not exist; create it first")
    try:
        with (
            atomic_file(path, replaces=False) as temporary,
            temporary.open("wb") as sink,
            closing(kinds[ending](sink)) as writer,
        ):
            yield writer
    except FileExistsError as error:
        raise DataError(
            f"--out {path}: expected a new file, found {error.filename2 or error.filename} in the way, which "
            "is kept; choose another name"
        ) from error
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(str(path)):
            raise
        raise DataError(f"--out {path}: cannot be written ({error.strerror}); choose another path") from error


def escaped_for_terminal(table: pa.Table) -> pa.Table:
    """The table for a terminal: control characters in its texts and names are escaped."""

    def escaped(value: object) -> object:
        if isinstance(value, list):
            return [escaped(item) for item in cast(list[object], value)]
        return escape_control_chars(value) if isinstance(value, str) else value

    columns = [pa.array([escaped(v) for v in column.to_pylist()], column.type) for column in table.columns]
    return pa.table(columns, names=[escape_control_chars(name) for name in table.column_names])


def _no_formula(name: str) -> str:
    return f"'{name}" if re.match(FORMULA, name) else name
