"""Drift: whether traffic still looks as it did when the thresholds of a model were set.

Per feature and score, the distance of new traffic from the reference is the fraction of flows that would have
to change their value (total variation). A distance alone says nothing, since traffic differs from hour to
hour. Two rules decide, both from blocks of consecutive flows:

- Blocks of both sides are exchanged at random. The distance must be larger than it is after nearly all
  exchanges, for the largest of all features and scores (so that many features raise no more false alarms).
- It must be larger than that of any stretch of the reference, as long as the new traffic, from the rest.

Source: Westfall and Young, "Resampling-based multiple testing", Wiley, 1993, section 2.5 (maxT).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from wirebert.decision.traffic_blocks import (
    MOST_ODDS,
    NOVELTY_EDGES,
    NUM_BLOCKS,
    ODDS_STEP,
    SCORES,
    TrafficBlocks,
    cell_sizes,
)
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import Slot
from wirebert.errors import ArtifactError, DataError
from wirebert.shapes import Bool, Float64, Int32, Int64

FALSE_ALARM_RATE: Final = 0.01
"""Of a drift test on all features and scores of traffic that did not change."""
MIN_BLOCKS: Final = 10
"""A reference with fewer blocks is not kept."""
NEW_STATES: Final = ("<unseen>", "<above>")
"""Bins of values that training lacked."""
_NUM_EXCHANGES: Final = 999
_NUM_BINS: Final = 8
"""Bins of the values of a feature, beside one for each special state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureDrift:
    """One feature or score of new traffic beside the reference."""

    name: str
    """A feature, or one of `SCORES`."""
    is_score: bool
    distance: float
    """Total variation, in [0, 1]."""
    usual: float
    """The largest distance of a stretch of the reference, as long as the new traffic, from the rest."""
    p: float
    """p-value of the distance, corrected for the number of features and scores."""
    has_moved: bool
    bins: tuple[str, ...]
    """A value, a range or a state such as `<absent>`."""
    reference: tuple[float, ...]
    """Fraction of the flows in each bin."""
    now: tuple[float, ...]

    def shares(self, name: str) -> tuple[float, float]:
        """Fraction of the flows in the bins of this name, in the reference and now."""
        at = [index for index, text in enumerate(self.bins) if text == name]
        return sum((self.reference[i] for i in at), 0.0), sum((self.now[i] for i in at), 0.0)

    @property
    def change(self) -> tuple[str, float, float]:
        """The bin that changed most, with its fractions in the reference and now."""
        parts = zip(self.bins, self.reference, self.now, strict=True)
        return max(parts, key=lambda part: abs(part[1] - part[2]))


@dataclass(frozen=True, eq=False)
class DriftReference:
    """Distributions of features and scores in blocks of reference traffic: no address, name, time or text."""

    counts: Int32[np.ndarray, "blocks bins"]
    """Flows per bin."""
    bin_of_cell: Int32[np.ndarray, " cells"]
    """The bin of each cell of `TrafficBlocks`."""
    starts: Int32[np.ndarray, " measures"]
    """The first bin of each feature and score."""
    num_flows: int
    """Flows of the traffic that a block spans; new traffic is cut into blocks of at least so many."""

    @staticmethod
    def fit(blocks: TrafficBlocks, tokenizer: FlowTokenizer, stride: float = 1.0) -> "DriftReference | None":
        """The reference of these blocks; None if there are fewer than `MIN_BLOCKS`.

        Args:
            stride: flows of the traffic for each flow that was counted, if these are a sample of it.
        """
        cells = blocks.counts
        if len(cells) < MIN_BLOCKS:
            return None
        total, bins, starts = cells.sum(axis=0), list[int](), list[int]()
        first = 0
        slots: list[Slot | None] = [*tokenizer.slots, *(None for _ in SCORES)]
        for size, slot in zip(cell_sizes(tokenizer), slots, strict=True):
            starts.append(max(bins, default=-1) + 1)
            grouped = _group(total[first : first + size], slot)
            bins += [starts[-1] + one for one in grouped]
            first += size
        bin_of_cell = np.array(bins, np.int32)
        counts = _summed(cells, bin_of_cell, max(bins) + 1).astype(np.int32)
        span = int(np.ceil(blocks.num_flows * stride))
        return DriftReference(counts, bin_of_cell, np.array(starts, np.int32), span)

    @property
    def fewest_flows(self) -> int:
        """Fewest flows that can be compared."""
        return 2 * self.num_flows

    def new_blocks(self, tokenizer: FlowTokenizer, window: int | None = None) -> TrafficBlocks:
        """Counts the traffic that is to be compared; with `window`, the last blocks alone."""
        return TrafficBlocks(tokenizer, self.num_flows, window)

    def compare(
        self,
        blocks: TrafficBlocks,
        tokenizer: FlowTokenizer,
        false_alarm_rate: float = FALSE_ALARM_RATE,
        name: str = "traffic",
    ) -> tuple[MeasureDrift, ...]:
        """Every feature and score of the traffic that was counted; those that moved, then by distance.

        Raises:
            DataError: there are fewer than two blocks.
        """
        new = _summed(blocks.counts, self.bin_of_cell, self.counts.shape[1])
        if len(new) < 2:
            raise DataError(
                f"{name}: expected at least {self.fewest_flows:,} flows to compare with the reference, found "
                f"fewer than {(blocks.num_closed + 1) * blocks.num_flows:,}; give more traffic"
            )
        kept, later = self._shares(self.counts), self._shares(new)
        is_known = np.add.reduceat(new.sum(axis=0), self.starts) > 0  # a score may not have been computed
        is_known &= np.add.reduceat(self.counts.sum(axis=0), self.starts) > 0
        distance, p = self._exchange(kept, later, is_known)
        usual = self._usual(kept, round(len(new) * blocks.num_flows / self.num_flows))
        has_moved = (p <= false_alarm_rate) & (distance > usual)
        names = (*tokenizer.slot_names, *SCORES)
        texts = list(self._texts(tokenizer))
        ends = [*self.starts[1:].tolist(), self.counts.shape[1]]
        before, now = kept.mean(axis=0), later.mean(axis=0)
        measures = [
            MeasureDrift(
                name=names[at],
                is_score=at >= len(names) - len(SCORES),
                distance=float(distance[at]),
                usual=float(usual[at]),
                p=float(p[at]),
                has_moved=bool(has_moved[at]),
                bins=tuple(texts[first:end]),
                reference=tuple(before[first:end].tolist()),
                now=tuple(now[first:end].tolist()),
            )
            for at, (first, end) in enumerate(zip(self.starts.tolist(), ends, strict=True))
            if is_known[at]
        ]
        return tuple(sorted(measures, key=lambda one: (not one.has_moved, -one.distance, one.name)))

    def _shares(self, counts: np.ndarray) -> Float64[np.ndarray, "blocks bins"]:
        """Fraction of the flows of a block in each bin of a measure; 0 where it was not measured."""
        totals = np.add.reduceat(counts, self.starts, axis=1).clip(1)
        return counts / np.repeat(totals, np.diff([*self.starts, counts.shape[1]]), axis=1)

    def _distances(
        self, first: Float64[np.ndarray, "#draws bins"], second: Float64[np.ndarray, "#draws bins"]
    ) -> Float64[np.ndarray, "draws measures"]:
        return np.add.reduceat(np.abs(first - second), self.starts, axis=1) / 2

    def _exchange(
        self,
        kept: Float64[np.ndarray, "blocks bins"],
        later: Float64[np.ndarray, "others bins"],
        is_known: Bool[np.ndarray, " measures"],
    ) -> tuple[Float64[np.ndarray, " measures"], Float64[np.ndarray, " measures"]]:
        """Distance of each measure, and its p-value among exchanges of blocks."""
        rng, num_all = np.random.default_rng(0), len(kept) + len(later)
        is_later = np.zeros((1 + _NUM_EXCHANGES, num_all))
        is_later[:, len(kept) :] = 1  # the first one stays as measured
        is_later[1:] = rng.permuted(is_later[1:], axis=1)
        pooled = np.concatenate([kept, later])
        sums = is_later @ pooled
        drawn = self._distances(sums / len(later), (pooled.sum(axis=0) - sums) / len(kept))
        spread = drawn.std(axis=0)
        scale = np.where((spread > 1e-12) & is_known, spread, np.inf)
        surprise = (drawn - drawn.mean(axis=0)) / scale
        largest = surprise.max(axis=1)
        return drawn[0], (largest[:, None] >= surprise[0] - 1e-9).mean(axis=0)

    def _usual(
        self, kept: Float64[np.ndarray, "blocks bins"], length: int
    ) -> Float64[np.ndarray, " measures"]:
        """The largest distance of any stretch of the reference from the rest; of at most half of it."""
        length = min(max(length, 1), len(kept) // 2)
        sums = np.concatenate([np.zeros((1, kept.shape[1])), kept.cumsum(axis=0)])
        stretches = sums[length:] - sums[:-length]
        rest = (sums[-1] - stretches) / (len(kept) - length)
        return self._distances(stretches / length, rest).max(axis=0)

    def _texts(self, tokenizer: FlowTokenizer) -> Iterator[str]:
        """What each bin holds."""
        scores = (
            [f"{edge:.3g}" for edge in 1 / (1 + np.exp(MOST_ODDS - ODDS_STEP * np.arange(64)))],
            [f"{edge:.3g}" for edge in (0.0, *NOVELTY_EDGES)],
            ["pass", "alert"],
            ["none", "<unseen>"],
        )
        named = [([text or "text" for text in slot.texts], slot.ordered) for slot in tokenizer.slots]
        first = 0
        for texts, ordered in [*named, *((texts, tuple(range(len(texts)))) for texts in scores)]:
            bins = self.bin_of_cell[first : first + len(texts)]
            first += len(texts)
            in_order = [*(at for at in range(len(texts)) if at not in ordered), *ordered]
            for one in range(int(bins.min()), int(bins.max()) + 1):
                held = [texts[at] for at in in_order if bins[at] == one]
                is_range = int(np.argmax(bins == one)) in ordered
                several = f"{held[0]} ... {held[-1]}" if is_range else f"{len(held)} other values"
                yield held[0] if len(held) == 1 else several

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays to save."""
        span = np.array([self.num_flows], np.int64)
        return {"counts": self.counts, "bins": self.bin_of_cell, "starts": self.starts, "num_flows": span}

    @staticmethod
    def of(arrays: dict[str, Any], tokenizer: FlowTokenizer) -> "DriftReference":
        """The reference from its saved `arrays`.

        Raises:
            ArtifactError: they are not those of this tokenizer.
        """
        counts, bins, starts = (arrays[name].astype(np.int32) for name in ("counts", "bins", "starts"))
        sizes = cell_sizes(tokenizer)
        is_good = counts.ndim == 2 and MIN_BLOCKS <= len(counts) < 2 * NUM_BLOCKS and (counts >= 0).all()
        is_good = is_good and bins.shape == (sum(sizes),) and starts.shape == (len(sizes),)
        is_good = is_good and (np.unique(bins) == np.arange(counts.shape[1])).all()
        if not is_good or (starts != bins[np.cumsum([0, *sizes])[:-1]].clip(0)).any():
            raise ArtifactError("the drift reference is of another tokenizer")
        return DriftReference(counts, bins, starts, int(arrays["num_flows"][0]))


def _summed(
    cells: Int64[np.ndarray, "blocks cells"], bin_of_cell: Int32[np.ndarray, " cells"], num_bins: int
) -> Int64[np.ndarray, "blocks bins"]:
    """Flows per bin."""
    summed = np.zeros((len(cells), num_bins), np.int64)
    for row, counts in zip(summed, cells, strict=True):
        row[:] = np.bincount(bin_of_cell, counts, num_bins)
    return summed


def _group(totals: Int64[np.ndarray, " cells"], slot: Slot | None) -> list[int]:
    """The bin of each cell of a feature or score.

    Special states keep a bin each. Numbers get bins of about equally many flows, and of other values the most
    frequent ones a bin each.
    """
    num_states = 0 if slot is None else len(slot.special_states)
    everything = np.arange(len(totals))
    bins = everything.copy()
    ordered = everything if slot is None else np.array(slot.ordered, np.int64)
    if len(ordered) > _NUM_BINS:
        own, total = totals[ordered], max(1, int(totals[ordered].sum()))
        bins[ordered] = num_states + (2 * own.cumsum() - own) * _NUM_BINS // (2 * total + 1)
    others = np.setdiff1d(everything[num_states:], ordered)
    falling = others[np.argsort(-totals[others], kind="stable")]
    bins[falling[_NUM_BINS:]] = bins[falling[_NUM_BINS - 1]] if len(falling) > _NUM_BINS else 0
    return np.unique(bins, return_inverse=True)[1].tolist()
