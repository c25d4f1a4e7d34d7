"""Verdicts of a whole file, in input order, written as they come."""

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Protocol, cast, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from pyarrow import csv, parquet

from wirebert.data.accounting import ParseStats
from wirebert.data.context.context import FlowContext
from wirebert.data.flows import Flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.errors import DataError
from wirebert.files import atomic_file
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.explanations import explain_rows, needs_explanation
from wirebert.prefetch import prefetch

_LOCATING = frozenset({ColumnKind.TIME, ColumnKind.IDENTIFIER, ColumnKind.ADDRESS, ColumnKind.PORT})
"""Kinds of columns by which a person finds a flow again in the original log."""
_OURS = (
    "row",
    "file",
    "line",
    "predicted_class",
    "attack_score",
    "novelty",
    "alert_score",
    "verdict",
    "explanation",
    "label",
    "true_class",
)
"""Names that mean the same in every verdict table (the last two where true classes are known)."""
_PREFIX = "flow_"
PART_ROWS = 16_384
"""Rows that go through a detector at a time: enough to find equal ones, few enough that the stages overlap."""
FORMULA = r"^([=+\-@\t\r\n])"
"""What a spreadsheet takes for a formula."""
_MAX_WHOLE = 2.0**53
"""Below this size every whole number is a float64 of its own."""


def verdict_table(
    table: pa.Table,
    scores: Scores,
    schema: FlowSchema,
    rows: Int64[np.ndarray, " flows"],
    places: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """One line per flow: `row`, its `places` (file, line) if they are known, the locating columns, `predicted_class`, `p_CLASS` of each class, `attack_score`,
    and where the detector has them `novelty`, `alert_score` (if it is not the attack score) and `verdict`.

    A locating column that bears such a name is called `flow_NAME`. A port that is no whole number is missing.
    """
    probabilities = {f"p_{name}": scores.probabilities[:, at] for at, name in enumerate(scores.classes)}
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"row": pa.array(rows), **(places or {})}
    located = [c for c in schema.columns if c.kind in _LOCATING and c.name in table.column_names]
    names = _names_apart([column.name for column in located], (*_OURS, *probabilities))
    for name, column in zip(names, located, strict=True):
        values = _plain(table.column(column.name))
        columns[name] = _whole(values) if column.kind is ColumnKind.PORT else values
    columns["predicted_class"] = pa.array(scores.classes, pa.string()).take(
        pa.array(scores.class_ids, pa.int64())
    )
    columns |= {name: pa.array(values) for name, values in probabilities.items()}
    if scores.attack_score is not None:
        columns["attack_score"] = pa.array(scores.attack_score)
    if scores.novelty is not None:
        columns["novelty"] = pa.array(scores.novelty)
    if scores.combined_alert is not None and scores.alert_score is not None:
        columns["alert_score"] = pa.array(scores.alert_score)
    if (verdict := scores.verdict) is not None:
        columns["verdict"] = pa.array(verdict, pa.string())
    return pa.table(columns)


def predict_blocks(
    detector: Detector,
    flows: Flows,
    misfits: InvalidValues | None = None,
    *,
    explained: Literal["alerts", "all"] | None = None,
    context: FlowContext | None = None,
    first_row: int = 0,
) -> Iterator[pa.Table]:
    """Verdict tables of a file, in input order; memory is bounded by a few blocks. `misfits` gets what did not fit.

    Reading and encoding, scoring, and what the caller does with a table overlap. `explained` flows get a column `explanation`:
    `alerts` are those of another class than the benign one, alerts and unknown flows, and all where none is known to be
    benign.

    A `row` is counted from `first_row` over the rows that can be used; `line` is where it begins in its file, for delimited text and
    key-value lines; `file` is there for several files.

    `context` is that of the flows before these (see `Flows.blocks`).

    Without a row there is one table all the same, so that a file of verdicts always has its columns.
    """
    misfits = misfits or InvalidValues()
    encoded = ((part, detector.encode(part.table)) for part in _parts(flows, misfits, context, first_row))
    scored = ((part, block, detector.score(part.table, block)) for part, block in prefetch(encoded))
    for part, block, scores in prefetch(scored):
        verdicts = verdict_table(part.table, scores, detector.schema, part.rows, part.places)
        if explained is not None:
            everyone = np.ones(len(block), np.bool_)
            chosen = everyone if explained == "all" else needs_explanation(scores)
            verdicts = verdicts.append_column(
                "explanation", explain_rows(detector, part.table, block, scores, chosen)
            )
        yield verdicts


class _Part(NamedTuple):
    """Some rows of a file."""

    table: pa.Table
    rows: Int64[np.ndarray, " rows"]
    places: dict[str, pa.Array]


def _parts(
    flows: Flows, misfits: InvalidValues, context: FlowContext | None, first_row: int
) -> Iterator[_Part]:
    """The rows of the file, at most `PART_ROWS` at a time; one part without rows if there is none."""
    misfits.lines.finds_lines = True
    blocks = flows.blocks(misfits, context)
    for table in chain([next(blocks, no_rows(flows))], blocks):
        rows = np.arange(first_row, first_row + table.num_rows, dtype=np.int64)
        first_row += table.num_rows
        places = _places(flows, misfits.lines, table.num_rows)
        for start in range(0, max(table.num_rows, 1), PART_ROWS):
            part = slice(start, start + PART_ROWS)
            cut = {name: values.slice(start, PART_ROWS) for name, values in places.items()}
            yield _Part(table.slice(start, PART_ROWS), rows[part], cut)


def _places(flows: Flows, lines: ParseStats, num_rows: int) -> dict[str, pa.Array]:
    """Where rows stand: `file` if there are several, and `line` in formats that have lines of their own."""
    places: dict[str, pa.Array] = {}
    if len(flows.parts) > 1:
        places["file"] = pa.repeat(lines.row_file, num_rows)
    if all(part.dialect.format in ("delimited", "key_values") for part in flows.parts):
        found = np.empty(0, np.int64) if lines.row_lines is None else lines.row_lines
        places["line"] = pa.array(found)
    return places


def no_rows(flows: Flows) -> pa.Table:
    """A typed table with the columns of `flows` and without a row."""
    columns = [column for column in flows.schema.columns if column.name in flows.parts[0].names]
    types = {column.name: pa.float64() if column.kind.is_numeric else pa.string() for column in columns}
    return pa.table({name: pa.array([], kind) for name, kind in types.items()})


class TableWriter(Protocol):
    """Takes verdict tables of one layout, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


@final
class CsvWriter:
    """Comma-separated values with a header; texts are quoted where they need it.

    A text or name that a spreadsheet would take for a formula gets an apostrophe in front: what hosts send is not to be run.

    Source:
        OWASP, CSV Injection: cells that begin with =, +, -, @, tab, carriage return or line feed.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        table = table.rename_columns([_no_formula(name) for name in table.column_names])
        for place, column in enumerate(table.columns):
            if pa.types.is_list(column.type):
                column = cast(pa.ChunkedArray, pc.binary_join(column, "; "))
                table = table.set_column(place, table.column_names[place], column)
            if pa.types.is_string(column.type):
                texts = cast(pa.ChunkedArray, pc.replace_substring_regex(column, FORMULA, r"'\1"))
                table = table.set_column(place, table.column_names[place], texts)
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
class JsonLinesWriter:
    """One JSON object a line; missing values, and numbers that are not finite, are null."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        pieces: list[pa.Array] = []
        for name, column in zip(table.column_names, table.columns, strict=True):
            key = f"{', ' if pieces else '{'}{json.dumps(name, ensure_ascii=False)}: "
            pieces += [pa.repeat(key, table.num_rows), _json_texts(column)]
        ends = [pa.repeat("}\n", table.num_rows), pa.repeat("", table.num_rows)]
        lines = pc.binary_join_element_wise(*pieces, *ends)
        # The lines as one list, joined once more: the text of the whole table.
        joined = cast(pa.Array, pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), ""))
        self._sink.write(joined[0].as_buffer())

    def close(self) -> None:
        """Nothing is pending."""


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
    ".jsonl": JsonLinesWriter,
    ".parquet": ParquetWriter,
}


@contextmanager
def open_writer(path: Path) -> Generator[TableWriter]:
    """A writer by the file's ending; the file appears under its name when everything is written.

    Raises:
        DataError: another ending, or the file exists already (it is left as it is).
    """
    ending = path.suffix.lower()
    if ending not in WRITERS:
        endings = ", ".join(WRITERS)
        raise DataError(
            f"--out {path}: expected a name that ends in one of {endings}, found {path.suffix!r}; rename it"
        )
    if path.exists():
        raise DataError(
            f"--out {path}: expected a new file, found one that exists; it is left as it is, choose another name"
        )
    if not path.parent.is_dir():
        raise DataError(f"--out {path}: the folder {path.parent} does not exist; make it first")
    with (
        atomic_file(path) as temporary,
        _open(temporary, path) as sink,
        closing(WRITERS[ending](sink)) as writer,
    ):
        yield writer


def _open(temporary: Path, path: Path) -> BinaryIO:
    try:
        return temporary.open("wb")
    except OSError as error:
        raise DataError(
            f"--out {path}: can not be written ({error.strerror}); choose another place"
        ) from error


def _names_apart(names: Sequence[str], ours: Sequence[str]) -> list[str]:
    """`names` with a prefix before those that are among `ours`, such that no two are equal.

    >>> _names_apart(["row", "ts", "flow_row"], ["row", "predicted_class"])
    ['flow_flow_row', 'ts', 'flow_row']
    """
    taken = {*names, *ours}
    apart: list[str] = []
    for name in names:
        if name in ours:
            while name in taken:
                name = _PREFIX + name
        taken.add(name)
        apart.append(name)
    return apart


def _no_formula(name: str) -> str:
    return f"'{name}" if re.match(FORMULA, name) else name


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _whole(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """The whole numbers among `numbers` as integers; the others are missing."""
    values = numbers.to_numpy(zero_copy_only=False)
    is_whole = (np.abs(values) < _MAX_WHOLE) & (values == np.floor(values))
    whole = np.where(is_whole, values, 0).astype(np.int64)
    return pa.chunked_array([pa.array(whole, mask=~is_whole)])


def _json_texts(column: pa.ChunkedArray) -> pa.Array:
    """Each value as JSON; texts are written once per distinct value."""
    values = column.combine_chunks()
    if pa.types.is_list(values.type):
        lists = cast(pa.ListArray, values)
        texts = _json_texts(pa.chunked_array([lists.flatten()]))
        joined = cast(pa.StringArray, pc.binary_join(pa.ListArray.from_arrays(_offsets(lists), texts), ", "))
        opened, closed = (pa.repeat(bracket, len(lists)) for bracket in "[]")
        bracketed = pc.binary_join_element_wise(opened, joined, closed, pa.repeat("", len(lists)))
        return pc.if_else(lists.is_null(), "null", bracketed)
    if pa.types.is_string(values.type):
        coded = values.dictionary_encode()
        texts = [json.dumps(text, ensure_ascii=False) for text in coded.dictionary.to_pylist()]
        return pa.array(texts, pa.string()).take(coded.indices).fill_null("null")
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_finite(values), values, pa.scalar(None, values.type))
    return values.cast(pa.string()).fill_null("null")


def _offsets(lists: pa.ListArray) -> pa.Int32Array:
    """Where the lists begin in `lists.flatten()`, and where the last ends."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    return pa.array(np.insert(np.cumsum(lengths), 0, 0), pa.int32())
