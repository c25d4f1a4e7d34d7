"""Verdicts of a whole file, in input order, written as they come."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64
from pyarrow import csv, parquet

from wirebert.data.loading import Flows
from wirebert.data.schema import ColumnKind, FlowSchema
from wirebert.errors import DataError
from wirebert.serving.detector import Detector, Scores

_LOCATING = frozenset({ColumnKind.TIME, ColumnKind.IDENTIFIER, ColumnKind.ADDRESS, ColumnKind.PORT})
"""Kinds of columns by which a person finds a flow again in the original log."""


def verdict_table(
    table: pa.Table, scores: Scores, schema: FlowSchema, rows: Int64[np.ndarray, " flows"]
) -> pa.Table:
    """One line per flow: `row`, the locating columns, `predicted_class`, `p_CLASS` of each class, `attack_score`."""
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"row": pa.array(rows)}
    for column in schema.columns:
        if column.kind in _LOCATING and column.name in table.column_names:
            columns[column.name] = _plain(table.column(column.name), whole=column.kind is ColumnKind.PORT)
    names = np.asarray(scores.classes, dtype=object)
    columns["predicted_class"] = pa.array(names[scores.class_ids].tolist(), pa.string())
    for index, name in enumerate(scores.classes):
        columns[f"p_{name}"] = pa.array(scores.probabilities[:, index])
    attack_score = scores.attack_score
    if attack_score is not None:
        columns["attack_score"] = pa.array(attack_score)
    return pa.table(columns)


def predict_blocks(detector: Detector, flows: Flows) -> Iterator[pa.Table]:
    """Verdict tables of a file's blocks, in input order; memory is bounded by one block."""
    first_row = 0
    for table in flows.blocks():
        rows = np.arange(first_row, first_row + table.num_rows, dtype=np.int64)
        first_row += table.num_rows
        yield verdict_table(table, detector.score(table), detector.schema, rows)


class TableWriter(Protocol):
    """Takes verdict tables of one layout, one after the other."""

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        ...

    def close(self) -> None:
        """Write what is pending."""
        ...


class CsvWriter:
    """Comma-separated values with a header; texts are quoted where they need it."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._writer: csv.CSVWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        if self._writer is None:
            self._writer = csv.CSVWriter(
                self._sink, table.schema, write_options=csv.WriteOptions(quoting_style="needed")
            )
        self._writer.write_table(table)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()


class JsonLinesWriter:
    """One JSON object a line; missing values are null."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def write(self, table: pa.Table) -> None:
        """Append the rows of `table`."""
        lines = (json.dumps(row, ensure_ascii=False) for row in table.to_pylist())
        self._sink.write("".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Nothing is pending."""


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
def open_writer(path: Path) -> Iterator[TableWriter]:
    """A writer by the file's ending; the file appears under its name when everything is written.

    Raises:
        DataError: another ending, or the file exists already (it is left as it is).
    """
    if path.suffix not in WRITERS:
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
    aside = path.with_name(path.name + ".part")
    try:
        with aside.open("wb") as sink:
            writer = WRITERS[path.suffix](sink)
            yield writer
            writer.close()
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _plain(column: pa.ChunkedArray, *, whole: bool) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pc.cast(column, pa.int64(), safe=False) if whole else column
