"""Numbers -> tokens: exact tokens for zero and the most frequent values, quantile bins for the rest."""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from wirebert.data.hashing import finalize
from wirebert.encoding.vocabulary import MISSING, UNSEEN, Slot
from wirebert.shapes import Float, Int

NUMERIC_STATES = ("<missing>", "<above>", "<absent>", "<negative>", "<infinite>", "<below>")
"""`<above>` (above all training values) is the unseen state of a number; `<below>` is rarer."""

_NEGATIVE, _INFINITE, _BELOW = 3, 4, 5
_NUM_FREQUENT = 1024
_FEWEST_SHARE = 0.001
"""Fraction of all values from which on a value counts as frequent."""


@dataclass(slots=True)
class NumberCounts:
    """How often each number occurs in training, in bounded memory.

    All values are kept, up to `max_distinct`. Beyond that the values with the lowest hashes stay, which are a
    uniform sample of the distinct values in any order of reading, and the most frequent values. The sample
    has about half of `max_distinct` values or more, so a bin starts at most 0.5 % of the distinct values from
    where all of them would put it (three standard errors).
    """

    max_distinct: int = 200_000
    values_: Float[np.ndarray, " distinct"] = field(default_factory=lambda: np.empty(0))
    counts_: Int[np.ndarray, " distinct"] = field(default_factory=lambda: np.empty(0, np.int64))
    num_missing_: int = 0
    num_infinite_: int = 0
    num_values_: int = 0
    """Number of finite values, including those that were dropped."""
    low_: float = np.inf
    high_: float = -np.inf
    hash_limit_: int = (1 << 64) - 1
    """Values with a hash at or below this limit are the sample."""

    def add(self, values: Float[np.ndarray, " values"], counts: Int[np.ndarray, " values"]) -> None:
        """Count `values`, each as often as `counts` says; NaN is missing."""
        is_missing, is_infinite = np.isnan(values), np.isinf(values)
        self.num_missing_ += int(counts[is_missing].sum())
        self.num_infinite_ += int(counts[is_infinite].sum())
        finite = ~(is_missing | is_infinite) & (counts > 0)
        values, counts = values[finite] + 0.0, counts[finite]  # + 0.0 turns -0.0 into 0.0
        if len(values) == 0:
            return
        self.num_values_ += int(counts.sum())
        self.low_, self.high_ = min(self.low_, float(values.min())), max(self.high_, float(values.max()))
        merged, inverse = np.unique(np.concatenate([self.values_, values]), return_inverse=True)
        totals = np.zeros(len(merged), np.int64)
        np.add.at(totals, inverse, np.concatenate([self.counts_, counts]))
        self.values_, self.counts_ = merged, totals
        if len(merged) > self.max_distinct:
            self._shrink()

    def merge(self, other: "NumberCounts") -> None:
        """Add what was counted in other rows; the sample is that of all rows together."""
        num_values = self.num_values_ + other.num_values_
        self.hash_limit_ = min(self.hash_limit_, other.hash_limit_)
        self.add(other.values_, other.counts_)
        self._shrink()
        self.num_values_ = num_values
        self.num_missing_ += other.num_missing_
        self.num_infinite_ += other.num_infinite_
        self.low_, self.high_ = min(self.low_, other.low_), max(self.high_, other.high_)

    def _shrink(self) -> None:
        """Halve the limit until few enough values are sampled: it depends on the values alone."""
        hashes = finalize(self.values_.view(np.uint64))
        while int((hashes <= np.uint64(self.hash_limit_)).sum()) > self.max_distinct:
            self.hash_limit_ >>= 1
        keep = hashes <= np.uint64(self.hash_limit_)
        keep[np.argsort(-self.counts_, kind="stable")[:_NUM_FREQUENT]] = True
        self.values_, self.counts_ = self.values_[keep], self.counts_[keep]

    @property
    def sample(self) -> Float[np.ndarray, " sampled"]:
        """Distinct values, sorted: all of them, or a uniform sample if there are too many."""
        return self.values_[finalize(self.values_.view(np.uint64)) <= np.uint64(self.hash_limit_)]


def bin_starts(values: Float[np.ndarray, " distinct"], num_bins: int) -> Float[np.ndarray, " bins"]:
    """The starts of at most `num_bins` bins with about equally many of the sorted distinct `values`.

    A bin starts half-way between its lowest value and the highest value of the bin before; the first bin
    starts at its lowest value.

    >>> bin_starts(np.array([1.0, 2.0, 10.0, 20.0]), num_bins=2)
    array([1., 6.])
    >>> bin_starts(np.array([1.0, 2.0]), num_bins=64)
    array([1. , 1.5])
    """
    num_bins = min(num_bins, len(values))
    first = np.arange(num_bins) * len(values) // max(num_bins, 1)
    starts = values[first]
    before = values[first[1:] - 1]
    middle = before / 2 + starts[1:] / 2  # halved first: the sum of two large numbers overflows
    starts[1:] = np.where(middle > before, middle, starts[1:])
    return starts


def _frequent(counts: NumberCounts, most: int) -> Float[np.ndarray, " frequent"]:
    """At most `most` values frequent enough for a token each, the most frequent first."""
    order = np.argsort(-counts.counts_, kind="stable")[:most]
    return counts.values_[order[counts.counts_[order] >= _FEWEST_SHARE * counts.num_values_]]


def write_number(value: float) -> str:
    """The shortest text that parses to `value`; whole numbers without a decimal point.

    >>> write_number(5.0), write_number(0.05), write_number(-0.0)
    ('5', '0.05', '0')
    """
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


@dataclass(frozen=True, kw_only=True)
class NumberEncoder:
    """Tokens of a numeric column, fitted on training values."""

    column: str
    low: float | None
    """Lowest number in training; None if there were none."""
    high: float | None
    exact: tuple[float, ...]
    """Values with a token each."""
    starts: tuple[float, ...]
    """Start of each bin; the last bin ends at `high`."""
    default: int

    @classmethod
    def fit(
        cls, column: str, counts: NumberCounts, num_bins: int, frequent_values: int = 0
    ) -> "NumberEncoder":
        """The encoder for these counts: exact tokens for the most frequent values, bins for the others.

        If there are more values than bins, up to `frequent_values` values that each occur in a thousandth of
        the flows get a token; otherwise one bin would mix the value that an attack always sends with its
        neighbours.
        """
        if len(counts.values_) == 0:
            default = _INFINITE if counts.num_infinite_ > counts.num_missing_ else MISSING
            return cls(column=column, low=None, high=None, exact=(), starts=(), default=default)
        most = int(np.argmax(counts.counts_))  # the lowest of equally frequent values
        mode = float(counts.values_[most])
        exact_values = {mode, 0.0} if bool((counts.values_ == 0).any()) else {mode}
        sample = counts.sample
        if len(sample) > num_bins:
            exact_values |= set(_frequent(counts, frequent_values).tolist())
        exact = tuple(sorted(exact_values))
        starts = bin_starts(sample[~np.isin(sample, exact)], num_bins)
        if len(starts) == 0 and counts.low_ < counts.high_:
            starts = np.array([counts.low_])  # values between two exact values need a bin
        candidates = {
            len(NUMERIC_STATES) + exact.index(mode): int(counts.counts_[most]),
            MISSING: counts.num_missing_,
            _INFINITE: counts.num_infinite_,
        }
        return cls(
            column=column,
            low=counts.low_,
            high=counts.high_,
            exact=exact,
            starts=tuple(starts.tolist()),
            default=max(candidates, key=lambda token: candidates[token]),
        )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot: special states, exact values, bins."""
        ends = (*self.starts[1:], self.high) if self.starts else ()
        intervals = [
            f"q{index} [{write_number(start)}, {write_number(end)}{')' if index + 1 < len(ends) else ']'}"
            for index, (start, end) in enumerate(zip(self.starts, ends, strict=True))
            if end is not None
        ]
        exact = [write_number(value) for value in self.exact]
        first_bin = len(NUMERIC_STATES) + len(exact)
        slot = Slot(
            name=self.column,
            special_states=NUMERIC_STATES,
            values=(*exact, *(f"q{index}" for index in range(len(self.starts)))),
            shown=(*exact, *intervals),
            default=self.default,
            bins=tuple(range(first_bin, first_bin + len(self.starts))),
            ordered=tuple(
                (len(NUMERIC_STATES) + np.argsort([*self.exact, *self.starts], kind="stable")).tolist()
            ),
        )
        return (slot,)

    def encode(self, values: pa.Array) -> Int[np.ndarray, "values 1"]:
        """Token of each number; null and NaN are missing."""
        numbers = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
        edges, tokens = self._steps
        return tokens[np.searchsorted(edges, numbers, side="right") - 1][:, None]

    @cached_property
    def _steps(self) -> tuple[Float[np.ndarray, " steps"], Int[np.ndarray, " steps"]]:
        """The token as a step function: `tokens[i]` from `edges[i]` up to, not including, `edges[i + 1]`.

        The result of every rule changes only at these edges; NaN is the last, since it sorts after infinity.
        So one binary search applies all rules at once.
        """
        largest = np.finfo(np.float64).max
        edges = [-np.inf, -largest, 0.0, np.inf, np.nan, *self.starts, *self.exact]
        edges += [math.nextafter(value, math.inf) for value in self.exact]
        if self.low is not None and self.high is not None:
            edges += [self.low, math.nextafter(self.high, math.inf)]
        ordered = np.unique(np.array(edges))
        return ordered, self._tokens_by_rule(ordered)

    def _tokens_by_rule(self, numbers: Float[np.ndarray, " numbers"]) -> Int[np.ndarray, " numbers"]:
        low = 0.0 if self.low is None else self.low
        # Without training values, every number from 0 on is above.
        high = -1.0 if self.high is None else self.high
        first_bin = len(NUMERIC_STATES) + len(self.exact)
        tokens = first_bin + (np.searchsorted(self.starts, numbers, side="right") - 1).clip(0)
        tokens[numbers < low] = _BELOW
        if low >= 0:
            tokens[numbers < 0] = _NEGATIVE
        tokens[(numbers > high) & (numbers >= low)] = UNSEEN
        for index, value in enumerate(self.exact):
            tokens[numbers == value] = len(NUMERIC_STATES) + index
        tokens[np.isinf(numbers)] = _INFINITE
        tokens[np.isnan(numbers)] = MISSING
        return tokens.astype(np.int32)
