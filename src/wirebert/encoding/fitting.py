"""Training tables -> fitted column encoders and text pieces, in one pass and bounded memory."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyarrow as pa

from wirebert.data.schema.schema import (Column, ColumnKind)
from wirebert.encoding.columns import (
    ColumnCounts,
    ColumnEncoder,
    count_values,
    distinct_parts,
    fit_encoder,
    new_counts,
)
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.text import Pieces, TextSample, learn_pieces, pieces_of_words
from wirebert.encoding.wordpieces import read_wordpieces

Blocks = Iterable[pa.Table] | Callable[[], Iterable[pa.Table]]
"""Typed tables, or something to call for them."""


class Fitted(NamedTuple):
    """What is learned from training rows."""

    encoders: tuple[ColumnEncoder, ...]
    """One per feature column that is not text, in schema order."""
    pieces: Pieces | None
    """Sub-words; None where there is nothing to cut."""


def fit_columns(features: tuple[Column, ...], blocks: Blocks, config: EncodingConfig) -> Fitted:
    """Encoders for `features`, fitted on all rows of `blocks`."""
    counts: dict[str, ColumnCounts] = {
        column.name: new_counts(column.kind) for column in features if column.kind is not ColumnKind.TEXT
    }
    texts = {column.name: TextSample() for column in features if column.kind is ColumnKind.TEXT}
    for block in blocks() if callable(blocks) else blocks:
        for name in block.column_names:
            if name in counts:
                count_values(block[name], counts[name])
            elif name in texts:
                for part in distinct_parts(block[name]):
                    texts[name].add(part.values.to_pylist())
    encoders = tuple(
        fit_encoder(
            column,
            counts[column.name],
            num_bins=config.num_bins,
            frequent_values=config.frequent_values,
            max_categories=config.max_categories,
            networks=config.networks,
        )
        for column in features
        if column.name in counts
    )
    return Fitted(encoders, _fit_pieces(list(texts.values()), config))


def _fit_pieces(samples: list[TextSample], config: EncodingConfig) -> Pieces | None:
    if config.vocabulary == "extend":
        assert config.wordpieces is not None, "EncodingConfig requires a source with this vocabulary"
        return pieces_of_words(read_wordpieces(config.wordpieces))
    if not samples:
        return None
    return learn_pieces([text for sample in samples for text in sample.texts], config.num_pieces)
