"""Feature matrices for methods other than the model, from encoded rows or typed tables.

Encoded rows become a matrix with a column for each slot, with left-out values restored. Of a text column only
the first token is included, which shows whether there is text.

Typed tables become numbers for boosted trees. Numbers and ports stay numbers. Categories, booleans and flags
become codes, by falling frequency in training; unseen values share one code (which scikit-learn treats as
missing where it splits by set). Text becomes a few statistics. Addresses are left out, since their codes
would be identities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import distinct_values
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.token_rows import TokenRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.shapes import Bool, Float64, Int64, Integer

if TYPE_CHECKING:
    AnyArray = pa.Array[Any]
    AnyChunkedArray = pa.ChunkedArray[Any]
else:  # Arrow's own classes take no type arguments at run time; its stubs insist on them.
    AnyArray = pa.Array
    AnyChunkedArray = pa.ChunkedArray


def slot_ids(tokenizer: FlowTokenizer, rows: TokenRows) -> Integer[np.ndarray, "rows slots"]:
    """The token of each slot; for a left-out slot, that of its most frequent value."""
    num_rows = len(rows.offsets) - 1
    matrix = np.tile(tokenizer.default_ids.astype(tokenizer.dtype), (num_rows, 1))
    ids = np.asarray(rows.ids)
    slots = tokenizer.token_slots[ids]
    is_slot = slots >= 0
    row_of = np.repeat(np.arange(num_rows), np.diff(rows.offsets))
    matrix[row_of[is_slot], slots[is_slot]] = ids[is_slot]
    return matrix


@dataclass(frozen=True, slots=True, eq=False)
class Ranks:
    """The rank of each token within its slot, for methods that split columns."""

    tokenizer: FlowTokenizer
    of_token: Float64[np.ndarray, " tokens"]
    """Numbers from low to high, <above> last, other special states NaN; other slots in vocabulary order."""
    is_ordered: Bool[np.ndarray, " slots"]
    """Which slots are numbers; the order of the other slots' ranks has no meaning."""

    @classmethod
    def of(cls, tokenizer: FlowTokenizer) -> "Ranks":
        """The ranks of a tokenizer's tokens."""
        token_slots, marks = tokenizer.token_slots, tokenizer.slot_special
        of_token = np.full(tokenizer.num_tokens, np.nan)
        is_ordered = np.zeros(len(tokenizer.slots), dtype=bool)
        for ids in tokenizer.ordered_numbers:
            slot = int(token_slots[ids[0]])
            is_ordered[slot] = True
            of_token[ids] = np.arange(len(ids))
            of_token[marks[slot, 1]] = len(ids)
        others = np.flatnonzero((token_slots >= 0) & ~is_ordered[token_slots])
        of_token[others] = others - marks[token_slots[others]].min(axis=1)
        return cls(tokenizer, of_token, is_ordered)

    def matrix(self, rows: TokenRows) -> Float64[np.ndarray, "rows slots"]:
        """The rank of each row's token in each slot."""
        return self.of_token[slot_ids(self.tokenizer, rows)]


LARGEST = 1e300
"""Replaces infinity, which the trees cannot bin."""

MAX_CATEGORIES = 254
"""Maximum categories that scikit-learn's trees can split by set, minus one for unseen values."""

_CODED = frozenset({ColumnKind.CATEGORY, ColumnKind.BOOLEAN, ColumnKind.FLAGS})
_BYTES_AT_ONCE = 4_000_000


@dataclass(frozen=True, slots=True)
class ColumnUsage:
    """How the trees use the columns of a schema, for the report."""

    numbers: tuple[str, ...]
    codes: tuple[str, ...]
    text_statistics: tuple[str, ...]
    left_out: tuple[str, ...]


def column_usage(schema: FlowSchema) -> ColumnUsage:
    """Which feature columns are numbers, codes, text statistics, or not used at all."""

    def names(*kinds: ColumnKind) -> tuple[str, ...]:
        return tuple(column.name for column in schema.features if column.kind in kinds)

    numbers = names(*(kind for kind in ColumnKind if kind.is_numeric))
    codes, texts = names(*_CODED), names(ColumnKind.TEXT)
    used = {*numbers, *codes, *texts}
    return ColumnUsage(numbers, codes, texts, tuple(c.name for c in schema.features if c.name not in used))


def extract_features(table: pa.Table, schema: FlowSchema) -> pa.Table:
    """The part that needs no fitting: numbers for numbers and texts, strings for columns to be coded.

    Feature columns that the table lacks are null in every row, so that tables of several files have the same
    columns.
    """
    use = column_usage(schema)
    columns: dict[str, AnyArray] = {}
    for column in schema.features:
        values = _column(table, column)
        if column.name in use.numbers:
            columns[column.name] = pa.array(_numbers(values), from_pandas=True)
        elif column.name in use.codes:
            columns[column.name] = values.cast(pa.string()).combine_chunks()
        elif column.name in use.text_statistics:
            for name, statistic in text_statistics(values).items():
                columns[f"{column.name} {name}"] = pa.array(statistic, from_pandas=True)
    return pa.table(columns)


@dataclass(frozen=True, slots=True)
class FeatureEncoder:
    """Maps tables of `extract_features` to matrices, with the codes of the training rows."""

    known: tuple[tuple[str, AnyArray | None], ...]
    """Column -> its known values by falling frequency; None for numbers."""

    @staticmethod
    def fit(measured: pa.Table) -> "FeatureEncoder":
        """Fit the codes on the strings of these rows; columns without any value are left out."""
        known: list[tuple[str, AnyArray | None]] = []
        for name in measured.column_names:
            column = measured.column(name)
            if column.null_count == len(column):
                continue
            known.append((name, _by_frequency(column) if pa.types.is_string(column.type) else None))
        return FeatureEncoder(tuple(known))

    @property
    def is_categorical(self) -> Bool[np.ndarray, " columns"]:
        """Which columns have few enough codes for trees to split by set."""
        return np.array(
            [known is not None and len(known) <= MAX_CATEGORIES for _, known in self.known], dtype=bool
        )

    def matrix(self, measured: pa.Table) -> Float64[np.ndarray, "flows columns"]:
        """One row per flow; NaN for missing values, one more than the last code for unseen values."""
        matrix = np.empty((measured.num_rows, len(self.known)))
        for position, (name, values) in enumerate(self.known):
            column = measured.column(name)
            matrix[:, position] = _numbers(column) if values is None else _codes(column, values)
        return matrix


def text_statistics(texts: AnyChunkedArray) -> dict[str, Float64[np.ndarray, " flows"]]:
    """Length, shares of digits and punctuation, counts of percent signs and quotes, entropy in bits per byte.

    Computed once per distinct text; NaN where the text is missing.

    >>> text_statistics(pa.chunked_array([["a=1'", None]]))["quotes"]
    array([ 1., nan])
    """
    values, rows = distinct_values(texts)
    distinct = cast(pa.StringArray, values.cast(pa.string()))
    length = pc.utf8_length(distinct).to_numpy(zero_copy_only=False).astype(np.float64)

    def count(pattern: str) -> Float64[np.ndarray, " distinct"]:
        matches = pc.count_substring_regex(distinct, pattern)
        return matches.to_numpy(zero_copy_only=False).astype(np.float64)

    statistics = {
        "length": length,
        "digit share": count("[0-9]") / np.maximum(length, 1),
        "punctuation share": count("[[:punct:]]") / np.maximum(length, 1),
        "percent signs": count("%"),
        "quotes": count("['\"`]"),
        "entropy": _byte_entropy(distinct),
    }
    missing = np.array([np.nan])
    return {name: np.concatenate([numbers, missing])[rows] for name, numbers in statistics.items()}


def _byte_entropy(texts: pa.StringArray) -> Float64[np.ndarray, " texts"]:
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    entropy = np.zeros(len(texts))
    ends = np.cumsum(lengths)
    start = 0
    while start < len(texts):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BYTES_AT_ONCE, side="right")))
        entropy[start:stop] = _entropy_of(texts.slice(start, stop - start), lengths[start:stop])
        start = stop
    return entropy


def _entropy_of(texts: pa.StringArray, lengths: Int64[np.ndarray, " texts"]) -> Float64[np.ndarray, " texts"]:
    joined = "".join(cast(list[str], texts.to_pylist())).encode()
    text_of_byte = np.repeat(np.arange(len(texts), dtype=np.int64), lengths)
    pairs, counts = np.unique(text_of_byte * 256 + np.frombuffer(joined, dtype=np.uint8), return_counts=True)
    text_of_pair = pairs // 256
    p = counts / lengths[text_of_pair]
    return np.bincount(text_of_pair, weights=-p * np.log2(p), minlength=len(texts)).astype(np.float64)


def _column(table: pa.Table, column: Column) -> AnyChunkedArray:
    if column.name in table.column_names:
        return table.column(column.name)
    return pa.chunked_array(
        [pa.nulls(table.num_rows, pa.float64() if column.kind.is_numeric else pa.string())]
    )


def _numbers(column: AnyChunkedArray) -> Float64[np.ndarray, " flows"]:
    values = column.cast(pa.float64()).to_numpy().astype(np.float64)
    return np.nan_to_num(values, nan=np.nan, posinf=LARGEST, neginf=-LARGEST)


def _by_frequency(column: AnyChunkedArray) -> AnyArray:
    counted = pc.value_counts(column.drop_null())
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    # Stable, so that ties keep the order of first appearance whatever the platform's sort.
    return counted.field("values").take(row_numbers(np.argsort(-counts, kind="stable")))


def _codes(column: AnyChunkedArray, known: AnyArray) -> Float64[np.ndarray, " flows"]:
    codes = pc.index_in(column, value_set=known).fill_null(len(known)).to_numpy().astype(np.float64)
    codes[pc.is_null(column).to_numpy()] = np.nan
    return codes


def row_numbers(rows: Int64[np.ndarray, " rows"]) -> pa.Int64Array:
    """Row indices as an Arrow array for `take`."""
    return pa.array(rows, type=pa.int64())


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables concatenated into contiguous columns."""
    return pa.concat_tables(tables).combine_chunks()
