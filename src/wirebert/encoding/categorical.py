"""Categories -> tokens: one per known value, `<rare>` for rare ones, `<unseen>` for new ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.schema.spellings import protocol_spellings, spelling_of
from wirebert.encoding.vocabulary import MISSING, UNSEEN, Slot
from wirebert.shapes import Int

CATEGORICAL_STATES = ("<missing>", "<unseen>", "<absent>", "<rare>")
_RARE = 3
_RARE_PER_KNOWN = 10


@dataclass(slots=True)
class ValueCounts:
    """How often each text occurs in training, in bounded memory.

    Beyond `max_distinct` values the less frequent half is dropped; frequent values stay accurate enough.
    """

    max_distinct: int = 500_000
    counts_: Counter[str] = field(default_factory=Counter)
    num_missing_: int = 0

    def add(self, values: Sequence[str | None], counts: Int[np.ndarray, " values"]) -> None:
        """Count `values`, each as often as `counts` says; None is missing."""
        for value, count in zip(values, counts.tolist(), strict=True):
            if value is None:
                self.num_missing_ += count
            elif count:
                self.counts_[value] += count
        self._shrink()

    def merge(self, other: "ValueCounts") -> None:
        """Add what was counted in other rows."""
        self.num_missing_ += other.num_missing_
        self.counts_.update(other.counts_)
        self._shrink()

    def _shrink(self) -> None:
        if len(self.counts_) > self.max_distinct:
            self.counts_ = Counter(dict(most_frequent(self.counts_, self.max_distinct // 2)))


def most_frequent(counts: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The `limit` most frequent values with their counts; ties are sorted by name, not by order of reading.

    >>> most_frequent({"udp": 2, "tcp": 5, "icmp": 2}, limit=2)
    [('tcp', 5), ('icmp', 2)]
    """
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:limit]


@dataclass(frozen=True, kw_only=True)
class CategoryEncoder:
    """Tokens of a categorical column: known values, `<rare>` for rare ones, `<unseen>` for the rest."""

    column: str
    known: tuple[str, ...]
    """Values with a token each, most frequent first."""
    rare: tuple[str, ...]
    """Values in training that are too rare for a token each."""
    default: int

    @classmethod
    def fit(cls, column: str, counts: ValueCounts, max_categories: int) -> "CategoryEncoder":
        """The encoder for these counts; after the known values, ten times as many are stored as rare."""
        ranked = most_frequent(counts.counts_, max_categories * (1 + _RARE_PER_KNOWN))
        names = [name for name, _ in ranked]
        is_missing_usual = not ranked or counts.num_missing_ > ranked[0][1]
        return cls(
            column=column,
            known=tuple(names[:max_categories]),
            rare=tuple(names[max_categories:]),
            default=MISSING if is_missing_usual else len(CATEGORICAL_STATES),
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot: special states, then the known values."""
        return (
            Slot(
                name=self.column, special_states=CATEGORICAL_STATES, values=self.known, default=self.default
            ),
        )

    @cached_property
    def _training_values(self) -> pa.Array:
        return pa.array([*self.known, *self.rare], pa.string())

    @cached_property
    def _by_spelling(self) -> dict[str, int | None]:
        """Value in lower case -> its place among the training values; None where several are spelled so."""
        places: dict[str, int | None] = {}
        for place, value in enumerate((*self.known, *self.rare)):
            places[_plain(value)] = None if _plain(value) in places else place
        return places

    def matched(self, values: Iterable[str]) -> dict[str, str]:
        """Values that are new to the model -> the training value that each spells in another way.

        Values are one if they differ in case and padding alone; in a column of protocols, numbers and names
        of one protocol are one too. A value that could be several training values is none of them.

        >>> encoder = CategoryEncoder(column="proto", known=("tcp", "udp"), rare=(), default=4)
        >>> encoder.matched(["tcp", "UDP ", "6", "sctp"])
        {'UDP ': 'udp', '6': 'tcp'}
        """
        trained = (*self.known, *self.rare)
        is_trained = frozenset(trained)
        places = {value: self._place(value) for value in values if value not in is_trained}
        return {value: trained[place] for value, place in places.items() if place is not None}

    def _place(self, value: str) -> int | None:
        """The place among the training values of a value that is spelled in another way."""
        place = self._by_spelling.get(_plain(value))
        spelling = spelling_of(self.column)
        if place is None and spelling is not None and spelling.role == "protocol":
            found = {self._by_spelling.get(name) for name in protocol_spellings(value)} - {None}
            place = found.pop() if len(found) == 1 else None
        return place

    def _respelled(self, values: pa.Array, index: Int[np.ndarray, " values"]) -> Int[np.ndarray, " values"]:
        """The places among the training values, where new values are looked up in their other spellings."""
        index = index.copy()
        is_new = (index < 0) & values.is_valid().to_numpy(zero_copy_only=False)
        new = values.filter(pa.array(is_new)).cast(pa.string()).dictionary_encode()
        places = [self._place(str(value)) for value in new.dictionary.to_pylist()]
        found = np.array([-1 if place is None else place for place in places], index.dtype)
        index[is_new] = found[new.indices.to_numpy()]
        return index

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values 1"]:
        """Token of each value; null is missing. What is `matched` has the token of the training value."""
        if len(values) == 0:
            return np.empty((0, 1), np.int32)
        positions = pc.index_in(values.cast(pa.string()), value_set=self._training_values)
        index = positions.fill_null(-1).to_numpy(zero_copy_only=False)
        if positions.null_count > values.null_count:
            index = self._respelled(values, index)
        tokens = np.where(index < len(self.known), index + len(CATEGORICAL_STATES), _RARE)
        tokens[index < 0] = UNSEEN
        if values.null_count:
            tokens[values.is_null().to_numpy(zero_copy_only=False)] = MISSING
        return tokens.astype(np.int32)[:, None]


def _plain(value: str) -> str:
    return value.strip().casefold()
