"""Novelty: the distance of a flow from the nearest training flow, over standardised columns.

A classifier must name one of its classes. The novelty shows whether training had anything like the flow; the
higher, the less alike.
"""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa

from wirebert.encoding.matrix import FeatureEncoder
from wirebert.shapes import Bool, Float, Float16, Float32, Float64, Int64

MAX_DISTANCE = 10.0
"""Spreads from the mean at which a dimension is cut."""

RELATIVE_MAX_DISTANCE = 1.5
"""The same where novelty is relative: it counts in how many dimensions a flow differs, and hardly how much.
Chosen on attacks of training files (docs/experiments.md)."""

NUM_AROUND = 10
"""The distance to the training flow of this rank says how far apart training flows lie around a kept one."""

CONSTANT_SPREAD = 0.1
"""Spread of a dimension that is constant in training, so that a new category lies as far out as possible."""

MAX_LEVELS = 64
"""Most frequent values of a category that get a dimension each."""

_CANDIDATES = 1024
"""Points from which the next ones are chosen before all distances are updated again."""

_ROWS_AT_ONCE = 4096
_POINTS_AT_ONCE = 512
"""Points whose distances to the kept flows are in memory at once: few enough for a processor's cache."""


@dataclass(frozen=True)
class Neighbours:
    """Training flows that represent all of them; the novelty of a flow is the distance to the nearest one.

    Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
    """

    kept: Float32[np.ndarray, "kept dims"]
    gaps: Float32[np.ndarray, " kept"] | None = None
    """How far apart training flows lie around each kept one, from 0.5 up; 1 where that is usual.
    None: novelty is the plain distance."""

    @staticmethod
    def fit(
        points: Float[np.ndarray, "flows dims"], num_kept: int, seed: int, *, is_relative: bool = False
    ) -> "Neighbours":
        """At most `num_kept` distinct training flows, chosen by `farthest_first`.

        Args:
            is_relative: Whether novelty is relative to how far apart training flows lie nearby.
        """
        # Adding 0.0 removes negative zeros, so equal flows have equal bits.
        distinct = _distinct_rows(np.ascontiguousarray(points.astype(np.float32) + 0.0))
        kept = distinct
        if len(distinct) > num_kept:
            kept = distinct[np.sort(farthest_first(distinct, num_kept, seed))]
        return Neighbours(kept, gaps_around(kept, distinct, seed) if is_relative else None)

    def distances(self, points: Float[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        """Distance from the nearest kept flow, divided by the square root of the gap around that."""
        parts = [np.empty(0)]
        for apart, nearest in self.differences(points):
            distances = np.sqrt((apart**2).sum(axis=1))
            parts.append(distances if self.gaps is None else distances / np.sqrt(self.gaps[nearest]))
        return np.concatenate(parts)

    def differences(
        self, points: Float[np.ndarray, "flows dims"]
    ) -> Iterator[tuple[Float64[np.ndarray, "some dims"], Int64[np.ndarray, " some"]]]:
        """Each flow minus the nearest kept one, and which that is, in parts of some flows."""
        varies, factors, squares = self._search
        for first in range(0, len(points), _POINTS_AT_ONCE):
            some = points[first : first + _POINTS_AT_ONCE].astype(np.float32)
            squared = some[:, varies] @ factors
            squared += squares
            nearest = squared.argmin(axis=1)
            # Computed again for the nearest one: a difference of large squares would lose a small distance.
            yield (some - self.kept[nearest]).astype(np.float64), nearest

    def nearest(self, points: Float[np.ndarray, "flows dims"]) -> Float[np.ndarray, "flows dims"]:
        """The kept flow nearest to each flow."""
        parts = [apart for apart, _ in self.differences(points)]
        return points - np.concatenate(parts) if parts else points

    @cached_property
    def _search(
        self,
    ) -> tuple[Bool[np.ndarray, " dims"], Float32[np.ndarray, "varying kept"], Float32[np.ndarray, " kept"]]:
        """The dimensions in which kept flows differ, and the terms of |x - y|^2 that depend on y.

        Many dimensions are constant over the kept flows; these do not change which flow is nearest.
        """
        varies = (self.kept != self.kept[0]).any(axis=0)
        varying = self.kept[:, varies]
        return varies, np.ascontiguousarray(-2 * varying.T), np.einsum("nd,nd->n", varying, varying)


def _distinct_rows(points: Float32[np.ndarray, "flows dims"]) -> Float32[np.ndarray, "distinct dims"]:
    """The different rows in lexicographic order, like `np.unique(points, axis=0)` in a fifth of the time.

    Rows are compared as bytes: those of a float in big-endian order sort like the float, once the bits of a
    negative one, and the sign of a positive one, are inverted.
    """
    bits = points.view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31)).astype(">u4")
    rows = keys.view(np.dtype((np.void, keys.itemsize * keys.shape[1]))).ravel()
    return points[np.unique(rows, return_index=True)[1]]


def gaps_around(
    kept: Float32[np.ndarray, "kept dims"], distinct: Float32[np.ndarray, "points dims"], seed: int
) -> Float32[np.ndarray, " kept"]:
    """How far apart the `distinct` points lie around each kept one, half of it from what is usual.

    Where training flows lie far apart, a new flow at some distance is less unusual than where they are dense.

    Source: Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000.

    NOTE[DIFF]: one neighbour's distance in place of reachability densities. Novelty divides by the square
    root of the gap, half way between the plain distance and LOF. Half of a gap is what is usual, so that one
    dense cluster does not make all other flows unusual.
    """
    rank = min(NUM_AROUND, len(distinct) - 1)
    squares = np.einsum("nd,nd->n", distinct, distinct)
    some = distinct[np.random.default_rng(seed).permutation(len(distinct))[:_POINTS_AT_ONCE]]
    apart: list[np.ndarray] = []
    for first in range(-_POINTS_AT_ONCE, len(kept), _POINTS_AT_ONCE):
        part = some if first < 0 else kept[first : first + _POINTS_AT_ONCE]
        squared = squares - 2 * part @ distinct.T + np.einsum("nd,nd->n", part, part)[:, None]
        apart.append(np.sqrt(np.partition(squared, rank, axis=1)[:, rank].clip(0)))
    usual = max(float(np.median(apart[0])), 1e-6)
    return ((usual + np.concatenate(apart[1:])) / (2 * usual)).astype(np.float32)


def farthest_first(
    points: Float32[np.ndarray, "points dims"], num_chosen: int, seed: int
) -> Int64[np.ndarray, " chosen"]:
    """Positions of points that represent all: a random one, then always the one farthest from those before.

    Common flows lie close together, so few points represent them; a random choice would take most of its
    points there and miss rare ones. All `points` must differ; at most all of them are chosen.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science
    38, 1985; Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022, section 3.2.
    """
    varying = np.ascontiguousarray(points[:, (points != points[0]).any(axis=0)])
    squares = np.einsum("nd,nd->n", varying, varying)
    new = [int(np.random.default_rng(seed).integers(len(points)))]
    chosen = [*new]
    apart = np.full(len(points), np.inf, np.float32)  # squared distance from the nearest one chosen
    while len(chosen) < min(num_chosen, len(points)):
        for first in range(0, len(points), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            squared = squares[some, None] - 2 * varying[some] @ varying[new].T + squares[new]
            np.minimum(apart[some], squared.min(axis=1), out=apart[some])
        apart[new] = -np.inf
        # Distances only shrink: the farthest candidate is the farthest of all points as long as no other
        # point was farther at first.
        pool = np.argsort(apart)[-_CANDIDATES - 1 :]
        farthest_other = apart[pool[0]] if len(pool) > _CANDIDATES else -np.inf
        left = apart[pool]
        between = squares[pool, None] - 2 * varying[pool] @ varying[pool].T + squares[pool]
        new = []
        while len(chosen) < num_chosen:
            at = int(left.argmax())
            if new and left[at] < max(farthest_other, 0):
                break
            new.append(int(pool[at]))
            chosen.append(new[-1])
            np.minimum(left, between[at], out=left)
            left[at] = -np.inf
    return np.array(chosen)


@dataclass(frozen=True, slots=True)
class ColumnSpace:
    """Maps typed tables to points, one or more dimensions per column, with comparable distances.

    A number becomes its logarithm (with its sign) and whether it is missing. A category becomes one dimension
    per frequent value, and one each for rare, new and missing values. Each dimension is standardised on
    training flows and cut at `max_distance` spreads, so that no column can drown the others. Columns that
    trees do not read (`tree_features`) have no dimension.
    """

    encoder: FeatureEncoder
    logarithms: bool
    """Whether numbers become logarithms; a baseline uses plain numbers."""
    means: Float32[np.ndarray, " dims"]
    spreads: Float32[np.ndarray, " dims"]
    max_distance: float = MAX_DISTANCE

    @staticmethod
    def fit(
        measured: pa.Table, *, logarithms: bool = True, max_distance: float = MAX_DISTANCE
    ) -> "ColumnSpace":
        """The space of these measured training flows (`tree_features.extract_features`)."""
        coding = FeatureEncoder.fit(measured)
        plain = _dimensions(coding, measured, logarithms)
        spreads = plain.std(axis=0)
        spreads[spreads == 0] = CONSTANT_SPREAD
        return ColumnSpace(coding, logarithms, plain.mean(axis=0), spreads, max_distance)

    def points(self, measured: pa.Table) -> Float32[np.ndarray, "flows dims"]:
        """A point for each flow, rounded to half precision, so that saving does not change it."""
        standard = (_dimensions(self.encoder, measured, self.logarithms) - self.means) / self.spreads
        return standard.clip(-self.max_distance, self.max_distance).astype(np.float16).astype(np.float32)

    def values(self, points: Float[np.ndarray, "flows dims"]) -> dict[str, pa.Array]:
        """About the values that lie at these points, by column; rare and new categories are null.

        Points are rounded and cut at `max_distance`, so numbers come back with two or three digits.
        """
        plain = points * self.spreads + self.means
        columns: dict[str, pa.Array] = {}
        for start, (name, values) in zip(self.starts.tolist(), self.encoder.known, strict=True):
            if values is None:
                logarithms = plain[:, start].astype(np.float64)
                numbers = (
                    np.sign(logarithms) * np.expm1(np.abs(logarithms)) if self.logarithms else logarithms
                )
                columns[name] = pa.array(numbers, mask=plain[:, start + 1] > 0.5)
            else:
                num_levels = _num_levels(values)
                level = plain[:, start : start + num_levels + 3].argmax(axis=1)
                columns[name] = values.take(pa.array(level, pa.int64(), mask=level >= num_levels))
        return columns

    @property
    def starts(self) -> Int64[np.ndarray, " columns"]:
        """The first dimension of each column."""
        widths = [2 if values is None else _num_levels(values) + 3 for _, values in self.encoder.known]
        return np.cumsum([0, *widths], dtype=np.int64)[:-1]


@dataclass(frozen=True, slots=True)
class NoveltyScorer:
    """Scores the novelty of flows: the distance from the nearest of the kept training flows."""

    space: ColumnSpace
    neighbours: Neighbours

    @staticmethod
    def fit(measured: pa.Table, num_kept: int, seed: int, *, is_relative: bool = False) -> "NoveltyScorer":
        """Fit to these measured training flows, at least one; `is_relative` as in `Neighbours.fit`."""
        most = RELATIVE_MAX_DISTANCE if is_relative else MAX_DISTANCE
        space = ColumnSpace.fit(measured, max_distance=most)
        points = space.points(measured)
        return NoveltyScorer(space, Neighbours.fit(points, num_kept, seed, is_relative=is_relative))

    def scores(self, measured: pa.Table) -> Float64[np.ndarray, " flows"]:
        """The novelty of each flow; 0 for one that equals a kept training flow."""
        return self.neighbours.distances(self.space.points(measured))

    def contributions(self, measured: pa.Table) -> Float64[np.ndarray, "flows columns"]:
        """The fraction of each column (of `space.encoder`) in the squared distance from the nearest flow.

        The fractions of a flow add up to 1; all are 0 for one that equals a kept training flow.
        """
        starts = self.space.starts
        if not len(starts):
            return np.zeros((measured.num_rows, 0))
        points = self.space.points(measured)
        found = self.neighbours.differences(points)
        parts = [np.add.reduceat(apart**2, starts, axis=1) for apart, _ in found]
        squared = np.concatenate([np.empty((0, len(starts))), *parts])
        total = squared.sum(axis=1, keepdims=True)
        return squared / np.where(total > 0, total, 1)

    @property
    def codes(self) -> dict[str, list[str] | None]:
        """Column -> its known values by falling frequency, None for numbers. Saved together with `arrays`."""
        return {
            name: None if values is None else cast(list[str], values.to_pylist())
            for name, values in self.space.encoder.known
        }

    @property
    def arrays(self) -> dict[str, Float16[np.ndarray, "..."] | Float32[np.ndarray, "..."]]:
        """The arrays to save together with `codes`."""
        gaps = self.neighbours.gaps
        return {
            "means": self.space.means,
            "spreads": self.space.spreads,
            "kept": self.neighbours.kept.astype(np.float16),
            "max_distance": np.array([self.space.max_distance], np.float32),
        } | ({} if gaps is None else {"gaps": gaps})

    @staticmethod
    def of(codes: Mapping[str, list[str] | None], arrays: Mapping[str, np.ndarray]) -> "NoveltyScorer":
        """The scorer from its saved `codes` and `arrays`."""
        known = [
            (name, None if values is None else pa.array(values, pa.string()))
            for name, values in codes.items()
        ]
        most = float(arrays["max_distance"][0])
        space = ColumnSpace(FeatureEncoder(tuple(known)), True, arrays["means"], arrays["spreads"], most)
        return NoveltyScorer(space, Neighbours(arrays["kept"].astype(np.float32), arrays.get("gaps")))


def _dimensions(
    coding: FeatureEncoder, measured: pa.Table, logarithms: bool
) -> Float32[np.ndarray, "flows dims"]:
    """Dimensions before they are standardised."""
    dimensions: list[Float32[np.ndarray, " flows"]] = []
    matrix = coding.matrix(measured)
    for column, (_, values) in enumerate(coding.known):
        numbers = matrix[:, column]
        if values is None:
            plain = np.sign(numbers) * np.log1p(np.abs(numbers)) if logarithms else numbers
            dimensions += [np.nan_to_num(plain).astype(np.float32), np.isnan(numbers).astype(np.float32)]
        else:
            num_levels = _num_levels(values)
            # After the frequent values: rare, new and missing ones.
            levels = np.digitize(numbers, [*range(1, num_levels + 1), len(values)])
            levels[np.isnan(numbers)] = num_levels + 2
            dimensions += [(levels == level).astype(np.float32) for level in range(num_levels + 3)]
    return np.stack(dimensions, axis=1) if dimensions else np.zeros((measured.num_rows, 1), np.float32)


def _num_levels(values: Sized) -> int:
    """Number of values of a category that get a dimension."""
    return min(len(values), MAX_LEVELS)
