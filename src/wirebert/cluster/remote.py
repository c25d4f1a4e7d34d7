"""Parquet files of an object store as `Flows`, of which only footers and some first rows are read."""

import hashlib
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pyarrow as pa
from pyarrow import parquet

from wirebert.cluster.storage import Storage, is_uri
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError
from wirebert.files import path_of, unnamed_file

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
    with unnamed_file("wirebert-first-rows-", in_memory=True) as stub:  # a kill leaves no copy of traffic
        try:
            with Storage.of(uris[0]).open_parquet("") as file:
                batches = file.iter_batches(_FIRST_ROWS)
                first = next(batches, None)
                rows = file.schema_arrow.empty_table() if first is None else pa.Table.from_batches([first])
                parquet.write_table(rows, cast(Any, stub))
        except (OSError, pa.ArrowException) as error:
            reason = " ".join(str(error).split())[:200]
            raise DataError(f"{uris[0]}: cannot be read ({reason}); check that it is complete") from error
        stub.flush()
        flows = open_flows(path_of(stub), config, schema=schema)
    parts = tuple(replace(flows.parts[0], path=Path(one), where=one) for one in uris)
    return replace(flows, name=uri, parts=parts, files=(), listing=())


def open_any(data: str, config: DataConfig, schema: FlowSchema) -> Flows:
    """The traffic at a path or URI, under the schema of a model."""
    return (
        open_remote_flows(data, config, schema) if is_uri(data) else open_flows(data, config, schema=schema)
    )


def fingerprint_of(flows: Flows) -> str:
    """`Flows.fingerprint`, also of files in an object store, each of which is read once more."""
    if not is_uri(flows.parts[0].where):
        return flows.fingerprint()
    digest = hashlib.sha256()
    for storage in (Storage.of(part.where) for part in flows.parts):
        digest.update(f"{storage.size('')}\n".encode())
        for piece in storage.pieces(""):
            digest.update(piece)
    return digest.hexdigest()


def _is_flows(path: str) -> bool:
    """Whether a file below the URI is read: Parquet, and no part of its path hidden or about other files."""
    parts = [part for part in PurePosixPath(path).parts if part != "/"]
    is_hidden = any(part.startswith((".", "_")) for part in parts)
    return not is_hidden and (not parts or PurePosixPath(path).suffix.lower() in (".parquet", ".pq"))
