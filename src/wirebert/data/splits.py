"""Which rows are for training, validation and test: at random, by time, by group or by attack.

Decided before anything is fitted, with a statement of what the split can show and checks for leaks across it.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from wirebert.data.arrow_columns import combine_chunks, distinct_values
from wirebert.data.checks.equal_rows import is_among, run_starts
from wirebert.data.checks.profile import FlowSource, TableProfile
from wirebert.data.config import DataConfig, Split
from wirebert.data.findings import Finding, Severity, format_names, format_row_count, row_name
from wirebert.data.labels import class_of, is_same_class
from wirebert.data.schema.schema import ColumnKind, FlowSchema, missing_name
from wirebert.data.times import seconds_of
from wirebert.errors import ConfigError, DataError, SchemaError
from wirebert.shapes import Bool, Float64, Int, Int64, Shaped, UInt64

DUPLICATE_SAFE_STATEMENT = (
    "Validation rows are drawn at random from the training data, class by class; rows with equal features "
    "stay in one split. The split shows how well the model classifies flows of the hosts, attack tools and "
    "days it was trained on. It cannot show how the model performs on another network, on later traffic or "
    "on new attacks. Near-duplicates (the same scan, one port further) may be in both splits: expect lower "
    "scores in production."
)
"""What a duplicate-safe random split can and cannot show, for reports."""


def duplicate_safe_split(
    hashes: UInt64[np.ndarray, " rows"],
    class_ids: Int[np.ndarray, " rows"],
    valid_fraction: float,
    seed: int,
) -> Bool[np.ndarray, " rows"]:
    """True where a row is for validation.

    Rows with equal hash form a group, and a group stays in one split. A group belongs to the class that most
    of its rows have (the rarer class on a tie). Of each class, groups are drawn at random until about
    `valid_fraction` of its rows are reached; a class of two groups or more is in both splits, a class of one
    group only in training. Groups larger than that fraction are for training, and the fraction is then taken
    of the other groups' rows: a class of one flow repeated a thousand times and a hundred other flows keeps
    most of these for training. If all groups are larger, one is drawn.

    Raises:
        DataError: no class has two groups, so one split would be empty.

    >>> hashes = np.array([7, 7, 8, 9], np.uint64)
    >>> is_valid = duplicate_safe_split(hashes, np.zeros(4, np.int64), valid_fraction=0.5, seed=0)
    >>> bool(is_valid[0] == is_valid[1]), bool(is_valid.any()), bool(is_valid.all())
    (True, True, False)
    >>> duplicate_safe_split(hashes[:2], np.zeros(2, np.int64), valid_fraction=0.5, seed=0)
    Traceback (most recent call last):
    wirebert.errors.DataError: training data: expected at least one class with two different rows ...
    """
    if not 0 < valid_fraction < 1:
        raise ConfigError(f"data.valid_fraction must be in (0, 1), got {valid_fraction}")
    # A row takes about 50 bytes here, since numbers are no larger than they must be.
    number, order = np.min_scalar_type(len(hashes)), np.argsort(hashes)
    starts = run_starts(hashes[order])
    group_sizes = np.diff(starts, append=len(hashes)).astype(number)
    group_classes = _majority_class(class_ids, order, starts, group_sizes)
    generator = np.random.default_rng(seed)
    is_valid_group = np.zeros(len(group_sizes), bool)
    for class_id in np.unique(group_classes):
        groups = np.flatnonzero(group_classes == class_id).astype(number)
        generator.shuffle(groups)
        is_valid_group[_draw(groups, group_sizes[groups], valid_fraction)] = True
    if not is_valid_group.any():
        raise DataError(
            "training data: expected at least one class with two different rows for a validation split, "
            f"found {len(group_sizes)} different rows among {len(hashes)} rows; add more traffic"
        )
    is_valid = np.empty(len(hashes), bool)
    is_valid[order] = np.repeat(is_valid_group, group_sizes)
    return is_valid


def _majority_class(
    class_ids: Int[np.ndarray, " rows"],
    order: Int64[np.ndarray, " rows"],
    starts: Int64[np.ndarray, " groups"],
    sizes: Shaped[np.ndarray, " groups"],
) -> Int[np.ndarray, " groups"]:
    """The class of each group, whose rows follow each other in `order`."""
    found = class_ids[order[starts]]
    classes, class_sizes = np.unique(class_ids, return_counts=True)
    several = np.flatnonzero(sizes > 1)
    pairs = np.repeat(np.arange(len(several)), sizes[several]) * len(classes)
    pairs += np.searchsorted(classes, class_ids[order[np.repeat(sizes > 1, sizes)]])
    pairs, counts = np.unique(pairs, return_counts=True)
    group_of_pair, class_of_pair = np.divmod(pairs, max(len(classes), 1))
    # The winner of each group is last: by rows of the class, then by rarity of the class.
    ranked = np.lexsort((-class_sizes[class_of_pair], counts, group_of_pair))
    is_last = np.append(np.diff(group_of_pair[ranked]) > 0, [True] if len(ranked) else [])
    found[several] = classes[class_of_pair[ranked[is_last.astype(bool)]]]
    return found


def _draw(
    groups: Shaped[np.ndarray, " groups"], sizes: Shaped[np.ndarray, " groups"], fraction: float
) -> Shaped[np.ndarray, " drawn"]:
    if len(groups) < 2:
        return groups[:0]
    fits = sizes <= fraction * sizes.sum()
    if not fits.any():
        return groups[:1]
    reached = np.cumsum(sizes[fits])
    if fits.all():
        reached = reached[:-1]  # one group always trains
    wanted = fraction * sizes[fits].sum()
    last = min(int(np.searchsorted(reached, wanted)), len(reached) - 1)
    is_nearer = last > 0 and wanted - reached[last - 1] <= reached[last] - wanted
    return groups[fits][: last + (not is_nearer)]


STATEMENTS: Mapping[Split, str] = {
    "random": DUPLICATE_SAFE_STATEMENT,
    "time": (
        "Validation rows are the latest ones by {column}. The split shows how well the model classifies "
        "flows recorded after its training data on the same network. It cannot show how the model performs "
        "on another network, and an attack that lasts over the cut is in both splits."
    ),
    "group": (
        "Validation rows are those of some values of {column}, and no value is in both splits. The split "
        "shows how well the model carries over to new groups. Groups of one network or one tool are still "
        "alike, so it cannot show more than that."
    ),
    "leave_attack_out": (
        "The model never sees class {column}; its rows are held out. Validation rows are drawn at random "
        "from the others, with equal rows in one split. The held-out rows show how many attacks of a new "
        "kind the model still detects as an attack. They cannot show how it would name them, and other new "
        "attacks may be detected more or less often."
    ),
}

TEST_STATEMENT = (
    " Test rows ({fraction:.0%}) were split off the same file first, in the same way. Nothing was fitted or "
    "chosen on them, and they were scored after the model was saved. The limits of validation rows apply to "
    "them too."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RowSplit:
    """The split of every row."""

    is_train: Bool[np.ndarray, " rows"]
    is_valid: Bool[np.ndarray, " rows"]
    is_test: Bool[np.ndarray, " rows"]
    """Rows that are scored once the model is saved; no row without `data.test_fraction`."""
    is_held_out: Bool[np.ndarray, " rows"]
    """Rows of the class that is left out of training; none with the other methods."""
    statement: str
    """What the split can and cannot show."""
    findings: tuple[Finding, ...]
    """Leaks across the split, and classes that it separates."""


def split_rows(
    flows: FlowSource,
    profile: TableProfile,
    class_ids: Int[np.ndarray, " rows"],
    config: DataConfig,
    seed: int,
) -> RowSplit:
    """The split that `config` asks for. Rows without a class (id below 0) are in no split.

    Raises:
        SchemaError: the column does not exist, or holds no times.
        DataError: one split would be empty.
    """
    column, seconds, groups = _split_by(flows, profile, config)
    is_held_out = _held_out(profile, config)
    is_used = (class_ids >= 0) & ~is_held_out

    def draw(is_open: Bool[np.ndarray, " rows"], fraction: float) -> Bool[np.ndarray, " rows"]:
        if seconds is not None:
            return time_split(seconds, is_open & is_used, fraction)
        is_drawn = np.zeros(len(class_ids), bool)
        some = slice(None) if is_open is everything else is_open  # without copies of all rows
        is_drawn[is_open] = duplicate_safe_split(groups[some], class_ids[some], fraction, seed)
        return is_drawn & is_used

    everything = np.ones(len(class_ids), bool)
    is_test = draw(everything, config.test_fraction) if config.test_fraction else ~everything
    is_valid = draw(~is_test if config.test_fraction else everything, config.valid_fraction)
    is_purged = ~everything
    if seconds is not None and profile.schema.context is not None:
        window_s = profile.schema.context.long_s
        is_purged = purged(seconds, is_test, window_s) | purged(seconds, is_test | is_valid, window_s)
    is_train = is_used & ~is_test & ~is_valid & ~is_purged
    is_valid &= ~is_purged
    if not is_valid.any() or not is_train.any():
        raise DataError(
            f"data.split={config.split}: expected rows in both splits, found {int(is_train.sum()):,} for "
            f"training and {int(is_valid.sum()):,} for validation; choose another column or "
            "data.valid_fraction"
        )
    test_statement = TEST_STATEMENT.format(fraction=config.test_fraction) if config.test_fraction else ""
    return RowSplit(
        is_train=is_train,
        is_valid=is_valid,
        is_test=is_test,
        is_held_out=is_held_out,
        statement=STATEMENTS[config.split].format(column=column) + test_statement,
        findings=(
            *crossings(profile, is_train, is_valid, class_ids, "validation"),
            *crossings(profile, is_train | is_valid, is_test, class_ids, "test"),
            *_context_findings(profile, config, is_purged & is_used),
        ),
    )


def _split_by(
    flows: FlowSource, profile: TableProfile, config: DataConfig
) -> tuple[str | None, Float64[np.ndarray, " rows"] | None, UInt64[np.ndarray, " rows"]]:
    """The column (or class) that the split goes by, the times if it goes by time, and a group for each
    row."""
    if config.split == "time":
        column = config.time_column or _time_column(profile.schema)
        return column, column_seconds(flows, column), profile.feature_hashes
    if config.split == "group":
        column = config.group_column or ""
        return column, None, column_groups(flows, column).astype(np.uint64)
    column = config.left_out_class if config.split == "leave_attack_out" else None
    return column, None, profile.feature_hashes


def _held_out(profile: TableProfile, config: DataConfig) -> Bool[np.ndarray, " rows"]:
    """Rows of the class that the split leaves out; no rows in other splits."""
    if config.split != "leave_attack_out":
        return np.zeros(profile.num_rows, bool)
    label_map = profile.schema.label_map
    is_left_out = [
        is_same_class(class_of(label_map, label), config.left_out_class) for label in profile.label_names
    ]
    return np.array([*is_left_out, False], bool)[profile.labels]


def time_split(
    seconds: Float64[np.ndarray, " rows"], is_labelled: Bool[np.ndarray, " rows"], valid_fraction: float
) -> Bool[np.ndarray, " rows"]:
    """True for the latest rows, about `valid_fraction` of those with a label. Rows of one instant stay
    together; rows without a time train.

    >>> time_split(np.array([4.0, 1.0, 2.0, 4.0]), np.ones(4, bool), 0.25)
    array([ True, False, False,  True])
    """
    times = np.sort(seconds[is_labelled & ~np.isnan(seconds)])
    if not len(times):
        raise DataError(
            "data.split=time: expected times, found no readable one; set data.time_column to another column"
        )
    cut = times[min(len(times) - 1, int(np.floor(len(times) * (1 - valid_fraction))))]
    return is_labelled & (seconds >= cut)


def purged(
    seconds: Float64[np.ndarray, " rows"], is_valid: Bool[np.ndarray, " rows"], window_s: int
) -> Bool[np.ndarray, " rows"]:
    """True for the rows of one window before the first validation row, which the context of validation rows
    counts.

    >>> purged(np.array([1.0, 9.0, 10.0, 11.0]), np.array([False, False, False, True]), 2)
    array([False, False,  True, False])
    """
    first = seconds[is_valid].min(initial=np.inf)
    return ~is_valid & (seconds > first - window_s)


def _context_findings(
    profile: TableProfile, config: DataConfig, is_purged: Bool[np.ndarray, " rows"]
) -> tuple[Finding, ...]:
    """What a split does about context, in which each flow counts the flows before it."""
    if profile.schema.context is None:
        return ()
    if config.split != "time":
        code, count, example = "split_shares_context", profile.num_rows, ""
        message = (
            "training and validation flows are in each other's context; set data.split=time to keep a "
            "window between them"
        )
    else:
        code, count, example = "split_purged_rows", int(is_purged.sum()), row_name(is_purged)
        message = "rows right before the cut are not used for training: they are in the context of "
        "validation rows"
    finding = Finding(code=code, severity="info", column=None, count=count, example=example, message=message)
    return (finding,) if count else ()


def column_seconds(flows: FlowSource, name: str) -> Float64[np.ndarray, " rows"]:
    """The times in a column, by one more pass over the files."""
    return np.concatenate([np.empty(0), *(seconds_of(values) for values in _column(flows, name))])


def column_groups(flows: FlowSource, name: str) -> Int64[np.ndarray, " rows"]:
    """An id for each row by its value in a column; missing is a value too."""
    codes: dict[object, int] = {}
    groups = [np.empty(0, np.int64)]
    for values in _column(flows, name):
        distinct, rows = distinct_values(values)
        ids = [codes.setdefault(value, len(codes)) for value in [*distinct.to_pylist(), None]]
        groups.append(np.array(ids)[rows])
    return np.concatenate(groups)


def _column(flows: FlowSource, name: str) -> Iterator[pa.Array]:
    for block in flows.blocks():
        if name not in block.column_names:
            raise SchemaError(f"{flows.name}: {missing_name('column', name, block.column_names)}")
        yield combine_chunks(block.column(name))


def _time_column(schema: FlowSchema) -> str:
    times = [column.name for column in schema.columns if column.kind is ColumnKind.TIME]
    if not times:
        raise SchemaError(
            f"schema {schema.name!r}: expected a column of kind time for data.split=time, found none among "
            f"{', '.join(schema.names)}; set data.time_column"
        )
    return times[0]


def crossings(
    profile: TableProfile,
    is_train: Bool[np.ndarray, " rows"],
    is_evaluated: Bool[np.ndarray, " rows"],
    class_ids: Int[np.ndarray, " rows"],
    split_name: str,
) -> tuple[Finding, ...]:
    """Leaks across a split, and classes that occur in one part only; `split_name` names the evaluated
    rows."""
    if not is_evaluated.any():
        return ()
    findings: list[Finding] = []
    ways: tuple[tuple[str, UInt64[np.ndarray, " rows"] | None, str, Severity], ...] = (
        ("split_shares_rows", profile.feature_hashes, "all features", "warning"),
        ("split_shares_flows", profile.inner_hashes, "everything but addresses, ports and times", "info"),
        (
            "split_shares_texts",
            profile.shape_hashes,
            "all features after replacing digits with 0",
            "info",
        ),
    )
    for code, hashes, what, severity in ways:
        if hashes is None:
            continue
        is_shared = np.zeros(len(hashes), bool)
        is_shared[is_evaluated] = is_among(hashes[is_evaluated], hashes, is_train)
        count = int(is_shared.sum())
        if count:
            findings.append(
                Finding(
                    code=code,
                    severity=severity,
                    count=count,
                    example=row_name(is_shared),
                    message=f"{format_row_count(count, int(is_evaluated.sum()))} of {split_name} share "
                    f"{what} with a training row; the metrics of {split_name} are an upper bound",
                )
            )
    return (*findings, *_one_sided(class_ids, is_train, is_evaluated, profile, split_name))


def _one_sided(
    class_ids: Int[np.ndarray, " rows"],
    is_train: Bool[np.ndarray, " rows"],
    is_evaluated: Bool[np.ndarray, " rows"],
    profile: TableProfile,
    evaluated_split: str,
) -> Iterator[Finding]:
    trained, tested = (set(np.unique(class_ids[rows]).tolist()) for rows in (is_train, is_evaluated))
    untested = "their detection cannot be measured, so set another data.split or add rows"
    unknown = "the model cannot learn them, so set another data.split"
    ways = (
        ("training", evaluated_split, trained - tested, untested),
        (evaluated_split, "training", tested - trained, unknown),
    )
    for split_name, other, ids, remedy in ways:
        if ids:
            is_one_sided = np.isin(class_ids, list(ids)) & (is_train | is_evaluated)
            codes = np.unique(profile.labels[is_one_sided]).tolist()
            labels = sorted(profile.label_names[code] for code in codes)
            yield Finding(
                code="split_lacks_classes",
                severity="warning",
                column=profile.schema.label,
                count=int(is_one_sided.sum()),
                example=labels[0],
                message=f"labels {format_names(labels)} occur only in the {split_name} split, not in "
                f"{other}; {remedy}",
            )
