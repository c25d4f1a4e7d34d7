"""Checks on test data beside training data: what both hold, what only one holds, and how far they lie apart."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from wirebert.data.arrow_columns import seconds_of
from wirebert.data.checks.findings import Finding, Subject, format_names, format_row_count, present, row_name
from wirebert.data.schema.schema import ColumnKind

DRIFT_LIMIT = 0.25
"""Distance of two distributions, in [0, 1], from which a column is said to drift."""
DRIFT_MIN_ROWS = 100
MAX_DRIFTING = 10
"""Columns that are named, the farthest first."""


def train_overlap(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test rows whose features all equal those of some training row; or that none does, which is worth knowing too."""
    is_shared = np.isin(test.profile.feature_hashes, train.profile.feature_hashes)
    count = int(is_shared.sum())
    if count:
        yield Finding(
            code="shared_rows",
            severity="warning",
            column=None,
            count=count,
            example=row_name(is_shared),
            message=f"{format_row_count(count, test.profile.num_rows)} of {test.profile.name} share all features with a row of "
            f"{train.profile.name}; read the figures on the other rows beside the total, because a model may know these by heart",
        )
    elif test.profile.num_rows:
        yield Finding(
            code="no_shared_rows",
            severity="info",
            column=None,
            count=0,
            example="",
            message=f"no row of {test.profile.name} shares all features with a row of {train.profile.name}; nothing to do",
        )


def shared_shapes(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test rows whose texts differ from a training row's in digits at most."""
    if train.profile.shape_hashes is None or test.profile.shape_hashes is None:
        return
    is_shared = np.isin(test.profile.shape_hashes, train.profile.shape_hashes)
    if not is_shared.any():
        return
    yield Finding(
        code="near_duplicate_texts_in_test",
        severity="warning",
        column=None,
        count=int(is_shared.sum()),
        example=row_name(is_shared),
        message=f"{format_row_count(int(is_shared.sum()), test.profile.num_rows)} of {test.profile.name} equal a row of "
        f"{train.profile.name} once every digit is read as 0; read the figures on the other rows beside the total",
    )


def new_labels(train: Subject, test: Subject) -> Iterator[Finding]:
    """Labels and classes that only the test data have."""
    known = {name for name, count in train.profile.label_counts.items() if count}
    labels = {name: n for name, n in test.profile.label_counts.items() if n and name not in known}
    if labels:
        yield Finding(
            code="new_labels",
            severity="warning",
            column=test.profile.schema.label,
            count=sum(labels.values()),
            example=max(labels, key=lambda name: labels[name]),
            message=f"{len(labels)} labels ({format_row_count(sum(labels.values()), test.profile.num_rows)}) occur only in "
            f"{test.profile.name}: {format_names(sorted(labels))}; read how these fare by themselves, because nothing like them was "
            "learned",
        )
    classes = {name: n for name, n in present(test.counts).items() if not train.counts.get(name)}
    if classes and set(classes) != set(labels):
        yield Finding(
            code="new_classes",
            severity="warning",
            column=test.profile.schema.label,
            count=sum(classes.values()),
            example=max(classes, key=lambda name: classes[name]),
            message=f"classes {format_names(sorted(classes))} occur only in {test.profile.name} and can not be predicted; "
            "map their labels to known classes",
        )


def missing_classes(train: Subject, test: Subject) -> Iterator[Finding]:
    """Classes that the test data lack: there is no figure for them."""
    gone = [name for name in present(train.counts) if not test.counts.get(name)]
    if not gone or not present(test.counts):
        return
    yield Finding(
        code="classes_not_tested",
        severity="warning",
        column=test.profile.schema.label,
        count=sum(train.counts[name] for name in gone),
        example=gone[0],
        message=f"classes {format_names(gone)} do not occur in {test.profile.name}, so nothing is known of how well they are "
        "found; add rows of them",
    )


def known_endpoints(train: Subject, test: Subject) -> Iterator[Finding]:
    """Addresses of the test data that occur in the training data: the same network."""
    for name, values, others in _pairs(train, test, (ColumnKind.ADDRESS,)):
        is_known = pc.is_in(values, value_set=pc.unique(others).drop_null())
        share = (pc.sum(is_known.cast(pa.int64())).as_py() or 0) / len(values)
        if share > 0.5:
            yield Finding(
                code="same_hosts",
                severity="info",
                column=name,
                count=round(share * test.profile.num_rows),
                example=str(values.filter(is_known)[0].as_py()),
                message=f"{share:.0%} of the values of {name!r} in {test.profile.name} occur in {train.profile.name} too; "
                "the figures hold for these hosts, so test on another network",
            )


def time_overlap(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test data that were recorded before training data ended."""
    for name, values, others in _pairs(train, test, (ColumnKind.TIME,)):
        tested, trained = seconds_of(values), seconds_of(others)
        if np.isfinite(tested).mean() < 0.9 or np.isfinite(trained).mean() < 0.9:
            continue
        early = float(np.nanmean(tested < np.nanmax(trained)))
        if early > 0:
            yield Finding(
                code="time_overlap",
                severity="info",
                column=name,
                count=round(early * test.profile.num_rows),
                example=f"{early:.1%}",
                message=f"{early:.1%} of {test.profile.name} was recorded before {train.profile.name} ends (by {name!r}); "
                "figures say nothing about later traffic, so test on what was recorded afterwards",
            )
            return


def drift(train: Subject, test: Subject) -> Iterator[Finding]:
    """Features that are distributed otherwise in the test data, the farthest first."""
    kinds = tuple(kind for kind in ColumnKind if kind.can_be_feature and kind is not ColumnKind.TEXT)
    features = {column.name for column in test.profile.schema.features}
    found = sorted(
        (
            (ks_distance(others, values), name)
            for name, values, others in _pairs(train, test, kinds)
            if name in features
        ),
        reverse=True,
    )
    for far, name in found[:MAX_DRIFTING]:
        if far >= DRIFT_LIMIT:
            yield Finding(
                code="drift",
                severity="info",
                column=name,
                count=test.profile.num_rows,
                example=f"{far:.2f}",
                message=f"column {name!r} is distributed otherwise in {test.profile.name} than in {train.profile.name} "
                f"(distance {far:.2f} of 1); expect figures below those of validation",
            )


def ks_distance(one: pa.Array, other: pa.Array) -> float:
    """How far two columns are apart, in [0, 1]: the largest gap of the distribution functions of numbers (Kolmogorov and
    Smirnov), and the total variation of shares of texts. Missing is a value.

    >>> ks_distance(pa.array(["a", "a"]), pa.array(["a", "b"])), ks_distance(pa.array([1.0, 2.0]), pa.array([3.0, 4.0]))
    (0.5, 1.0)
    """
    if pa.types.is_floating(one.type) and pa.types.is_floating(other.type):
        left, right = _numbers(one), _numbers(other)
        places = np.unique(np.concatenate([left, right]))
        below = [np.searchsorted(np.sort(side), places, side="right") / len(side) for side in (left, right)]
        return float(np.abs(below[0] - below[1]).max())
    shares = [_shares(side) for side in (one, other)]
    names = shares[0].keys() | shares[1].keys()
    return 0.5 * sum(abs(shares[0].get(name, 0.0) - shares[1].get(name, 0.0)) for name in names)


def _numbers(values: pa.Array) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(values.to_numpy(zero_copy_only=False), nan=-np.inf)


def _shares(values: pa.Array) -> dict[str, float]:
    counts = pc.value_counts(values)
    names = [str(name) for name in counts.field("values").to_pylist()]
    return dict(zip(names, (counts.field("counts").to_numpy() / len(values)).tolist(), strict=True))


def _pairs(
    train: Subject, test: Subject, kinds: tuple[ColumnKind, ...]
) -> list[tuple[str, pa.Array, pa.Array]]:
    """Name, sampled test values and sampled training values of the columns of these kinds that both have."""
    tested, trained = test.profile.sample.table, train.profile.sample.table
    if min(tested.num_rows, trained.num_rows) < DRIFT_MIN_ROWS:
        return []
    return [
        (column.name, tested[column.name].combine_chunks(), trained[column.name].combine_chunks())
        for column in train.profile.schema.columns
        if column.kind in kinds and column.name in tested.column_names and column.name in trained.column_names
    ]
