"""The schema of an unknown table, by its column names and a sample of its values.

The sample must be spread over the whole file, because data sets are often sorted by label.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from wirebert.data.sampling import RowSampler
from wirebert.data.schema.column_names import (
    CODE_NAMES,
    FLAG_NAMES,
    HOST_NAMES,
    PORT,
    SOURCE_PORT,
    TEXTS,
    TIMES,
    plain_name,
)
from wirebert.data.schema.conversion import NUMBER_PATTERN, as_text
from wirebert.data.schema.label_columns import (
    MAX_LABELS,
    LabelMeaning,
    determines,
    is_second_label,
    label_candidates,
    label_meaning,
)
from wirebert.data.schema.schema import DEFAULT_NULL_VALUES, Column, ColumnKind, FlowSchema, missing_name
from wirebert.errors import SchemaError

ADDRESS = (
    r"^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}"
    r"|[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,7}(%\w+)?)$"
)
DATE = r"^\d{4}[-/.]\d\d?[-/.]\d\d?([T ].*)?$|^\d\d?[-/.]\d\d?[-/.]\d{4}( .*)?$"
FLAG_PATTERN = r"^[FSRPAUECWN.\-]{1,10}$|^0x[0-9a-fA-F]{1,4}$|^\d{1,3}$"
CODE_LIKE = re.compile(r"^[A-Za-z0-9+/=_:{}\-]{8,}$")
PLAIN_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
PERCENT_ENCODED = r"%[0-9a-fA-F]{2}"
HEXADECIMAL = r"^(?:0x)?(?:[0-9a-fA-F]{2}){4,}$|(?:\\x[0-9a-fA-F]{2}){2}"
DERIVED_FRACTION = 0.1
"""A number after the label is label-derived if the label explains at least this fraction of its variance."""
INFERENCE_ROWS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Values:
    """The values of one column in a sample, without empty and null values."""

    texts: tuple[str, ...]
    """Distinct values."""
    counts: tuple[int, ...]
    numbers: Float64[np.ndarray, " numbers"]
    """The distinct values that are numbers."""
    num_numeric: int
    """Rows with a number."""
    num_rows: int
    """Rows of the sample, including missing values."""
    is_rising: bool
    """Whole numbers, none missing, each larger than the one before: a row counter."""

    @property
    def num_present(self) -> int:
        """Rows with a value."""
        return sum(self.counts)

    @property
    def distinct_fraction(self) -> float:
        """Distinct values per row with a value."""
        return len(self.texts) / max(1, self.num_present)

    @property
    def numeric_fraction(self) -> float:
        """Fraction of the present values that are numbers."""
        return self.num_numeric / max(1, self.num_present)

    def match_fraction(self, pattern: str) -> float:
        """Fraction of the present values that match."""
        search = re.compile(pattern).search
        num_matches = sum(n for text, n in zip(self.texts, self.counts, strict=True) if search(text))
        return num_matches / max(1, self.num_present)


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
    texts = {column: as_text(sample[column]) for column in sample.column_names}
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
            column = _column(column_name, ColumnKind.LABEL)
            column = replace(column, null_values=meaning.null_values(column.null_values))
        elif chosen is not None and (
            candidates.get(column_name, 0) > 0
            or (column_name in candidates and determines(texts[column_name], texts[chosen]))
            or _repeats_label(column_name, values[column_name], texts, chosen, meaning)
        ):
            column = _column(
                column_name, ColumnKind.LABEL_DERIVED, note=f"another label column; the label is {chosen!r}"
            )
        else:
            column = infer_column(column_name, values[column_name], is_varied=column_name in varied)
            if chosen is not None and comes_after(sample.column_names, column_name, chosen):
                column = _behind_label(column, texts[chosen], texts[column_name])
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
        return pa.table({name: as_text(table[name]) for name in names})

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
    for name in block.column_names if block.num_rows else ():
        column = block[name].combine_chunks()
        distinct = column.dictionary if isinstance(column, pa.DictionaryArray) else pc.unique(column)
        values = {None if value is None else str(value).strip() for value in distinct.slice(0, 2).to_pylist()}
        if len(values | {firsts.setdefault(name, next(iter(values), None))}) > 1:
            varied.add(name)
    return varied


def summarize(texts: pa.Array) -> Values:
    """Distinct values and their counts."""
    is_null = pc.or_kleene(pc.is_null(texts), pc.is_in(texts, value_set=pa.array(DEFAULT_NULL_VALUES)))
    present = texts.filter(pc.invert(is_null))
    counts = pc.value_counts(present)
    distinct = [str(text) for text in counts.field("values").to_pylist()]
    rows = counts.field("counts").to_numpy()
    is_number = np.array([NUMBER_PATTERN.fullmatch(text) is not None for text in distinct], bool)
    return Values(
        texts=tuple(distinct),
        counts=tuple(rows.tolist()),
        numbers=np.array(distinct, object)[is_number].astype(np.float64),
        num_numeric=int(rows[is_number].sum()),
        num_rows=len(texts),
        is_rising=len(texts) >= 20 and len(present) == len(texts) and _is_rising(present),
    )


def _is_rising(texts: pa.Array) -> bool:
    if not pc.all(pc.match_substring_regex(texts, r"^\d{1,15}$")).as_py():
        return False
    return bool((np.diff(texts.cast(pa.int64()).to_numpy()) > 0).all())


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


def _behind_label(column: Column, label: pa.Array, values: pa.Array) -> Column:
    """The column, as label-derived if it is a number after the label that the label explains."""
    if (
        not column.is_feature
        or not column.kind.is_numeric
        or explained_fraction(label, values) < DERIVED_FRACTION
    ):
        return column
    fraction = explained_fraction(label, values)
    return _column(
        column.name,
        ColumnKind.LABEL_DERIVED,
        note=f"comes after the label, which explains {fraction:.0%} of its variance",
    )


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
    if not len(present) or present.var() == 0:
        return 0.0
    counts = np.bincount(codes)
    means = np.bincount(codes, weights=present) / np.maximum(counts, 1)
    return float((counts * (means - present.mean()) ** 2).sum() / (len(present) * present.var()))


def infer_column(name: str, values: Values, *, is_varied: bool = False) -> Column:
    """Kind of a column other than the label, and whether it is a feature."""
    plain = plain_name(name)
    if len(values.texts) + (values.num_present < values.num_rows) <= 1 and not is_varied:
        what = f"always {values.texts[0]!r}" if values.texts else "always missing"
        return _column(name, ColumnKind.CONSTANT, note=what)
    for rule in (_by_meaning, _as_text_kind if values.numeric_fraction < 0.5 else _as_number):
        column = rule(name, plain, values)
        if column is not None:
            return column
    return _column(name, ColumnKind.CATEGORY)


def _by_meaning(name: str, plain: str, values: Values) -> Column | None:
    words = set(plain.split("_"))
    if plain in SOURCE_PORT | PORT and values.numeric_fraction > 0.5 and _fits(values.numbers, 0.0, 65_535.0):
        if plain in PORT:
            return _column(name, ColumnKind.PORT)
        return _column(name, ColumnKind.PORT, is_feature=False, note="source ports are random")
    is_numeric = values.numeric_fraction > 0.5  # saves matching patterns
    if not is_numeric and values.match_fraction(ADDRESS) > 0.9 and plain not in TIMES:
        return _column(name, ColumnKind.ADDRESS)
    if plain in TIMES or (not is_numeric and values.match_fraction(DATE) > 0.9):
        return _column(name, ColumnKind.TIME, note="recording times do not generalise to other recordings")
    if values.is_rising or (
        words & {"id", "uid", "uuid", "guid", "index", "unnamed"} and values.distinct_fraction > 0.5
    ):
        return _column(name, ColumnKind.IDENTIFIER, note="an identifier or row counter")
    if plain in FLAG_NAMES and values.match_fraction(FLAG_PATTERN) > 0.95:
        return _column(name, ColumnKind.FLAGS)
    if plain in HOST_NAMES and values.numeric_fraction < 0.5:
        return _column(
            name,
            ColumnKind.CATEGORY,
            is_feature=False,
            note="the model would memorise host names",
        )
    return None


def _as_text_kind(name: str, plain: str, values: Values) -> Column | None:
    lowered = {text.lower() for text in values.texts}
    if any(lowered <= pair for pair in ({"true", "false"}, {"t", "f"}, {"yes", "no"}, {"y", "n"})):
        return _column(name, ColumnKind.BOOLEAN)
    if plain.split("_")[-1] in CODE_NAMES:
        return _column(name, ColumnKind.CATEGORY)
    is_telling = any(plain == word or plain.endswith(f"_{word}") for word in TEXTS)
    if is_telling and len(values.texts) >= 100:
        return _text_column(name, values)
    if (
        values.num_present >= 100
        and values.distinct_fraction > 0.95
        and all(map(CODE_LIKE.match, values.texts))
    ):
        return _column(name, ColumnKind.IDENTIFIER, note="nearly every row has a different value")
    lengths = [len(text) for text in values.texts]
    if len(values.texts) > 1_000 and values.distinct_fraction > 0.2 and np.mean(lengths) >= 8:
        return _text_column(name, values)
    return None


def _text_column(name: str, values: Values) -> Column:
    """A text, with a note of how parts of it are encoded."""
    fractions = {
        "percent-encoded": values.match_fraction(PERCENT_ENCODED),
        "hexadecimal": values.match_fraction(HEXADECIMAL),
    }
    notes = [
        f"{what} in {fraction:.0%} of the rows" for what, fraction in fractions.items() if fraction >= 0.01
    ]
    return _column(name, ColumnKind.TEXT, note=", ".join(notes))


def _as_number(name: str, plain: str, values: Values) -> Column | None:
    others = [text for text in values.texts if not NUMBER_PATTERN.fullmatch(text)]
    if any(plain == word or plain.endswith(f"_{word}") for word in TEXTS) and len(others) >= 100:
        return _text_column(name, values)
    if values.numeric_fraction < 0.99 and (len(others) > 3 or len(values.numbers) < 10):
        return None
    numbers = values.numbers[np.isfinite(values.numbers)]
    is_whole = bool((numbers == np.floor(numbers)).all())
    words = plain.split("_")
    is_code = words[-1] in CODE_NAMES
    if is_code and len(values.texts) <= 256:
        return None
    if is_whole and words[0] in {"is", "has"} and set(numbers) <= {0, 1}:
        return _column(name, ColumnKind.BOOLEAN)
    null_values = (*DEFAULT_NULL_VALUES, *others) if values.numeric_fraction < 0.99 else DEFAULT_NULL_VALUES
    note = f"{', '.join(map(repr, others))} read as missing" if values.numeric_fraction < 0.99 else ""
    column = _column(name, _number_kind(words, numbers, is_whole=is_whole), note=note)
    return replace(column, null_values=null_values)


def _number_kind(words: list[str], numbers: Float64[np.ndarray, " values"], *, is_whole: bool) -> ColumnKind:
    if {"dur", "duration"} & set(words):
        return ColumnKind.DURATION
    if is_whole and _fits(numbers, 0.0, np.inf):
        return ColumnKind.COUNT
    return ColumnKind.RATE if _fits(numbers, 0.0, 1.0) else ColumnKind.NUMBER


def _fits(numbers: Float64[np.ndarray, " values"], low: float, high: float) -> bool:
    return bool(((numbers >= low) & (numbers <= high)).all())


def _column(name: str, kind: ColumnKind, *, is_feature: bool | None = None, note: str = "") -> Column:
    return Column(
        name=name, kind=kind, is_feature=kind.can_be_feature if is_feature is None else is_feature, note=note
    )
