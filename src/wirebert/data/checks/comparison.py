"""Checks that compare test data with training data: shared rows, new labels and classes, drift."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.checks.equal_rows import is_among
from wirebert.data.checks.subject import Subject, present
from wirebert.data.findings import Finding, format_names, format_row_count, row_name
from wirebert.data.schema.label_names import fold_label, means_benign
from wirebert.data.schema.schema import ColumnKind
from wirebert.data.times import seconds_of
from wirebert.shapes import Float64

DRIFT_LIMIT = 0.25
"""Columns whose distributions differ by at least this distance, in [0, 1], have drifted."""
DRIFT_MIN_ROWS = 100
MAX_DRIFTING = 10
"""At most this many columns are reported, largest distance first."""


def train_overlap(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test rows with the same features as a training row; if there are none, that is a finding too."""
    is_shared = is_among(test.profile.feature_hashes, train.profile.feature_hashes)
    count = int(is_shared.sum())
    if count:
        yield Finding(
            code="shared_rows",
            severity="warning",
            count=count,
            example=row_name(is_shared),
            message=f"{format_row_count(count, test.profile.num_rows)} of {test.profile.name} have the same "
            f"features as a row of {train.profile.name}; compare the metrics of the other rows with the "
            "total, because a model may have memorised these",
        )
    elif test.profile.num_rows:
        yield Finding(
            code="no_shared_rows",
            severity="info",
            message=f"no row of {test.profile.name} has the same features as a row of {train.profile.name}; "
            "no action needed",
        )


def shared_shapes(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test rows that equal a training row except for digits in texts."""
    if train.profile.shape_hashes is None or test.profile.shape_hashes is None:
        return
    is_shared = is_among(test.profile.shape_hashes, train.profile.shape_hashes)
    if not is_shared.any():
        return
    yield Finding(
        code="near_duplicate_texts_in_test",
        severity="warning",
        count=int(is_shared.sum()),
        example=row_name(is_shared),
        message=f"{format_row_count(int(is_shared.sum()), test.profile.num_rows)} of {test.profile.name} "
        f"equal a row of {train.profile.name} after replacing digits with 0; compare the metrics of the "
        "other rows with the total",
    )


def new_labels(train: Subject, test: Subject) -> Iterator[Finding]:
    """Labels and classes that occur only in the test data."""
    train_labels = {fold_label(name) for name, count in train.profile.label_counts.items() if count}
    labels = {
        name: n
        for name, n in test.profile.label_counts.items()
        if n and fold_label(name) not in train_labels and not (test.benign and means_benign(name))
    }
    if labels:
        yield Finding(
            code="new_labels",
            severity="warning",
            column=test.profile.schema.label,
            count=sum(labels.values()),
            example=max(labels, key=lambda name: labels[name]),
            message=f"{len(labels)} labels ({format_row_count(sum(labels.values()), test.profile.num_rows)}) "
            f"occur only in {test.profile.name}: {format_names(sorted(labels))}; read their metrics "
            "separately, because the model was not trained on them",
        )
    classes = {name: n for name, n in present(test.counts).items() if not train.counts.get(name)}
    if classes and set(classes) != set(labels):
        yield Finding(
            code="new_classes",
            severity="warning",
            column=test.profile.schema.label,
            count=sum(classes.values()),
            example=max(classes, key=lambda name: classes[name]),
            message=f"classes {format_names(sorted(classes))} occur only in {test.profile.name} and cannot "
            "be predicted; map their labels to training classes with --map LABEL=CLASS",
        )


def missing_classes(train: Subject, test: Subject) -> Iterator[Finding]:
    """Training classes without test rows: they have no metrics."""
    missing = [name for name in present(train.counts) if not test.counts.get(name)]
    if not missing or not present(test.counts):
        return
    yield Finding(
        code="classes_not_tested",
        severity="warning",
        column=test.profile.schema.label,
        count=sum(train.counts[name] for name in missing),
        example=missing[0],
        message=f"classes {format_names(missing)} do not occur in {test.profile.name}, so their detection is "
        "not measured; add test rows of them",
    )


def known_endpoints(train: Subject, test: Subject) -> Iterator[Finding]:
    """Addresses that occur in both test and training data: the same network."""
    for name, values, others in _pairs(train, test, (ColumnKind.ADDRESS,)):
        is_in_training = pc.is_in(values, value_set=pc.unique(others).drop_null())
        fraction = (pc.sum(is_in_training.cast(pa.int64())).as_py() or 0) / len(values)
        if fraction > 0.5:
            yield Finding(
                code="same_hosts",
                severity="info",
                column=name,
                count=round(fraction * test.profile.num_rows),
                example=str(values.filter(is_in_training)[0].as_py()),
                message=f"{fraction:.0%} of the values of {name!r} in {test.profile.name} occur in "
                f"{train.profile.name} too; the metrics apply to these hosts, so also test on another "
                "network",
            )


def time_overlap(train: Subject, test: Subject) -> Iterator[Finding]:
    """Test data recorded before the training data end."""
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
                message=f"{early:.1%} of {test.profile.name} was recorded before {train.profile.name} ends "
                f"(by {name!r}); the metrics do not show performance on later traffic, so test on later "
                "recordings",
            )
            return


def drift(train: Subject, test: Subject) -> Iterator[Finding]:
    """Features with another distribution in the test data, largest distance first."""
    kinds = tuple(kind for kind in ColumnKind if kind.can_be_feature and kind is not ColumnKind.TEXT)
    features = {column.name for column in test.profile.schema.features}
    distances = sorted(
        (
            (ks_distance(others, values), name)
            for name, values, others in _pairs(train, test, kinds)
            if name in features
        ),
        reverse=True,
    )
    for distance, name in distances[:MAX_DRIFTING]:
        if distance >= DRIFT_LIMIT:
            yield Finding(
                code="drift",
                severity="info",
                column=name,
                count=test.profile.num_rows,
                example=f"{distance:.2f}",
                message=f"column {name!r} has drifted between {train.profile.name} and {test.profile.name} "
                f"(distance {distance:.2f}); expect lower scores than on validation",
            )


def ks_distance(one: pa.Array, other: pa.Array) -> float:
    """Distance of two columns, in [0, 1]; a missing value counts as a value.

    It is the Kolmogorov-Smirnov statistic for numbers, and the total variation distance for texts.

    >>> ks_distance(pa.array(["a", "a"]), pa.array(["a", "b"]))
    0.5
    >>> ks_distance(pa.array([1.0, 2.0]), pa.array([3.0, 4.0]))
    1.0
    """
    if pa.types.is_floating(one.type) and pa.types.is_floating(other.type):
        left, right = _numbers(one), _numbers(other)
        points = np.unique(np.concatenate([left, right]))
        below = [np.searchsorted(np.sort(side), points, side="right") / len(side) for side in (left, right)]
        return float(np.abs(below[0] - below[1]).max())
    frequencies = [_frequencies(side) for side in (one, other)]
    names = frequencies[0].keys() | frequencies[1].keys()
    return 0.5 * sum(abs(frequencies[0].get(name, 0.0) - frequencies[1].get(name, 0.0)) for name in names)


def _numbers(values: pa.Array) -> Float64[np.ndarray, " rows"]:
    return np.nan_to_num(values.to_numpy(zero_copy_only=False), nan=-np.inf)


def _frequencies(values: pa.Array) -> dict[str, float]:
    counts = pc.value_counts(values)
    names = [str(name) for name in counts.field("values").to_pylist()]
    return dict(zip(names, (counts.field("counts").to_numpy() / len(values)).tolist(), strict=True))


def _pairs(
    train: Subject, test: Subject, kinds: tuple[ColumnKind, ...]
) -> list[tuple[str, pa.Array, pa.Array]]:
    """Name, sampled test values and sampled training values of the common columns of these kinds."""
    tested, trained = test.profile.sample.table, train.profile.sample.table
    if min(tested.num_rows, trained.num_rows) < DRIFT_MIN_ROWS:
        return []
    return [
        (column.name, tested[column.name].combine_chunks(), trained[column.name].combine_chunks())
        for column in train.profile.schema.columns
        if column.kind in kinds and column.name in tested.column_names and column.name in trained.column_names
    ]
