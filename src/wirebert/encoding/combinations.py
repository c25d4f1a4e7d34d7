"""Columns computed from two others (`FlowSchema.combinations`); the encoder treats them as features."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic only in the type stubs: the classes take no arguments at run time.)

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.schema.combination import Combination
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.columns import Blocks
from wirebert.shapes import Bool, Float64

SEPARATOR = "|"
KINDS = {"ratio": ColumnKind.NUMBER, "share": ColumnKind.RATE, "pair": ColumnKind.CATEGORY}


def all_features(schema: FlowSchema) -> tuple[Column, ...]:
    """The schema's features and its combinations, text columns last."""
    combined = [
        Column(name=combination.name, kind=KINDS[combination.operation], is_feature=True)
        for combination in schema.combinations
    ]
    return tuple(sorted([*schema.features, *combined], key=lambda column: column.kind is ColumnKind.TEXT))


def combined_blocks(blocks: Blocks, combinations: Sequence[Combination]) -> Blocks:
    """The blocks with a column for each combination."""
    return partial(_combined, blocks, combinations) if combinations else blocks


def _combined(blocks: Blocks, combinations: Sequence[Combination]) -> Iterator[pa.Table]:
    tables: Iterable[pa.Table] = blocks() if callable(blocks) else blocks
    for block in tables:
        yield combine(block, combinations)


def combine(table: pa.Table, combinations: Sequence[Combination]) -> pa.Table:
    """The table with a column for each combination whose two columns it has.

    >>> ratio = Combination(name="bytes_per_packet", operation="ratio", columns=("bytes", "packets"))
    >>> table = pa.table({"bytes": [90.0, 5.0, None], "packets": [3.0, 0.0, 1.0]})
    >>> combine(table, [ratio])["bytes_per_packet"].to_pylist()
    [30.0, None, None]
    """
    for combination in combinations:
        first, second = combination.columns
        if first in table.column_names and second in table.column_names:
            made = _made(combination, table[first], table[second])
            table = table.append_column(pa.field(combination.name, made.type), made)
    return table


def absent_parts(
    is_absent: Mapping[str, Bool[np.ndarray, " rows"]], combinations: Sequence[Combination]
) -> dict[str, Bool[np.ndarray, " rows"]]:
    """`is_absent` extended to combinations: a combination is absent where one of its columns is."""
    extended = dict(is_absent)
    for combination in combinations:
        parts = [is_absent[column] for column in combination.columns if column in is_absent]
        if parts:
            extended[combination.name] = np.logical_or.reduce(parts)
    return extended


def _made(combination: Combination, first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array:
    if combination.operation == "pair":
        return _pairs(first, second)
    a, b = _numbers(first), _numbers(second)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        divisor = b if combination.operation == "ratio" else a + b
        result = np.where(divisor == 0, np.nan, a / divisor)
    return pa.array(result, pa.float64(), from_pandas=True)  # NaN is null


def _numbers(column: pa.ChunkedArray) -> Float64[np.ndarray, " rows"]:
    parts = [np.empty(0, np.float64)]
    for chunk in column.chunks:
        plain = chunk.dictionary.take(chunk.indices) if isinstance(chunk, pa.DictionaryArray) else chunk
        parts.append(np.asarray(plain.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64))
    return np.concatenate(parts)


def _pairs(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array:
    """Both values as one text; a missing value is empty, and the pair is null if both are missing."""
    (left_values, left), (right_values, right) = distinct_values(first), distinct_values(second)
    distinct, index = np.unique(left * (len(right_values) + 1) + right, return_inverse=True)
    texts: list[str | None] = []
    for code in distinct.tolist():
        a, b = divmod(code, len(right_values) + 1)
        one = left_values[a].as_py() if a < len(left_values) else None
        other = right_values[b].as_py() if b < len(right_values) else None
        texts.append(None if one is None and other is None else f"{one or ''}{SEPARATOR}{other or ''}")
    codes = pa.array(index.astype(np.int32), pa.int32())
    return pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
