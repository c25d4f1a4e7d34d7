"""Categories -> tokens: one per known value, `<rare>` for rare ones, `<unseen>` for new ones."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from wirebert.encoding.vocabulary import MISSING, UNSEEN, Slot

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

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values 1"]:
        """Token of each value; null is missing."""
        if len(values) == 0:
            return np.empty((0, 1), np.int32)
        positions = pc.index_in(values.cast(pa.string()), value_set=self._training_values)
        index = positions.fill_null(-1).to_numpy(zero_copy_only=False)
        tokens = np.where(index < len(self.known), index + len(CATEGORICAL_STATES), _RARE)
        tokens[index < 0] = UNSEEN
        if values.null_count:
            tokens[values.is_null().to_numpy(zero_copy_only=False)] = MISSING
        return tokens.astype(np.int32)[:, None]
