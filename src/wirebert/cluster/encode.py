"""Tokenizer and encoded flows of a training by pieces of its typed rows, with the bytes of one process."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa

from wirebert.cluster.executors import Executor, run_in_order
from wirebert.data.flows import FlowSubset, select_rows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.typed_rows import TypedPiece, read_pieces, read_typed_rows
from wirebert.encoding.columns import TrainingCounts
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer, count_rows
from wirebert.errors import DataError
from wirebert.shapes import Bool, Int64
from wirebert.telemetry.processors import peak_memory_mb
from wirebert.untrusted_text import warn


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceRows:
    """Rows of a piece of typed rows."""

    folder: Path
    piece: TypedPiece
    selected: Bool[np.ndarray, " rows"] | None
    """True for each row; None: all rows."""

    def blocks(self) -> Iterator[tuple[pa.Table, Int64[np.ndarray, " rows"]]]:
        """Typed tables, each with their row numbers in the file."""
        return select_rows(
            read_typed_rows(self.folder, self.piece), self.selected, first_row=self.piece.first_row
        )

    def tables(self) -> Iterator[pa.Table]:
        """The typed tables without row numbers."""
        return (table for table, _ in self.blocks())


def pieces_of(subset: FlowSubset) -> list[PieceRows]:
    """The pieces of the typed rows of a subset, in the order of its rows."""
    folder = subset.flows.typed_rows
    assert folder is not None, "a training parses its file before it encodes"
    return [
        PieceRows(
            folder=folder.absolute(),
            piece=piece,
            selected=None
            if subset.rows is None
            else subset.rows[piece.first_row : piece.first_row + piece.num_rows],
        )
        for piece in read_pieces(folder)
    ]


@final
@dataclass(frozen=True)
class CountValues:
    """A job: count the values of training rows, for the tokenizer."""

    schema: FlowSchema

    def load(self) -> Callable[[PieceRows], TrainingCounts]:
        """What counts a piece."""
        return lambda rows: count_rows(self.schema, rows.tables())


def count_by_shards(schema: FlowSchema, train: FlowSubset, executor: Executor) -> TrainingCounts:
    """What `count_rows` counts in the training rows."""
    whole = count_rows(schema, [])
    for counts in run_in_order(executor, CountValues(schema), pieces_of(train)):
        whole.merge(counts)
    return whole


@final
@dataclass(frozen=True)
class EncodePieces:
    """A job: encode a piece into a store of its own."""

    tokenizer: FlowTokenizer
    classes: ClassMap
    label: str | None
    """None: every row has class 0."""
    folder: Path

    def load(self) -> Callable[[PieceRows], int]:
        """What encodes a piece; its result is the most memory of the worker in MB."""
        return self._encode

    def path_of(self, rows: PieceRows) -> Path:
        """The store of a piece."""
        return self.folder / f"{rows.piece.first_row:012d}"

    def _encode(self, rows: PieceRows) -> int:
        if not self.is_finished(rows):
            with StoreWriter(self.path_of(rows), self.tokenizer.dtype) as store:
                encode_blocks(store, rows.blocks(), self.tokenizer, self.classes, self.label)
        return peak_memory_mb()

    def is_finished(self, rows: PieceRows) -> bool:
        """Whether a worker, perhaps of an earlier start, has encoded the piece."""
        try:
            EncodedFlows.open(self.path_of(rows))
        except DataError:
            return False
        return True


def encode_by_shards(store: StoreWriter, subset: FlowSubset, job: EncodePieces, executor: Executor) -> None:
    """Write what `encode_blocks` writes for all rows of the subset; finished pieces are kept on failure."""
    pieces = pieces_of(subset)
    peak_mb = max(executor.run(job, pieces))
    for rows in pieces:
        flows = EncodedFlows.open(job.path_of(rows))
        store.append(flows.block, flows.class_ids, flows.rows)
    shutil.rmtree(job.folder)
    warn(f"{subset.name}: encoded; pieces: {len(pieces):,}, at most {peak_mb:,} MB a worker")


def encode_blocks(
    store: StoreWriter,
    blocks: Iterator[tuple[pa.Table, Int64[np.ndarray, " rows"]]],
    tokenizer: FlowTokenizer,
    classes: ClassMap,
    label: str | None,
) -> None:
    """Append typed tables with their row numbers to a store."""
    for table, rows in blocks:
        none = np.zeros(len(rows), np.int64)
        class_ids = none if label is None else classes.encode(table.column(label))
        store.append(tokenizer.encode(table), class_ids, rows)
