"""Context columns of a log that is cut into shards: equal to those of one pass, and computed before scoring.

Workers read what context needs of each shard (`read_endpoints`). One process slides the windows over these,
in the order of the log, and writes the context columns of each shard to a file, which its worker appends.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, cast, final

import pyarrow as pa

from wirebert.cluster.executors import Executor
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.staging import staged
from wirebert.cluster.storage import Storage
from wirebert.data.context.context import FlowContext, has_context, with_columns
from wirebert.data.context.endpoints import ENDPOINT_COLUMNS, FlowEndpoints, read_endpoints
from wirebert.data.flows import Flows
from wirebert.errors import DataError

_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression="lz4")
_USABLE: Final = "is_usable"


def context_in_order(
    flows: Flows, placed: Sequence[PlacedShard], executor: Executor, folder: Storage
) -> Sequence[PlacedShard]:
    """The shards of a log, each with the file of its context columns, which are kept in the folder.

    A single shard computes its own, and others need none if the schema has no context, or the log no times.
    """
    windows = flows.schema.context
    if windows is None or len(placed) == 1 or not has_context(flows.parts[0].names):
        return placed
    if not all(folder.exists(_columns_of(one)) for one in placed):
        unread = [one for one in placed if not folder.exists(_ends_of(one))]
        for _ in executor.run(ReadEndpoints(flows=flows, folder=folder), unread):
            pass
        context = FlowContext(windows)
        for one in placed:
            with _writer(folder, _columns_of(one)) as write:
                for ends in _batches(folder, _ends_of(one)):
                    values = {name: ends[name].to_numpy() for name in ends.column_names}
                    is_usable = values.pop(_USABLE)
                    write(context.columns(is_usable, FlowEndpoints(**values)))
    return [replace(one, new_context=partial(ContextColumns, folder, _columns_of(one))) for one in placed]


@final
@dataclass(frozen=True, kw_only=True)
class ReadEndpoints:
    """A job: write what context needs of a shard."""

    flows: Flows
    folder: Storage

    def load(self) -> Any:
        """What reads a shard."""
        return self._read

    def _read(self, placed: PlacedShard) -> None:
        columns = tuple(one for one in self.flows.schema.columns if one.name in ENDPOINT_COLUMNS)
        flows = replace(self.flows, schema=replace(self.flows.schema, columns=columns, context=None))
        with staged(flows, placed) as some, _writer(self.folder, _ends_of(placed)) as write:
            for table in some.blocks():
                is_usable, rows = read_endpoints(table)
                arrays = {name: pa.array(values) for name, values in rows._asdict().items()}
                write(pa.table({**arrays, _USABLE: pa.array(is_usable)}))


@final
class ContextColumns:
    """Appends the columns of a file to the tables of a shard, in order."""

    def __init__(self, folder: Storage, name: str) -> None:
        self._tables = _batches(folder, name)
        self._rest: pa.Table | None = None

    def append(self, table: pa.Table) -> pa.Table:
        """The next table of the shard, with its context columns at the end."""
        while self._rest is None or self._rest.num_rows < table.num_rows:
            more = next(self._tables)
            self._rest = more if self._rest is None else pa.concat_tables([self._rest, more])
        columns = self._rest.slice(0, table.num_rows).combine_chunks()
        self._rest = self._rest.slice(table.num_rows)
        return with_columns(table, columns)


def _ends_of(placed: PlacedShard) -> str:
    return f"{placed.shard.id}.endpoints.arrows"


def _columns_of(placed: PlacedShard) -> str:
    return f"{placed.shard.id}.context.arrows"


@contextmanager
def _writer(folder: Storage, name: str) -> Generator[Any]:
    """Writes tables with the same columns to a stream, which appears when the block ends."""
    with folder.new_file(name) as sink:
        writers: list[pa.RecordBatchStreamWriter] = []

        def write(table: pa.Table) -> None:
            if not writers:
                writers.append(pa.ipc.new_stream(cast(Any, sink), table.schema, options=_OPTIONS))
            writers[0].write_table(table)

        yield write
        for writer in writers:
            writer.close()


def _batches(folder: Storage, name: str) -> Iterator[pa.Table]:
    """The tables of a stream, one after the other; none of an empty file.

    Raises:
        DataError: there is no such file.
    """
    if (size := folder.size(name)) is None:
        raise DataError(
            f"{folder.path(name)}: expected what a worker wrote for context columns, found nothing; on "
            "several nodes give folders that all of them reach (TMPDIR for `inspect`), and start again"
        )
    if size:
        with folder.system.open_input_stream(folder.path(name)) as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
