"""The schema of an unknown table, by its column names and a sample of its values.

The sample must be spread over the whole file, because data sets are often sorted by label.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.sampling import RowSampler
from wirebert.data.schema.column_names import (
    SCORE_WORDS,
    plain_name,
)
from wirebert.data.schema.conversion import as_text
from wirebert.data.schema.kinds import Values, infer_column, new_column, summarize
from wirebert.data.schema.label_columns import (
    MAX_LABELS,
    LabelMeaning,
    determines,
    is_second_label,
    label_candidates,
    label_meaning,
)
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema, missing_name
from wirebert.errors import SchemaError

PLAIN_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
DERIVED_FRACTION = 0.1
"""A score after the label is label-derived if the label explains at least this fraction of its variance."""
FOLLOWED_FRACTION = 0.9
"""A number after the label is label-derived if the label gives it in this fraction of the rows that vary."""
INFERENCE_ROWS = 20_000


def infer_schema(
    sample: pa.Table,
    *,
    name: str,
    label: str | None = None,
    notes: Mapping[str, str] | None = None,
    varied: frozenset[str] = frozenset(),
) -> FlowSchema:
    """The schema of a table; `sample` holds rows from the whole table.

    Args:
        sample: texts or numbers; names are final.
        label: the label column; None: the column that looks like one, if there is one.
        notes: remarks on columns, for people.
        varied: columns that are not constant, even if they are in the sample.

    Raises:
        SchemaError: there is no column `label`.

    >>> table = pa.table({"sport": ["5", "6"], "proto": ["tcp", "udp"], "attack": ["normal", "dos"]})
    >>> [(c.name, str(c.kind), c.is_feature) for c in infer_schema(table, name="flows").columns]
    [('sport', 'port', False), ('proto', 'category', True), ('attack', 'label', False)]
    """
    if label is not None and label not in sample.column_names:
        raise SchemaError(f"{name}: {missing_name('label column', label, sample.column_names)}")
    texts = {name: as_text(column) for name, column in zip(sample.column_names, sample.columns, strict=True)}
    values = {column: summarize(array) for column, array in texts.items()}
    candidates = label_candidates(
        {
            column: summary.texts
            for column, summary in values.items()
            if all(number.is_integer() for number in summary.numbers)
        }
    )
    chosen = label if label is not None else choose_label(candidates, values)
    meaning = LabelMeaning()
    if chosen is not None:
        meaning = label_meaning(texts[chosen], [texts[other] for other in candidates if other != chosen])
    columns: list[Column] = []
    for column_name in sample.column_names:
        if column_name == chosen:
            column = new_column(column_name, ColumnKind.LABEL)
            column = replace(column, null_values=meaning.null_values(column.null_values))
        elif chosen is not None and (
            candidates.get(column_name, 0) > 0
            or (column_name in candidates and determines(texts[column_name], texts[chosen]))
            or _repeats_label(column_name, values[column_name], texts, chosen, meaning)
        ):
            column = new_column(
                column_name, ColumnKind.LABEL_DERIVED, note=f"another label column; the label is {chosen!r}"
            )
        else:
            column = infer_column(column_name, values[column_name], is_varied=column_name in varied)
            if chosen is not None and comes_after(sample.column_names, column_name, chosen):
                is_score = _may_be_score(sample.column_names, column_name, chosen)
                column = _behind_label(column, texts[chosen], texts[column_name], is_score=is_score)
        extra = (notes or {}).get(column_name, "")
        columns.append(replace(column, note="; ".join(note for note in (extra, column.note) if note)))
    return FlowSchema(name=name, columns=tuple(columns), label_map=meaning.label_map, benign=meaning.benign)


def _repeats_label(
    name: str, values: Values, texts: Mapping[str, pa.Array], label: str, meaning: LabelMeaning
) -> bool:
    if len(values.texts) > MAX_LABELS or values.numeric_fraction >= 0.5:
        return False
    return is_second_label(name, texts[name], texts[label], meaning.benign_labels)


def take_sample(
    blocks: Iterable[pa.Table], names: tuple[str, ...], num_rows: int = INFERENCE_ROWS
) -> tuple[pa.Table, frozenset[str]]:
    """Every k-th row of all blocks as text, and the columns with more than one value in any row.

    k is the smallest power of two that leaves at most twice `num_rows`; memory is bounded by that.

    >>> sample, varied = take_sample([pa.table({"n": [str(i) for i in range(100)]})], ("n",), num_rows=2)
    >>> sample["n"].to_pylist(), sorted(varied)
    (['0', '32', '64', '96'], ['n'])
    """

    def texts(table: pa.Table) -> pa.Table:
        return pa.table(dict(zip(names, map(as_text, table.select(names).columns), strict=True)))

    sampler = RowSampler(num_rows, texts)
    firsts: dict[str, str | None] = {}
    varied: set[str] = set()
    for block in blocks:
        varied |= _varied(block, firsts)
        sampler.add(block)
    sample = sampler.result().table
    if not sample.column_names:
        sample = pa.table({name: pa.array([], pa.string()) for name in names})
    return sample, frozenset(varied)


def _varied(block: pa.Table, firsts: dict[str, str | None]) -> set[str]:
    """Columns of the block with a value that differs from the first value of all blocks."""
    varied: set[str] = set()
    for name, chunks in zip(block.column_names, block.columns, strict=True) if block.num_rows else ():
        column = chunks.combine_chunks()
        distinct = column.dictionary if isinstance(column, pa.DictionaryArray) else pc.unique(column)
        values = {None if value is None else str(value).strip() for value in distinct.slice(0, 2).to_pylist()}
        if len(values | {firsts.setdefault(name, next(iter(values), None))}) > 1:
            varied.add(name)
    return varied


def choose_label(candidates: Mapping[str, int], values: Mapping[str, Values]) -> str | None:
    """The best candidate: without missing values, more than two classes, a clear name, and last in the
    table."""

    def rank(item: tuple[int, str]) -> tuple[bool, bool, int, int]:
        position, name = item
        is_filled = values[name].num_present >= 0.99 * values[name].num_rows
        return is_filled, len(values[name].texts) > 2, candidates[name], position

    return max(enumerate(candidates), key=rank)[1] if candidates else None


def comes_after(names: Sequence[str], name: str, label: str) -> bool:
    """Whether a column comes after the label, where features are rare."""
    return names.index(name) > names.index(label)


def _may_be_score(names: Sequence[str], name: str, label: str) -> bool:
    """Whether a name speaks of a score, or there is no name and the column alone comes after the label."""
    is_named = re.fullmatch(r"column_\d+", name) is None
    is_alone = names.index(label) == len(names) - 2
    return (is_alone and not is_named) or not SCORE_WORDS.isdisjoint(plain_name(name).split("_"))


def _behind_label(column: Column, label: pa.Array, values: pa.Array, *, is_score: bool) -> Column:
    """The column, as label-derived if it is a number after the label that nearly follows from it.

    What may be a score is derived if the label explains some of its variance.
    """
    if not column.is_feature or not column.kind.is_numeric:
        return column
    explained = explained_fraction(label, values)
    if followed_fraction(label, values) < FOLLOWED_FRACTION and not (
        is_score and explained >= DERIVED_FRACTION
    ):
        return column
    return new_column(
        column.name,
        ColumnKind.LABEL_DERIVED,
        note=f"comes after the label, which explains {explained:.0%} of its variance",
    )


def followed_fraction(label: pa.Array, values: pa.Array) -> float:
    """Fraction of the rows without the most frequent value in which a column has its class's most frequent
    value (Goodman and Kruskal's lambda).

    >>> followed_fraction(pa.array(["a", "a", "b", "b"]), pa.array(["1", "1", "3", "3"]))
    1.0
    """
    table = (
        pa.table({"label": label, "value": values})
        .group_by(["label", "value"])
        .aggregate([([], "count_all")])
    )
    of_class = table.group_by("label").aggregate([("count_all", "max")])["count_all_max"]
    of_value = table.group_by("value").aggregate([("count_all", "sum")])["count_all_sum"]
    most, followed = pc.max(of_value).as_py() or 0, pc.sum(of_class).as_py() or 0
    return (followed - most) / (len(label) - most) if len(label) > most else 0.0


def explained_fraction(label: pa.Array, values: pa.Array) -> float:
    """Fraction of a numeric column's variance that the label explains (the squared correlation ratio).

    >>> explained_fraction(pa.array(["a", "a", "b", "b"]), pa.array(["1", "1", "3", "3"]))
    1.0
    """
    numbers = pc.if_else(
        pc.match_substring_regex(values, f"^(?:{PLAIN_NUMBER})$"), values, pa.scalar(None, pa.string())
    )
    has_both = pa.array(
        numbers.is_valid().to_numpy(zero_copy_only=False) & label.is_valid().to_numpy(zero_copy_only=False)
    )
    present = numbers.filter(has_both).cast(pa.float64()).to_numpy(zero_copy_only=False)
    codes = label.filter(has_both).dictionary_encode().indices.to_numpy()
    is_finite = np.isfinite(present)
    present, codes = present[is_finite], codes[is_finite]
    if not len(present) or present.var() == 0:
        return 0.0
    counts = np.bincount(codes)
    means = np.bincount(codes, weights=present) / np.maximum(counts, 1)
    return float((counts * (means - present.mean()) ** 2).sum() / (len(present) * present.var()))
