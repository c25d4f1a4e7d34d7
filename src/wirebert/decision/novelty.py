"""How unlike anything in training a flow is: its distance from training flows among standardised columns.

A classifier has to name one of its classes. These scores say whether training has met anything like the flow
before, the higher the stranger.
"""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float16, Float32, Float64, Int64

from wirebert.encoding.matrix import FeatureEncoder

MAX_DISTANCE = 10.0
"""Spreads from the mean at which a dimension is cut."""

CONSTANT_SPREAD = 0.1
"""Taken for the spread of a dimension that never moves in training: a category never met lies as far out as
can be."""

MAX_LEVELS = 64
"""Most frequent values of a category that get a dimension each."""

_CANDIDATES = 1024
"""Points among which the next ones are chosen before all others are looked at again."""

_ROWS_AT_ONCE = 4096
_POINTS_AT_ONCE = 512
"""Points whose distances from all that were kept are held at once: few enough for a processor's cache."""


@dataclass(frozen=True)
class Neighbours:
    """Some training flows that represent all; a flow is as novel as the nearest of them is far.

    Source: Sun et al., "Out-of-distribution detection with deep nearest neighbors", ICML 2022.
    """

    kept: Float32[np.ndarray, "kept dims"]

    @staticmethod
    def fit(points: Float[np.ndarray, "flows dims"], num_kept: int, seed: int) -> "Neighbours":
        """At most `num_kept` different training flows: so that none lies far from all of them
        (`farthest_first`)."""
        bits = np.ascontiguousarray(
            points.astype(np.float32) + 0.0
        )  # no negative zeros: equal flows have equal bits
        rows = bits.view([("", bits.dtype)] * bits.shape[1]).ravel()
        distinct = bits[np.unique(rows, return_index=True)[1]]
        if len(distinct) > num_kept:
            distinct = distinct[np.sort(farthest_first(distinct, num_kept, seed))]
        return Neighbours(distinct)

    def distances(self, points: Float[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        """Distance from the nearest flow that was kept."""
        found = [np.sqrt((apart**2).sum(axis=1)) for apart in self.differences(points)]
        return np.concatenate([np.empty(0), *found])

    def differences(
        self, points: Float[np.ndarray, "flows dims"]
    ) -> Iterator[Float64[np.ndarray, "some dims"]]:
        """Each flow less the nearest one that was kept, some flows at a time."""
        is_told, factors, squares = self._search
        for first in range(0, len(points), _POINTS_AT_ONCE):
            some = points[first : first + _POINTS_AT_ONCE].astype(np.float32)
            squared = some[:, is_told] @ factors
            squared += squares
            nearest = squared.argmin(axis=1)
            # Worked out again for the one that is nearest: the difference of large squares would lose a small
            # distance.
            yield (some - self.kept[nearest]).astype(np.float64)

    @cached_property
    def _search(
        self,
    ) -> tuple[Bool[np.ndarray, " dims"], Float32[np.ndarray, "told kept"], Float32[np.ndarray, " kept"]]:
        """What finds the nearest one: the dimensions that tell flows apart, and the terms of |x - y|^2 that
        depend on y.

        A dimension in which all that were kept agree is as far from each of them, and many are such.
        """
        is_told = (self.kept != self.kept[0]).any(axis=0)
        told = self.kept[:, is_told]
        return is_told, np.ascontiguousarray(-2 * told.T), np.einsum("nd,nd->n", told, told)


def farthest_first(
    points: Float32[np.ndarray, "points dims"], num_chosen: int, seed: int
) -> Int64[np.ndarray, " chosen"]:
    """Points that represent all: the first by chance, then always the one that is farthest from all before
    it.

    Common flows lie close together and need few that stand for them; a random choice takes most of its points
    there and leaves rare ones out. At most as many as there are points, which are all different.

    Source: Gonzalez, "Clustering to minimize the maximum intercluster distance", Theoretical Computer Science
    38, 1985; Roth et al., "Towards total recall in industrial anomaly detection", CVPR 2022, section 3.2.
    """
    told = np.ascontiguousarray(points[:, (points != points[0]).any(axis=0)])
    squares = np.einsum("nd,nd->n", told, told)
    new = [int(np.random.default_rng(seed).integers(len(points)))]
    chosen = [*new]
    apart = np.full(len(points), np.inf, np.float32)  # squared distance from the nearest one chosen
    while len(chosen) < min(num_chosen, len(points)):
        for first in range(0, len(points), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            squared = squares[some, None] - 2 * told[some] @ told[new].T + squares[new]
            np.minimum(apart[some], squared.min(axis=1), out=apart[some])
        apart[new] = -np.inf
        # The farthest candidate is the farthest point as long as it is as far as any other point was at
        # first, since distances only shrink.
        pool = np.argsort(apart)[-_CANDIDATES - 1 :]
        farthest_other = apart[pool[0]] if len(pool) > _CANDIDATES else -np.inf
        left = apart[pool]
        between = squares[pool, None] - 2 * told[pool] @ told[pool].T + squares[pool]
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
    """Typed tables as points, one dimension or more per column, on which distances mean something.

    A number is its logarithm (sign kept) and whether it is missing; a category is one dimension for each of
    its frequent values, and one each for rare ones, those never met and missing ones. Each dimension is
    standardised on training flows and cut at 10 spreads, so that no single column can drown the others.
    Columns that trees do not read (`tree_features`) have no dimension.
    """

    encoder: FeatureEncoder
    logarithms: bool
    """Whether numbers are taken by their logarithm; plain ones are a baseline's."""
    means: Float32[np.ndarray, " dims"]
    spreads: Float32[np.ndarray, " dims"]

    @staticmethod
    def fit(measured: pa.Table, *, logarithms: bool = True) -> "ColumnSpace":
        """The space of these measured training flows (`tree_features.extract_features`)."""
        coding = FeatureEncoder.fit(measured)
        plain = _dimensions(coding, measured, logarithms)
        spreads = plain.std(axis=0)
        spreads[spreads == 0] = CONSTANT_SPREAD
        return ColumnSpace(coding, logarithms, plain.mean(axis=0), spreads)

    def points(self, measured: pa.Table) -> Float32[np.ndarray, "flows dims"]:
        """A point for each flow, in half precision, so that it is the same after it was saved."""
        standard = (_dimensions(self.encoder, measured, self.logarithms) - self.means) / self.spreads
        return standard.clip(-MAX_DISTANCE, MAX_DISTANCE).astype(np.float16).astype(np.float32)

    @property
    def starts(self) -> Int64[np.ndarray, " columns"]:
        """The first dimension of each column."""
        widths = [2 if values is None else _num_levels(values) + 3 for _, values in self.encoder.known]
        return np.cumsum([0, *widths], dtype=np.int64)[:-1]


@dataclass(frozen=True, slots=True)
class NoveltyScorer:
    """What tells how unlike all training flows a flow is: its distance from the nearest of some of them."""

    space: ColumnSpace
    neighbours: Neighbours

    @staticmethod
    def fit(measured: pa.Table, num_kept: int, seed: int) -> "NoveltyScorer":
        """Of these measured training flows, of which there is at least one."""
        space = ColumnSpace.fit(measured)
        return NoveltyScorer(space, Neighbours.fit(space.points(measured), num_kept, seed))

    def scores(self, measured: pa.Table) -> Float64[np.ndarray, " flows"]:
        """The novelty of each flow; 0 for one that training has seen just so."""
        return self.neighbours.distances(self.space.points(measured))

    def contributions(self, measured: pa.Table) -> Float64[np.ndarray, "flows columns"]:
        """How far each column (of `space.encoder`) sets each flow apart: its share of the squared distance
        from the nearest flow.

        The shares of a flow add up to 1; all are 0 for one that training has seen just so.
        """
        starts = self.space.starts
        if not len(starts):
            return np.zeros((measured.num_rows, 0))
        points = self.space.points(measured)
        found = [np.add.reduceat(apart**2, starts, axis=1) for apart in self.neighbours.differences(points)]
        squared = np.concatenate([np.empty((0, len(starts))), *found])
        total = squared.sum(axis=1, keepdims=True)
        return squared / np.where(total > 0, total, 1)

    @property
    def codes(self) -> dict[str, list[str] | None]:
        """Column -> its known values by falling frequency, None for numbers; with `arrays` all there is to
        save."""
        return {
            name: None if values is None else cast(list[str], values.to_pylist())
            for name, values in self.space.encoder.known
        }

    @property
    def arrays(self) -> dict[str, Float16[np.ndarray, "..."] | Float32[np.ndarray, "..."]]:
        """What to save beside `codes`."""
        return {
            "means": self.space.means,
            "spreads": self.space.spreads,
            "kept": self.neighbours.kept.astype(np.float16),
        }

    @staticmethod
    def of(codes: Mapping[str, list[str] | None], arrays: Mapping[str, np.ndarray]) -> "NoveltyScorer":
        """The inverse of `codes` and `arrays`."""
        known = [
            (name, None if values is None else pa.array(values, pa.string()))
            for name, values in codes.items()
        ]
        space = ColumnSpace(FeatureEncoder(tuple(known)), True, arrays["means"], arrays["spreads"])
        return NoveltyScorer(space, Neighbours(arrays["kept"].astype(np.float32)))


def _dimensions(
    coding: FeatureEncoder, measured: pa.Table, logarithms: bool
) -> Float32[np.ndarray, "flows dims"]:
    """Dimensions before they are standardised."""
    found: list[Float32[np.ndarray, " flows"]] = []
    matrix = coding.matrix(measured)
    for column, (_, values) in enumerate(coding.known):
        numbers = matrix[:, column]
        if values is None:
            plain = np.sign(numbers) * np.log1p(np.abs(numbers)) if logarithms else numbers
            found += [np.nan_to_num(plain).astype(np.float32), np.isnan(numbers).astype(np.float32)]
        else:
            num_levels = _num_levels(values)
            # After the frequent values: rare ones, those never met, missing ones.
            levels = np.digitize(numbers, [*range(1, num_levels + 1), len(values)])
            levels[np.isnan(numbers)] = num_levels + 2
            found += [(levels == level).astype(np.float32) for level in range(num_levels + 3)]
    return np.stack(found, axis=1) if found else np.zeros((measured.num_rows, 1), np.float32)


def _num_levels(values: Sized) -> int:
    """Values of a category that have a dimension each."""
    return min(len(values), MAX_LEVELS)
