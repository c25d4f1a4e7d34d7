"""Column encoders and subwords, fitted on training tables in one pass and bounded memory.

Each distinct value is encoded once: a dictionary column is encoded through its dictionary.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple, Protocol, cast, final, runtime_checkable

import numpy as np
import pyarrow as pa

from wirebert.data.arrow_columns import of_used_values
from wirebert.data.schema.schema import Column, ColumnKind
from wirebert.encoding.categorical import CategoryEncoder, ValueCounts
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.network import AddressEncoder, FlagsEncoder, PortEncoder
from wirebert.encoding.numeric import NumberCounts, NumberEncoder
from wirebert.encoding.text import Subwords, TextSample, learn_subwords, subwords_of_wordpieces
from wirebert.encoding.vocabulary import Slot
from wirebert.encoding.wordpieces import read_wordpieces
from wirebert.shapes import Int


@runtime_checkable
class ColumnEncoder(Protocol):
    """A fitted column encoder. To add a kind: write a class, list it in `ENCODERS` and `fit_encoder`."""

    @property
    def column(self) -> str:
        """Name of the column."""
        ...

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The column's feature positions, with their tokens."""
        ...

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values slots"]:
        """Token of each value in each slot, relative to the slot; null is token 0, `<missing>`."""
        ...


ENCODERS: Mapping[str, type[Any]] = {
    "number": NumberEncoder,
    "category": CategoryEncoder,
    "port": PortEncoder,
    "address": AddressEncoder,
    "flags": FlagsEncoder,
}
"""Name in saved files -> encoder."""

ColumnCounts = NumberCounts | ValueCounts


def new_counts(kind: ColumnKind) -> ColumnCounts:
    """An empty count for a column of `kind` (not for text columns)."""
    return NumberCounts() if kind.is_numeric else ValueCounts()


def fit_encoder(
    column: Column,
    counts: ColumnCounts,
    *,
    num_bins: int,
    frequent_values: int,
    max_categories: int,
    networks: tuple[str, ...],
) -> ColumnEncoder:
    """The encoder of a column's kind, fitted on the counts."""
    if isinstance(counts, NumberCounts):
        if column.kind is ColumnKind.PORT:
            return PortEncoder.fit(column.name, counts)
        return NumberEncoder.fit(column.name, counts, num_bins, frequent_values)
    if column.kind is ColumnKind.ADDRESS:
        return AddressEncoder.fit(column.name, counts, networks)
    if column.kind is ColumnKind.FLAGS:
        return FlagsEncoder.fit(column.name, counts)
    return CategoryEncoder.fit(column.name, counts, max_categories)


def encoder_to_dict(encoder: ColumnEncoder) -> dict[str, Any]:
    """An encoder as plain values for JSON; floats are exact."""
    name = next(name for name, kind in ENCODERS.items() if isinstance(encoder, kind))
    return {"kind": name, **asdict(encoder)}  # pyright: ignore[reportArgumentType]  # all encoders are dataclasses


def encoder_from_dict(state: Mapping[str, Any]) -> ColumnEncoder:
    """The encoder that `encoder_to_dict` wrote."""
    fields = {name: _frozen(value) for name, value in state.items() if name != "kind"}
    return ENCODERS[state["kind"]](**fields)


def _frozen(value: object) -> object:
    """The value with lists, as JSON has them, turned into tuples."""
    return tuple(cast(list[object], value)) if isinstance(value, list) else value


class DistinctValues(NamedTuple):
    """Part of a column: its distinct values and each row's index among them."""

    values: pa.Array
    codes: Int[np.ndarray, " rows"] | None
    """Index of each row in `values`, `len(values)` for a null. None: row i holds value i."""
    num_rows: int

    def num_rows_of(self, index: int) -> int:
        """Rows with one of the values."""
        return 1 if self.codes is None else int((self.codes == index).sum())


def distinct(column: pa.ChunkedArray) -> Iterator[DistinctValues]:
    """The distinct values of a column, chunk by chunk.

    Plain numbers are passed through, since searching a sorted list is faster than hashing each number.
    """
    for chunk in column.chunks:
        if pa.types.is_floating(chunk.type):
            yield DistinctValues(chunk, None, len(chunk))
            continue
        coded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        if len(coded.dictionary) > len(coded):  # of a part of a table
            coded = of_used_values(coded)
        if coded.dictionary.null_count:  # a null among the dictionary values
            coded = coded.dictionary_decode().dictionary_encode()
        codes = coded.indices
        if codes.null_count:
            codes = codes.fill_null(len(coded.dictionary))
        yield DistinctValues(coded.dictionary, codes.to_numpy(zero_copy_only=False), len(chunk))


def count_values(column: pa.ChunkedArray, counts: ColumnCounts) -> None:
    """Add a column's values to `counts`."""
    for part in distinct(column):
        if part.codes is None:
            totals = np.ones(len(part.values), np.int64)
        else:
            totals = np.bincount(part.codes, minlength=len(part.values) + 1)
            counts.num_missing_ += int(totals[-1])
            totals = totals[:-1]
        if isinstance(counts, NumberCounts):
            counts.add(np.asarray(part.values.to_numpy(zero_copy_only=False), np.float64), totals)
        else:
            counts.add(part.values.to_pylist(), totals)


Blocks = Iterable[pa.Table] | Callable[[], Iterable[pa.Table]]
"""Typed tables, or a function that returns them."""


class FittedColumns(NamedTuple):
    """Everything fitted on training rows."""

    encoders: tuple[ColumnEncoder, ...]
    """One per feature column other than text, in schema order."""
    subwords: Subwords | None
    """Subwords; None without text columns in a compact vocabulary."""


@final
class TrainingCounts:
    """How often each value occurs in training, and a sample of the texts; counts of shards are merged."""

    def __init__(self, features: tuple[Column, ...]) -> None:
        self.features = features
        self._counts: dict[str, ColumnCounts] = {
            column.name: new_counts(column.kind) for column in features if column.kind is not ColumnKind.TEXT
        }
        self._texts = {column.name: TextSample() for column in features if column.kind is ColumnKind.TEXT}

    def add(self, block: pa.Table) -> None:
        """Count the values of more rows."""
        for name in block.column_names:
            if name in self._counts:
                count_values(block[name], self._counts[name])
            elif name in self._texts:
                for part in distinct(block[name]):
                    self._texts[name].add(part.values.to_pylist())

    def merge(self, other: "TrainingCounts") -> None:
        """Add what was counted in other rows."""
        for name, counts in self._counts.items():
            counts.merge(other._counts[name])  # pyright: ignore[reportArgumentType]  # of the same column
        for name, sample in self._texts.items():
            sample.merge(other._texts[name])

    def fit(self, config: EncodingConfig) -> FittedColumns:
        """Encoders and subwords for these counts."""
        encoders = tuple(
            fit_encoder(
                column,
                self._counts[column.name],
                num_bins=config.num_bins,
                frequent_values=config.num_exact_values,
                max_categories=config.max_categories,
                networks=config.networks,
            )
            for column in self.features
            if column.name in self._counts
        )
        return FittedColumns(encoders, _fit_subwords(list(self._texts.values()), config))


def _fit_subwords(samples: list[TextSample], config: EncodingConfig) -> Subwords | None:
    if config.vocabulary == "extend":
        assert config.wordpieces is not None, "EncodingConfig requires a source with this vocabulary"
        return subwords_of_wordpieces(read_wordpieces(config.wordpieces))
    if not samples:
        return None
    return learn_subwords([text for sample in samples for text in sample.texts], config.subword_vocab_size)
