"""What is usual in each column: of every class, and in the training data beside the test data."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.checks.comparison import DRIFT_MIN_ROWS, ks_distance
from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema

NUM_VALUES: Final = 3
"""The commonest values that are kept of a text column."""
_MAX_TEXT: Final = 60
_NUM_BINS: Final = 8
_NUM_DRIFTING: Final = 24
_MISSING: Final = "missing"
_NOT_COMPARED: Final = (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED, ColumnKind.CONSTANT)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnSummary:
    """The values of one column in some flows."""

    missing: float = 0.0
    """Fraction of the flows without a value."""
    quantiles: tuple[float, ...] = ()
    """5 %, 50 % and 95 % quantile of numbers; empty for other kinds."""
    values: Mapping[str, float] = field(default_factory=dict)
    """The commonest values of other kinds -> fraction of the flows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnDrift:
    """One column in training and test data."""

    column: str
    distance: float
    """In [0, 1]: Kolmogorov-Smirnov statistic of numbers, total variation distance of texts."""
    bins: tuple[str, ...]
    """A range of numbers, or a value."""
    train: tuple[float, ...]
    """Fraction of the flows in each bin."""
    test: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The columns of the data of a report."""

    kinds: Mapping[str, str] = field(default_factory=dict)
    """Column -> its kind (`ColumnKind`)."""
    typical: Mapping[str, Mapping[str, ColumnSummary]] = field(default_factory=dict)
    """Class -> column -> its usual values, by a sample of at most 40,000 rows of the file."""
    drift: Mapping[str, tuple[ColumnDrift, ...]] = field(default_factory=dict)
    """Test split -> its columns, the most drifted first."""


def describe_columns(sample: pa.Table, schema: FlowSchema, classes: ClassMap) -> Columns:
    """Kinds, and the usual values of each class, of a sample of a labelled file."""
    shown = [column for column in schema.columns if column.name in sample.column_names]
    kinds = {column.name: str(column.kind) for column in shown}
    if schema.label is None or schema.label not in sample.column_names:
        return Columns(kinds=kinds)
    labels = sample[schema.label].to_pylist()
    names = pa.array(
        [None if label is None else classes.class_of_label(label) for label in labels], pa.string()
    )
    typical: dict[str, dict[str, ColumnSummary]] = {}
    for name in map(str, pc.unique(names.drop_null()).to_pylist()):
        flows = sample.filter(pc.equal(names, pa.scalar(name)))
        typical[name] = {
            column.name: _summary(flows[column.name]) for column in shown if column.kind not in _NOT_COMPARED
        }
    return Columns(kinds=kinds, typical=typical)


def column_drift(train: pa.Table, test: pa.Table, schema: FlowSchema) -> tuple[ColumnDrift, ...]:
    """The features of both samples, the most drifted first; none if a sample is small."""
    if min(train.num_rows, test.num_rows) < DRIFT_MIN_ROWS:
        return ()
    common = [
        column
        for column in schema.features
        if column.kind is not ColumnKind.TEXT
        and column.name in train.column_names
        and column.name in test.column_names
    ]
    compared = [_drift(column, train[column.name], test[column.name]) for column in common]
    return tuple(sorted(compared, key=lambda one: (-one.distance, one.column))[:_NUM_DRIFTING])


def _summary(column: pa.ChunkedArray) -> ColumnSummary:
    present = column.drop_null()
    if pa.types.is_floating(column.type):
        numbers = present.to_numpy()
        numbers = numbers[np.isfinite(numbers)]
        missing = 1 - len(numbers) / max(1, len(column))
        if not len(numbers):
            return ColumnSummary(missing=missing)
        quantiles = np.quantile(numbers, (0.05, 0.5, 0.95))
        return ColumnSummary(missing=missing, quantiles=tuple(float(f"{q:.6g}") for q in quantiles))
    shares = {name[:_MAX_TEXT]: share for name, share in _shares(present, len(column)).items()}
    return ColumnSummary(
        missing=1 - len(present) / max(1, len(column)), values=dict(list(shares.items())[:NUM_VALUES])
    )


def _shares(texts: pa.ChunkedArray, num_rows: int) -> dict[str, float]:
    """Value -> fraction of the rows, the commonest first."""
    counts = pc.value_counts(texts)
    names = map(str, counts.field("values").to_pylist())
    shares = (counts.field("counts").to_numpy() / max(1, num_rows)).round(4).tolist()
    return dict(sorted(zip(names, shares, strict=True), key=lambda pair: (-pair[1], pair[0])))


def _drift(column: Column, train: pa.ChunkedArray, test: pa.ChunkedArray) -> ColumnDrift:
    distance = round(ks_distance(train.combine_chunks(), test.combine_chunks()), 4)
    if pa.types.is_floating(train.type) and pa.types.is_floating(test.type):
        bins, shares = _number_bins(*(side.to_numpy().astype(np.float64) for side in (train, test)))
    else:
        counted = [_shares(side.drop_null(), len(side)) for side in (train, test)]
        joined = {name: sum(one.get(name, 0.0) for one in counted) for one in counted for name in one}
        common = sorted(joined, key=lambda name: (-joined[name], name))[: _NUM_BINS - 1]
        missing = [side.null_count / len(side) for side in (train, test)]
        bins = [*(name[:_MAX_TEXT] for name in common), "other", _MISSING]
        shares = [
            [*(found := [one.get(name, 0.0) for name in common]), max(0.0, 1 - sum(found) - lost), lost]
            for one, lost in zip(counted, missing, strict=True)
        ]
    used = [at for at in range(len(bins)) if max(side[at] for side in shares) > 0]
    left, right = (tuple(round(side[at], 4) for at in used) for side in shares)
    return ColumnDrift(
        column=column.name, distance=distance, bins=tuple(bins[at] for at in used), train=left, test=right
    )


def _number_bins(train: np.ndarray, test: np.ndarray) -> tuple[list[str], list[list[float]]]:
    """Ranges with about equally many training values, and the fraction of both sides in each."""
    finite = [side[np.isfinite(side)] for side in (train, test)]
    pooled = np.concatenate(finite)
    if not len(pooled):
        return [_MISSING], [[1.0], [1.0]]
    given = finite[0] if len(finite[0]) else pooled
    inner = np.unique(np.quantile(given, np.linspace(0, 1, _NUM_BINS + 1)[1:-1]))
    # A value that is most of the column gets a bin of its own.
    edges = np.unique(
        [*inner, *(np.nextafter(value, np.inf) for value in inner if (given == value).mean() > 0.1)]
    )
    edges = edges[(edges > pooled.min()) & (edges <= pooled.max())]
    ends = [pooled.min(), *edges, pooled.max()]
    bins = []
    for at in range(len(ends) - 1):
        last = ends[at + 1] if at + 2 == len(ends) else np.nextafter(ends[at + 1], -np.inf)
        low, high = f"{ends[at]:.4g}", f"{last:.4g}"
        bins.append(low if low == high else f"{low} to {high}")
    shares = [
        [*(np.bincount(np.searchsorted(edges, one, side="right"), minlength=len(bins)) / len(side)).tolist(),
         1 - len(one) / len(side)]
        for one, side in zip(finite, (train, test), strict=True)
    ]  # fmt: skip
    return [*bins, _MISSING], shares
