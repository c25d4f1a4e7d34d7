"""The kind of a column, by its name and a sample of its values."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.schema.column_names import (
    CODE_NAMES,
    FLAG_NAMES,
    HOST_NAMES,
    NOT_IDENTIFIED,
    RATE_WORDS,
    TEXTS,
    TIME_WORDS,
    plain_name,
)
from wirebert.data.schema.conversion import NUMBER_ADDRESS
from wirebert.data.schema.quantities import NUMBER_PATTERN, quantity
from wirebert.data.schema.schema import DEFAULT_NULL_VALUES, Column, ColumnKind
from wirebert.data.schema.spellings import UNIT_SECONDS, Spelling, spelling_of
from wirebert.data.times import epoch_unit, time_unit
from wirebert.shapes import Float64

_DOTTED = r"\d{1,3}(\.\d{1,3}){3}"
ADDRESS = (
    rf"^({_DOTTED}|[0-9a-fA-F]{{2}}([:-][0-9a-fA-F]{{2}}){{5}}|([0-9a-fA-F]{{1,4}}:){{7}}[0-9a-fA-F]{{1,4}}(%\w+)?"
    rf"|[0-9a-fA-F:]*::[0-9a-fA-F:]*({_DOTTED})?(%\w+)?)$"
)
DATE = (
    r"^\d{4}[-/.]\d\d?[-/.]\d\d?([T ].*)?$|^\d\d?[-/.]\d\d?[-/.]\d{4}([T ].*)?$"
    r"|^\d\d?[-/]\d\d?[-/]\d\d( .*)?$|^\d\d?\.\d\d?\.\d\d .*:"
    r"|^([A-Z][a-z]{2},? )?(\d\d?[-/ ])?[A-Z][a-z]{2,8}[-/ ,]+\d{1,4}[-/ ,:]+\d"
)
"""A date with or without hours; three short numbers between dots may be a version, so they need hours."""
FLAG_PATTERN = r"^[FSRPAUECWN.\-]{1,10}$|^0x[0-9a-fA-F]{1,4}$|^\d{1,3}$"
CODE_LIKE = re.compile(r"^[A-Za-z0-9+/=_:{}\-]{8,}$")
PERCENT_ENCODED = r"%[0-9a-fA-F]{2}"
HEXADECIMAL = r"^(?:0x)?(?:[0-9a-fA-F]{2}){4,}$|(?:\\x[0-9a-fA-F]{2}){2}"
MAX_IDS = 16
"""A column with more different values, whose name ends in id, is an identifier."""


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
    rising_fraction: float = 0.0
    """Fraction of the numbers that are not below the one before."""
    written: Literal["plain", "amounts", "times"] = "plain"
    """Whether some numbers have units, or are in another notation, and whether those are times."""

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


def summarize(texts: pa.Array) -> Values:
    """Distinct values and their counts."""
    is_null = pc.or_kleene(pc.is_null(texts), pc.is_in(texts, value_set=pa.array(DEFAULT_NULL_VALUES)))
    present = texts.filter(pc.invert(is_null))
    counts = pc.value_counts(present)
    distinct = [str(text) for text in counts.field("values").to_pylist()]
    rows = counts.field("counts").to_numpy()
    is_number = np.array([NUMBER_PATTERN.fullmatch(text) is not None for text in distinct], bool)
    numbers = np.array(distinct, object)[is_number].astype(np.float64)
    written = "plain"
    if not is_number.all():
        found = [None if known else quantity(text) for text, known in zip(distinct, is_number, strict=True)]
        is_quantity = np.array([one is not None for one in found])
        # A column is written with units as a whole: all but one in a hundred of its values are numbers then.
        if is_quantity.any() and rows[is_number | is_quantity].sum() >= 0.99 * rows.sum():
            numbers = np.append(numbers, [one[0] for one in found if one is not None])
            is_number |= is_quantity
            are_times = all(one[1] == "time" for one in found if one is not None)
            written = "times" if are_times else "amounts"
    return Values(
        texts=tuple(distinct),
        counts=tuple(rows.tolist()),
        numbers=numbers,
        num_numeric=int(rows[is_number].sum()),
        num_rows=len(texts),
        is_rising=len(texts) >= 20 and len(present) == len(texts) and _is_rising(present),
        rising_fraction=_rising_fraction(present)
        if len(numbers) == len(distinct) and len(distinct) > 1
        else 0.0,
        written=written,
    )


def _rising_fraction(texts: pa.Array) -> float:
    try:
        numbers = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # numbers with units
        return 0.0
    return float((numbers[1:] >= numbers[:-1]).mean())


def _is_rising(texts: pa.Array) -> bool:
    if not pc.all(pc.match_substring_regex(texts, r"^\d{1,15}$")).as_py():
        return False
    return bool((np.diff(texts.cast(pa.int64()).to_numpy()) > 0).all())


def infer_column(name: str, values: Values, *, is_varied: bool = False) -> Column:
    """Kind of a column other than the label, and whether it is a feature."""
    plain = plain_name(name)
    if len(values.texts) + (values.num_present < values.num_rows) <= 1 and not is_varied:
        what = f"always {values.texts[0]!r}" if values.texts else "always missing"
        return new_column(name, ColumnKind.CONSTANT, note=what)
    for rule in (_by_meaning, _as_text_kind if values.numeric_fraction < 0.5 else _as_number):
        column = rule(name, plain, values)
        if column is not None:
            return column
    return new_column(name, ColumnKind.CATEGORY)


def _by_meaning(name: str, plain: str, values: Values) -> Column | None:
    words = set(plain.split("_"))
    spelling = spelling_of(name) or Spelling("", "")
    is_numeric = values.numeric_fraction > 0.5  # saves matching patterns
    if spelling.role in ("source_port", "port") and is_numeric and _fits(values.numbers, 0.0, 65_535.0):
        if spelling.role == "port":
            return new_column(name, ColumnKind.PORT)
        return new_column(name, ColumnKind.PORT, is_feature=False, note="source ports are random")
    is_time = spelling.role == "time"
    may_be_address = not is_time and (not is_numeric or spelling.role == "address")
    if may_be_address and values.match_fraction(NUMBER_ADDRESS if is_numeric else ADDRESS) > 0.9:
        return new_column(name, ColumnKind.ADDRESS)
    if is_time or (_is_epoch(plain, values) if is_numeric else values.match_fraction(DATE) > 0.9):
        column = new_column(
            name, ColumnKind.TIME, note="recording times do not generalise to other recordings"
        )
        return replace(column, unit=time_unit(pa.array(values.texts, pa.string()), spelling.unit))
    if (
        values.is_rising
        or spelling.role == "identifier"
        or (words & {"id", "uid", "uuid", "guid", "index", "unnamed"} and values.distinct_fraction > 0.5)
        or (plain.endswith("_id") and not words & NOT_IDENTIFIED and len(values.texts) > MAX_IDS)
    ):
        return new_column(name, ColumnKind.IDENTIFIER, note="an identifier or row counter")
    if plain in FLAG_NAMES and values.match_fraction(FLAG_PATTERN) > 0.95:
        return new_column(name, ColumnKind.FLAGS)
    if plain in HOST_NAMES and values.numeric_fraction < 0.5:
        return new_column(
            name,
            ColumnKind.CATEGORY,
            is_feature=False,
            note="the model would memorise host names",
        )
    return None


def _is_epoch(plain: str, values: Values) -> bool:
    """Whether numbers are times of 1995 to 2040: by their values, for seconds also by a word or their
    order."""
    unit = epoch_unit(values.numbers)
    if not unit or values.numeric_fraction < 0.99 or len(values.texts) < 2:
        return False
    seconds = values.numbers * UNIT_SECONDS[unit]
    is_ordered = values.rising_fraction >= 0.9
    # Counts may be as large as seconds since 1970, but hardly all as large as milliseconds.
    is_likely = unit != "s" or is_ordered or bool(TIME_WORDS & set(plain.split("_")))
    return is_likely and float(((seconds > 7.9e8) & (seconds < 2.21e9)).mean()) >= 0.99


def _as_text_kind(name: str, plain: str, values: Values) -> Column | None:
    lowered = {text.lower() for text in values.texts}
    if any(lowered <= pair for pair in ({"true", "false"}, {"t", "f"}, {"yes", "no"}, {"y", "n"})):
        return new_column(name, ColumnKind.BOOLEAN)
    if plain.split("_")[-1] in CODE_NAMES:
        return new_column(name, ColumnKind.CATEGORY)
    is_telling = any(plain == word or plain.endswith(f"_{word}") for word in TEXTS)
    if is_telling and len(values.texts) >= 100:
        return _text_column(name, values)
    if (
        values.num_present >= 100
        and values.distinct_fraction > 0.95
        and all(map(CODE_LIKE.match, values.texts))
    ):
        return new_column(name, ColumnKind.IDENTIFIER, note="nearly every row has a different value")
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
    return new_column(name, ColumnKind.TEXT, note=", ".join(notes))


def _as_number(name: str, plain: str, values: Values) -> Column | None:
    others = [text for text in values.texts if not NUMBER_PATTERN.fullmatch(text)]
    if values.written != "plain":
        others = [text for text in others if quantity(text) is None]
    if any(plain == word or plain.endswith(f"_{word}") for word in TEXTS) and len(others) >= 100:
        return _text_column(name, values)
    if values.numeric_fraction < 0.99 and (len(others) > 3 or len(values.numbers) < 10):
        return None
    numbers = values.numbers[np.isfinite(values.numbers)]
    is_whole = bool((numbers == np.floor(numbers)).all())
    words = plain.split("_")
    spelling = spelling_of(name) or Spelling("", "")
    is_code = words[-1] in CODE_NAMES or spelling.role == "protocol"
    if is_code and len(values.texts) <= 256:
        return None
    if is_whole and words[0] in {"is", "has"} and set(numbers) <= {0, 1}:
        return new_column(name, ColumnKind.BOOLEAN)
    null_values = (*DEFAULT_NULL_VALUES, *others) if values.numeric_fraction < 0.99 else DEFAULT_NULL_VALUES
    note = f"{', '.join(map(repr, others))} read as missing" if values.numeric_fraction < 0.99 else ""
    is_duration = values.written == "times" or bool({"dur", "duration"} & set(words))
    is_duration |= spelling.role == "duration"
    is_whole &= values.written == "plain" or RATE_WORDS.isdisjoint(words)  # 34.2k a second is rounded
    column = new_column(name, _number_kind(numbers, is_duration=is_duration, is_whole=is_whole), note=note)
    return replace(column, null_values=null_values, unit=spelling.unit)


def _number_kind(numbers: Float64[np.ndarray, " values"], *, is_duration: bool, is_whole: bool) -> ColumnKind:
    if is_duration:
        return ColumnKind.DURATION
    if is_whole and _fits(numbers, 0.0, np.inf):
        return ColumnKind.COUNT
    return ColumnKind.RATE if _fits(numbers, 0.0, 1.0) else ColumnKind.NUMBER


def _fits(numbers: Float64[np.ndarray, " values"], low: float, high: float) -> bool:
    return bool(((numbers >= low) & (numbers <= high)).all())


def new_column(name: str, kind: ColumnKind, *, is_feature: bool | None = None, note: str = "") -> Column:
    """A column that is a feature if its kind can be one, unless it is told."""
    return Column(
        name=name, kind=kind, is_feature=kind.can_be_feature if is_feature is None else is_feature, note=note
    )
