"""An untrusted Arrow IPC stream -> a table of plain columns.

For speed, Arrow trusts its data, so a stream is validated before use. Nothing in it may expand: no compressed
buffers, no nested or run-length types, and dictionaries stay dictionaries.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Collection
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.readers.arrow_messages import DAMAGED, declared_batches
from wirebert.service.limits import Limits, RequestError


def read_stream(body: bytes, wanted: Collection[str], limits: Limits) -> pa.Table:
    """The `wanted` columns: numbers, text (also dictionary-encoded), booleans as 1 and 0, times as text.

    Raises:
        RequestError: the stream is damaged or compressed, has too many rows or columns, or a nested column.
    """
    try:
        _refuse_compressed(body)
        with pa.ipc.open_stream(body) as reader:
            limits.require_columns(len(reader.schema))
            chosen = _chosen(reader.schema, wanted)
            batches: list[pa.RecordBatch] = []
            num_rows = 0
            for batch in reader:
                num_rows += batch.num_rows
                limits.require_rows(num_rows)
                some = batch.select(chosen)
                some.validate(full=True)
                batches.append(some)
            schema = pa.schema([reader.schema.field(name) for name in chosen])
        table = pa.Table.from_batches(batches, schema)
        return pa.table({name: _plain(table[name], name, limits) for name in chosen})
    except DAMAGED as error:
        raise RequestError(
            400, f"expected an Arrow stream, found a damaged one ({_first_line(error)})"
        ) from error


def _chosen(schema: pa.Schema, wanted: Collection[str]) -> list[str]:
    names = [name for name in schema.names if name in wanted]
    for name in names:
        if names.count(name) > 1:
            raise RequestError(422, f"expected each column once, found {name!r} twice")
        kind = schema.field(name).type
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not _is_flat(inner):
            raise RequestError(
                422, f"column {name!r}: expected numbers, text, truth values or times, found {kind}"
            )
    return names


def _is_flat(kind: pa.DataType) -> bool:
    is_kind = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_timestamp,
        pa.types.is_null,
    )
    return any(test(kind) for test in is_kind)


def _plain(column: pa.ChunkedArray, name: str, limits: Limits) -> pa.Array:
    """One array of float64, of text, or of dictionary<int32, string>."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        pieces = [pa.array([], kind), *column.unify_dictionaries().chunks]
        coded = cast(pa.DictionaryArray, pa.concat_arrays(pieces))
        values = _plain(pa.chunked_array([coded.dictionary]), name, limits)
        if not pa.types.is_string(values.type):
            return values.take(coded.indices)
        return pa.DictionaryArray.from_arrays(coded.indices.cast(pa.int32()), values)
    if pa.types.is_timestamp(kind):
        column = cast(pa.ChunkedArray, pc.strftime(column, format="%Y-%m-%dT%H:%M:%S"))
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8()).cast(pa.string())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind):
        column = column.cast(pa.string())
    else:
        column = column.cast(pa.float64(), safe=False)
    if pa.types.is_string(column.type):
        limits.require_short(name, column)
    chunks: list[pa.Array] = [pa.array([], column.type), *column.chunks]
    return pa.concat_arrays(chunks)


def _refuse_compressed(body: bytes) -> None:
    """Check the heads of all messages, so that a small stream cannot expand into a large one."""
    if any(batch.is_compressed for batch in declared_batches(pa.ipc.MessageReader.open_stream(body))):
        raise RequestError(
            415, "expected an Arrow stream with plain buffers, found compressed ones; write it without"
        )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
