import hashlib
import tracemalloc
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.checks.profile import profile_table
from wirebert.data.config import DataConfig
from wirebert.data.context.context import with_context
from wirebert.data.hashing import mix
from wirebert.data.labels import fit_classes
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.splits import RowSplit, duplicate_safe_split, split_rows
from wirebert.data.windows import ContextWindows
from wirebert.errors import ConfigError, DataError, SchemaError

# Groups of rows: (class of the group, rows in it).
GROUPS = st.lists(st.tuples(st.integers(-1, 3), st.integers(1, 6)), min_size=2, max_size=60)


def rows_of(groups: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes = np.repeat(np.arange(len(groups), dtype=np.uint64) * np.uint64(977), [size for _, size in groups])
    class_ids = np.repeat(
        np.array([class_id for class_id, _ in groups], np.int64), [size for _, size in groups]
    )
    return hashes, class_ids


def has_a_class_of_two_groups(groups: list[tuple[int, int]]) -> bool:
    return len({class_id for class_id, _ in groups}) < len(groups)


@given(
    groups=GROUPS.filter(has_a_class_of_two_groups), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_groups_stay_together_and_classes_of_two_groups_are_on_both_sides(
    groups: list[tuple[int, int]], fraction: float, seed: int
):
    hashes, class_ids = rows_of(groups)
    is_valid = duplicate_safe_split(hashes, class_ids, fraction, seed)
    assert not set(hashes[is_valid]) & set(hashes[~is_valid])
    for class_id in set(class_ids.tolist()):
        of_class = class_ids == class_id
        num_groups = len(set(hashes[of_class]))
        assert is_valid[of_class].any() == (num_groups > 1)
        assert not is_valid[of_class].all()


@given(
    groups=GROUPS.filter(has_a_class_of_two_groups), fraction=st.floats(0.05, 0.95), seed=st.integers(0, 9)
)
def test_the_share_of_each_class_is_as_near_as_its_largest_group_allows(
    groups: list[tuple[int, int]], fraction: float, seed: int
):
    hashes, class_ids = rows_of(groups)
    is_valid = duplicate_safe_split(hashes, class_ids, fraction, seed)
    for class_id in set(class_ids.tolist()):
        sizes = [size for group_class, size in groups if group_class == class_id]
        if len(sizes) > 1:
            target = fraction * sum(sizes)
            assert abs(is_valid[class_ids == class_id].sum() - target) <= max(sizes)


def test_a_large_class_of_single_rows_is_split_to_the_row():
    hashes, class_ids = np.arange(10_000, dtype=np.uint64), np.repeat(np.arange(2), [9_000, 1_000])
    is_valid = duplicate_safe_split(hashes, class_ids, 0.1, 0)
    assert np.bincount(class_ids[is_valid]).tolist() == [900, 100]


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    hashes, class_ids = np.arange(200, dtype=np.uint64), np.zeros(200, np.int64)
    first, again, other = (duplicate_safe_split(hashes, class_ids, 0.2, seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


def test_a_mixed_group_counts_to_the_class_of_most_of_its_rows():
    # Group 1 is of class 0 (two rows of three), so class 1 has one group only and trains whole.
    hashes = np.array([1, 1, 1, 2, 3], np.uint64)
    class_ids = np.array([0, 0, 1, 0, 1])
    for seed in range(5):
        assert not duplicate_safe_split(hashes, class_ids, 0.5, seed)[4]


def test_a_tie_goes_to_the_rarer_class():
    # Rows 0 and 1 are equal: their group is of class 1, which thereby has two groups and is on both sides.
    hashes = np.array([1, 1, 2, 3, 4, 5], np.uint64)
    class_ids = np.array([0, 1, 1, 0, 0, 0])
    for seed in range(5):
        is_valid = duplicate_safe_split(hashes, class_ids, 0.3, seed)
        assert is_valid[1] != is_valid[2]


def test_a_group_larger_than_the_share_trains_and_the_share_is_one_of_the_others():
    hashes, class_ids = rows_of([(0, 50), *[(0, 1)] * 50])
    for seed in range(5):
        is_valid = duplicate_safe_split(hashes, class_ids, 0.1, seed)
        assert is_valid.sum() == 5
        assert not is_valid[0]


def test_nothing_to_split_is_refused():
    for num_rows in (0, 1, 5):
        with pytest.raises(DataError, match="two different rows"):
            duplicate_safe_split(np.zeros(num_rows, np.uint64), np.zeros(num_rows, np.int64), 0.1, 0)


def test_a_fraction_that_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match=r"valid_fraction must be in \(0, 1\), got 1"):
        duplicate_safe_split(np.zeros(2, np.uint64), np.zeros(2, np.int64), 1.0, 0)


def test_where_every_group_is_larger_than_the_share_one_of_them_is_drawn():
    hashes = np.repeat(np.arange(3, dtype=np.uint64), 100)
    is_valid = duplicate_safe_split(hashes, np.zeros(300, np.int64), valid_fraction=0.1, seed=1)
    assert is_valid.sum() == 100


def test_a_row_takes_little_memory_and_the_drawn_rows_do_not_change():
    generator = np.random.default_rng(0)
    hashes = mix(generator.integers(0, 450_000, 500_000, dtype=np.uint64))
    class_ids = generator.integers(0, 5, 500_000)
    tracemalloc.start()
    try:
        is_valid = duplicate_safe_split(hashes, class_ids, 0.1, 7)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 65 * 500_000
    assert hashlib.sha256(is_valid.tobytes()).hexdigest()[:16] == "8aa40382803fbfcc"


SCHEMA = FlowSchema(
    name="flows",
    columns=(
        Column(name="ts", kind=ColumnKind.TIME, is_feature=False),
        Column(name="host", kind=ColumnKind.ADDRESS, is_feature=True),
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="label", kind=ColumnKind.LABEL, is_feature=False),
    ),
)


class Tables:
    """Typed tables in memory, in two blocks."""

    name, schema = "flows", SCHEMA

    def __init__(self, **columns: Sequence[float | None] | Sequence[str | None]) -> None:
        self.table = pa.table(
            {
                name: pa.array(values, pa.float64() if name == "bytes" else pa.string())
                for name, values in columns.items()
            }
        )

    def blocks(self, invalid: InvalidValues | None = None) -> Iterator[pa.Table]:
        half = self.table.num_rows // 2
        yield self.table.slice(0, half)
        yield self.table.slice(half)


def split(config: DataConfig, **columns: Sequence[float | None] | Sequence[str | None]) -> RowSplit:
    flows = Tables(**columns)
    seen = profile_table(flows)
    left_out = config.left_out_class if config.split == "leave_attack_out" else None
    class_ids = seen.class_ids(fit_classes(SCHEMA, seen.label_counts, config, left_out))
    return split_rows(flows, seen, class_ids, config, seed=1)


ROWS = 40
TABLE: dict[str, Sequence[str | None] | Sequence[float | None]] = {
    "ts": [str(100 - row) for row in range(ROWS)],
    "host": [f"10.0.0.{row % 5}" for row in range(ROWS)],
    "bytes": [float(row) for row in range(ROWS)],
    "label": [("benign", "dos", "scan")[row % 3] for row in range(ROWS)],
}


def test_by_time_the_latest_rows_validate():
    found = split(DataConfig(split="time", valid_fraction=0.25), **TABLE)
    assert np.flatnonzero(found.is_valid).tolist() == list(range(10))
    assert "the latest ones by ts" in found.statement


def test_by_group_no_group_is_on_both_sides():
    found = split(DataConfig(split="group", group_column="host", valid_fraction=0.2), **TABLE)
    groups = [np.flatnonzero(side) % 5 for side in (found.is_train, found.is_valid)]
    assert not set(groups[0].tolist()) & set(groups[1].tolist())
    assert found.is_valid.any()


def test_a_left_out_attack_is_on_neither_side():
    found = split(DataConfig(split="leave_attack_out", left_out_class="scan", valid_fraction=0.2), **TABLE)
    is_scan = np.arange(ROWS) % 3 == 2
    assert (found.is_held_out == is_scan).all()
    assert not (found.is_train & is_scan).any()
    assert not (found.is_valid & is_scan).any()
    assert "never sees class scan" in found.statement


def test_at_random_equal_rows_stay_together():
    same = {**TABLE, "bytes": [1.0] * ROWS, "host": [f"h{row % 10}" for row in range(ROWS)]}
    found = split(DataConfig(valid_fraction=0.2), **same)
    hosts = [np.flatnonzero(side) % 10 for side in (found.is_train, found.is_valid)]
    assert not set(hosts[0].tolist()) & set(hosts[1].tolist())


def test_rows_that_cross_a_split_are_reported():
    same = {**TABLE, "bytes": [7.0] * ROWS, "host": ["h"] * ROWS}
    found = split(DataConfig(split="time", valid_fraction=0.25), **same)
    assert {finding.code: finding.count for finding in found.findings} == {
        "split_shares_rows": 10,
        "split_shares_flows": 10,
    }


def test_classes_on_one_side_only_are_reported():
    labels = ["dos"] * 20 + ["benign"] * 20
    found = split(DataConfig(split="time", valid_fraction=0.25), **{**TABLE, "label": labels})
    lacking = [finding for finding in found.findings if finding.code == "split_lacks_classes"]
    assert [(finding.example, "only in the training split" in finding.message) for finding in lacking] == [
        ("benign", True)
    ]


@pytest.mark.parametrize("split_name", ["random", "time", "group", "leave_attack_out"])
def test_unlabelled_rows_are_on_no_side_and_sides_never_overlap(split_name: str):
    config = DataConfig(
        split=split_name,  # pyright: ignore[reportArgumentType]: each is a known split
        group_column="host",
        left_out_class="scan",
        valid_fraction=0.3,
    )
    labels = [None if row % 7 == 0 else str(label) for row, label in enumerate(TABLE["label"])]
    found = split(config, **{**TABLE, "label": labels})
    sides = np.stack([found.is_train, found.is_valid, found.is_held_out]).sum(axis=0)
    assert sides.tolist() == [0 if label is None else 1 for label in labels]
    assert len(found.statement) > 100


def test_what_cannot_be_split_is_one_sentence():
    with pytest.raises(SchemaError, match="no column 'hots', did you mean 'host'"):
        split(DataConfig(split="group", group_column="hots"), **TABLE)
    with pytest.raises(DataError, match="expected rows in both splits"):
        split(DataConfig(split="time"), **{**TABLE, "ts": ["5"] * ROWS})
    with pytest.raises(DataError, match="found no readable one"):
        split(DataConfig(split="time"), **{**TABLE, "ts": ["noon"] * ROWS})
    with pytest.raises(DataError, match="no class 'scann', did you mean 'scan'"):
        split(DataConfig(split="leave_attack_out", left_out_class="scann"), **TABLE)


def test_rows_of_one_window_before_the_cut_train_nothing_where_flows_have_context(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Tables, "schema", with_context(SCHEMA, ContextWindows(short_s=1, long_s=6)))
    found = split(DataConfig(split="time", valid_fraction=0.25), **TABLE)
    assert np.flatnonzero(found.is_valid).tolist() == list(range(10))  # from 91 on
    assert np.flatnonzero(found.is_train).tolist() == list(range(15, ROWS))  # up to 85
    assert ("split_purged_rows", 5) in {(finding.code, finding.count) for finding in found.findings}
    at_random = split(DataConfig(), **TABLE)
    assert "split_shares_context" in {finding.code for finding in at_random.findings}
    monkeypatch.setattr(Tables, "schema", with_context(SCHEMA, ContextWindows()))
    with pytest.raises(DataError, match="found 0 for training"):
        split(DataConfig(split="time", valid_fraction=0.25), **TABLE)


@pytest.mark.parametrize("split_name", ["random", "time", "group", "leave_attack_out"])
def test_test_rows_are_set_apart_from_training_and_validation(split_name: str):
    config = DataConfig(
        split=split_name,  # pyright: ignore[reportArgumentType]: each is a known split
        group_column="host",
        left_out_class="scan",
        valid_fraction=0.3,
        test_fraction=0.3,
    )
    labels = [None if row % 7 == 0 else str(label) for row, label in enumerate(TABLE["label"])]
    found = split(config, **{**TABLE, "label": labels})
    sides = np.stack([found.is_train, found.is_valid, found.is_test, found.is_held_out])
    assert sides.sum(axis=0).tolist() == [0 if label is None else 1 for label in labels]
    assert sides[:3].any(axis=1).all()
    assert "Test rows (30%) were split off" in found.statement


def test_no_row_of_the_test_equals_one_of_training_or_validation():
    hosts = [f"h{row // 2}" for row in range(400)]
    table = {
        "host": hosts,
        "bytes": [1.0] * 400,
        "label": [("benign", "dos")[row // 2 % 2] for row in range(400)],
    }
    found = split(DataConfig(test_fraction=0.3), **table)
    sides = [
        {hosts[row] for row in np.flatnonzero(side)}
        for side in (found.is_train, found.is_valid, found.is_test)
    ]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    # 30% of 400, and 10% of the others.
    assert [int(side.sum()) for side in (found.is_test, found.is_valid)] == [120, 28]
    assert "split_shares_rows" not in {finding.code for finding in found.findings}


def test_by_time_the_test_is_the_latest_and_validation_comes_before_it():
    found = split(DataConfig(split="time", test_fraction=0.25, valid_fraction=0.5), **TABLE)
    assert np.flatnonzero(found.is_test).tolist() == list(range(10))
    assert np.flatnonzero(found.is_valid).tolist() == list(range(10, 25))


def test_by_time_a_window_before_the_test_is_left_out_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Tables, "schema", with_context(SCHEMA, ContextWindows(short_s=1, long_s=6)))
    found = split(DataConfig(split="time", test_fraction=0.25, valid_fraction=0.5), **TABLE)
    assert np.flatnonzero(found.is_valid).tolist() == list(range(15, 25))
    assert np.flatnonzero(found.is_train).tolist() == list(range(30, 40))


def test_rows_and_classes_that_cross_into_the_test_are_reported():
    labels = ["dos"] * 10 + ["benign"] * 30
    same = {**TABLE, "bytes": [7.0] * ROWS, "host": ["h"] * ROWS, "label": labels}
    found = split(DataConfig(split="time", test_fraction=0.25, valid_fraction=0.1), **same)
    of_test = [finding for finding in found.findings if "of test share" in finding.message]
    assert [finding.count for finding in of_test] == [10, 10]
    lacking = [finding.message for finding in found.findings if finding.code == "split_lacks_classes"]
    assert any("'dos' occur only in the test split" in message for message in lacking)


def test_without_a_test_fraction_no_row_is_set_apart_and_nothing_is_said_of_a_test():
    found = split(DataConfig(), **TABLE)
    assert not found.is_test.any()
    assert "Test rows" not in found.statement
