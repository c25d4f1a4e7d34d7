"""Parquet files of an object store as `Flows`, of which only footers and some first rows are read."""

import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pyarrow import parquet

from wirebert.cluster.storage import Storage
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError

_FIRST_ROWS = 1_000


def open_remote_flows(uri: str, config: DataConfig, schema: FlowSchema) -> Flows:
    """The Parquet files at or below a URI, sorted by path, under the schema of a model.

    Raises:
        DataError: there is none, or the first cannot be read.
        SchemaError: its columns do not fit the schema.
    """
    storage = Storage.of(uri)
    paths = [info.path for info in storage.list() if _is_flows(info.path.removeprefix(storage.root))]
    if not paths:
        raise DataError(
            f"{uri}: expected Parquet files, found none; copy files of other formats to a disk first"
        )
    scheme, _, rest = uri.partition("://")
    query = f"?{rest.partition('?')[2]}" if "?" in rest else ""
    uris = [f"{scheme}://{path}{query}" for path in paths]
    with tempfile.TemporaryDirectory(prefix="wirebert-") as folder:
        stub = Path(folder) / "flows.parquet"
        try:
            with Storage.of(uris[0]).open_parquet("") as file:
                batches = file.iter_batches(_FIRST_ROWS)
                first = next(batches, None)
                rows = file.schema_arrow.empty_table() if first is None else pa.Table.from_batches([first])
                parquet.write_table(rows, stub)
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{uris[0]}: cannot be read ({reason}); check that it is complete") from error
        flows = open_flows(stub, config, schema=schema)
    parts = tuple(replace(flows.parts[0], where=one) for one in uris)
    return replace(flows, name=uri, parts=parts, files=(), listing=())


def _is_flows(path: str) -> bool:
    """Whether a file below the URI is read: Parquet, and no part of its path hidden or about other files."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    is_hidden = any(part.startswith((".", "_")) for part in parts)
    return not is_hidden and (not parts or PurePosixPath(path).suffix.lower() in (".parquet", ".pq"))
