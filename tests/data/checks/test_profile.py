# The pyarrow stubs lack type arguments at run time.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false

import pickle
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.checks import equal_rows, profile
from wirebert.data.checks.checks import compare_with_training, validate
from wirebert.data.checks.column_profile import ColumnProfile
from wirebert.data.checks.profile import (
    ArrayBuilder,
    ProfileBuilder,
    TableProfile,
    feature_hashes,
    profile_table,
)
from wirebert.data.labels import ClassMap
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.errors import DataError

SCHEMA = FlowSchema(
    name="flows",
    columns=(
        Column(name="uid", kind=ColumnKind.IDENTIFIER, is_feature=False),
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="service", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="label", kind=ColumnKind.LABEL, is_feature=False),
    ),
)


VALUES = st.tuples(
    st.none() | st.floats(allow_nan=False).map(lambda number: number + 0.0), st.none() | st.text(max_size=3)
)


class Tables:
    """Typed tables in memory."""

    name = "flows"
    schema = SCHEMA

    def __init__(self, *tables: pa.Table) -> None:
        self.tables = tables

    def blocks(self, invalid: InvalidValues | None = None) -> Iterator[pa.Table]:
        return iter(self.tables)


def table(**columns: Sequence[float | None] | Sequence[str | None]) -> pa.Table:
    kinds = {"bytes": pa.float64()}
    return pa.table(
        {name: pa.array(values, kinds.get(name, pa.string())) for name, values in columns.items()}
    )


def column(seen: TableProfile, name: str) -> ColumnProfile:
    return next(found for found in seen.columns if found.column.name == name)


def as_dictionaries(plain: pa.Table, rotate: int = 0) -> pa.Table:
    """The same values as dictionary columns; `rotate` rotates the dictionary, with unused entries."""
    columns: dict[str, pa.DictionaryArray] = {}
    for name in plain.column_names:
        values = plain.column(name).combine_chunks()
        distinct = values.drop_null().unique().to_pylist()
        distinct = distinct[rotate:] + distinct[:rotate]
        place = {str(value): index for index, value in enumerate(distinct)}  # by text: NaN equals nothing
        indices = [None if value is None else place[str(value)] for value in values.to_pylist()]
        columns[name] = pa.DictionaryArray.from_arrays(
            pa.array(indices, pa.int32()), pa.array([*distinct, *distinct[:1]], values.type)
        )
    return pa.table(columns)


def test_counts_go_over_all_blocks():
    seen = profile_table(
        Tables(
            table(bytes=[1.0, None], service=["http", "http"], label=["a", None]),
            table(bytes=[5.5], service=["dns"], label=["b"]),
        )
    )
    assert seen.num_rows == 3
    assert seen.label_names == ("a", "b")
    assert seen.labels.tolist() == [0, -1, 1]
    assert seen.label_counts == {"a": 1, "b": 1}
    assert seen.num_unlabelled == 1
    numbers, texts = column(seen, "bytes"), column(seen, "service")
    assert (numbers.num_missing, numbers.num_distinct, numbers.minimum, numbers.maximum) == (1, 2, 1.0, 5.5)
    assert (texts.num_missing, texts.num_distinct, texts.minimum, texts.example) == (0, 2, None, "http")
    assert not numbers.is_whole


def test_an_empty_source_gives_a_survey_of_no_rows():
    seen = profile_table(Tables())
    assert (seen.num_rows, seen.columns, seen.label_names) == (0, (), ())


def test_columns_that_the_table_lacks_are_not_surveyed():
    assert [found.column.name for found in profile_table(Tables(table(bytes=[1.0]))).columns] == ["bytes"]


def test_a_table_without_label_column_has_unlabelled_rows():
    assert profile_table(Tables(table(bytes=[1.0, 2.0]))).labels.tolist() == [-1, -1]


def test_class_ids_of_unlabelled_rows_are_minus_one():
    seen = profile_table(Tables(table(label=["worm", None, "normal", "new"])))
    assert seen.class_ids(ClassMap(classes=("normal", "worm"))).tolist() == [1, -1, 0, -2]


def test_a_column_is_constant_if_all_rows_hold_the_same_or_nothing():
    seen = profile_table(Tables(table(bytes=[2.0, 2.0], service=[None, None], label=["a", None])))
    assert column(seen, "bytes").is_constant
    assert column(seen, "service").is_constant
    assert not column(seen, "label").is_constant


def test_unused_dictionary_entries_are_not_counted():
    values = pa.DictionaryArray.from_arrays(pa.array([0, 0], pa.int32()), pa.array(["http", "dns"]))
    assert column(profile_table(Tables(pa.table({"service": values}))), "service").num_distinct == 1


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_nan_counts_as_missing_and_infinity_as_a_value(as_dictionary: bool):
    plain = table(bytes=[float("nan"), float("inf"), 1.0, None])
    found = column(profile_table(Tables(as_dictionaries(plain) if as_dictionary else plain)), "bytes")
    assert (found.num_missing, found.num_distinct, found.minimum, found.maximum) == (2, 2, 1.0, float("inf"))


@given(rows=st.lists(VALUES, max_size=20), cut=st.integers(0, 20), rotate=st.integers(0, 5))
def test_profiles_of_parts_are_merged_to_that_of_all_rows(
    rows: list[tuple[float | None, str | None]], cut: int, rotate: int
):
    texts = [text for _, text in rows]
    plain = table(bytes=[number for number, _ in rows], service=texts, label=texts)
    whole, merged = ProfileBuilder(SCHEMA), ProfileBuilder(SCHEMA)
    whole.add(plain)
    for first, part in ((0, plain.slice(0, cut)), (min(cut, len(rows)), plain.slice(cut))):
        builder = ProfileBuilder(SCHEMA, first_row=first)
        builder.add(as_dictionaries(part, rotate))
        merged.merge(cast(ProfileBuilder, pickle.loads(pickle.dumps(builder))))
    ours, theirs = (builder.result("flows", InvalidValues()) for builder in (merged, whole))
    assert ours.columns == theirs.columns
    assert ours.label_names == theirs.label_names
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert ours.feature_hashes.tolist() == theirs.feature_hashes.tolist()
    assert ours.sample.table.equals(theirs.sample.table)


def test_the_hash_looks_at_features_only():
    first = table(uid=["a"], bytes=[1.0], service=["dns"], label=["x"])
    second = table(uid=["b"], bytes=[1.0], service=["dns"], label=["y"])
    assert feature_hashes(first, SCHEMA) == feature_hashes(second, SCHEMA)


def test_minus_zero_equals_zero_and_nan_equals_missing_in_the_hash():
    hashes = feature_hashes(table(bytes=[0.0, -0.0, float("nan"), None]), SCHEMA)
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]


def test_values_that_change_columns_or_places_change_the_hash():
    two = FlowSchema(
        name="two",
        columns=(
            Column(name="a", kind=ColumnKind.CATEGORY, is_feature=True),
            Column(name="b", kind=ColumnKind.CATEGORY, is_feature=True),
        ),
    )
    rows = pa.table(
        {"a": ["x", "y", "xy", "", "yx", "\0", "", None], "b": ["y", "x", "", "xy", "", "", "\0", ""]}
    )
    assert len(set(feature_hashes(rows, two).tolist())) == rows.num_rows


@given(rows=st.lists(VALUES, min_size=1, max_size=20), cut=st.integers(0, 20), rotate=st.integers(0, 5))
def test_equal_rows_hash_equal_whatever_the_blocks_and_dictionaries(
    rows: list[tuple[float | None, str | None]], cut: int, rotate: int
):
    plain = table(bytes=[number for number, _ in rows], service=[text for _, text in rows])
    expected = feature_hashes(plain, SCHEMA)
    blocks = [plain.slice(0, cut), as_dictionaries(plain, rotate).slice(min(cut, len(rows)))]
    assert profile_table(Tables(*blocks)).feature_hashes.tolist() == expected.tolist()
    groups: dict[tuple[float | None, str | None], set[int]] = {}
    for row, value in zip(rows, expected.tolist(), strict=True):
        groups.setdefault(row, set()).add(value)
    assert all(len(found) == 1 for found in groups.values())
    assert len(set.union(*groups.values())) == len(groups)


def test_a_million_different_rows_have_a_million_hashes():
    generator = np.random.default_rng(0)
    numbers = generator.integers(0, 1_000, 1_000_000)
    texts = (
        pa.array(np.arange(1_000)).cast(pa.string()).take(pa.array(np.arange(1_000_000) // 1_000, pa.int64()))
    )
    rows = pa.table({"bytes": (np.arange(1_000_000) % 1_000).astype(np.float64), "service": texts})
    assert len(np.unique(feature_hashes(rows, SCHEMA))) == 1_000_000
    few = pa.table({"bytes": numbers.astype(np.float64)})
    assert len(np.unique(feature_hashes(few, SCHEMA))) == len(np.unique(numbers))


def test_long_texts_are_hashed_whole():
    long = "x" * 3_000_000
    texts = [long + "a", long + "b", "short", "b" + long, long + "a"]
    hashes = feature_hashes(table(service=texts), SCHEMA).tolist()
    assert len(set(hashes)) == 4
    assert hashes[0] == hashes[4]


@given(st.lists(st.integers(0, 50_000), max_size=12))
def test_blocks_of_any_length_stand_one_after_the_other(lengths: list[int]):
    growing = ArrayBuilder(np.dtype(np.int32))
    for number, length in enumerate(lengths):
        growing.add(np.full(length, number, np.int32))
    expected = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    assert np.array_equal(growing.values, expected)
    assert growing.values.dtype == np.int32


def test_an_array_beyond_what_memory_keeps_is_the_same_in_a_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(profile, "KEPT_ROWS", 100_000)
    growing = ArrayBuilder(np.dtype(np.uint64))
    for start in range(0, 300_000, 30_000):
        growing.add(np.arange(start, start + 30_000, dtype=np.uint64))
        assert (not growing.values.flags.writeable) is (start >= 90_000)
        assert np.array_equal(growing.values, np.arange(start + 30_000, dtype=np.uint64))
    sent = cast(ArrayBuilder, pickle.loads(pickle.dumps(growing)))
    kept = growing.values
    del growing
    assert np.array_equal(sent.values, kept)


def test_a_full_disk_under_the_hashes_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(profile, "KEPT_ROWS", 1_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    growing = ArrayBuilder(np.dtype(np.uint64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # Python ignores the signal
    try:
        with pytest.raises(DataError, match="set TMPDIR to a folder on a larger disk"):
            growing.add(np.zeros(30_000, np.uint64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_findings_are_the_same_when_little_is_kept_and_sorted(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(3)
    numbers = generator.integers(0, 900, 3_000).astype(np.float64).tolist()
    labels = generator.choice(["benign", "dos", "scan"], 3_000).tolist()
    blocks = [table(bytes=numbers[at : at + 500], label=labels[at : at + 500]) for at in range(0, 3_000, 500)]
    found: list[list[object]] = []
    for _ in range(2):
        seen = profile_table(Tables(*blocks))
        classes = ClassMap.fit(SCHEMA, seen.label_counts)
        found.append(
            [*validate(seen, classes), seen.label_counts, *compare_with_training(seen, seen, classes)]
        )
        monkeypatch.setattr(profile, "KEPT_ROWS", 700)
        monkeypatch.setattr(equal_rows, "PART_ROWS", 200)
        monkeypatch.setattr(equal_rows, "_LOOK_ROWS", 64)
    assert found[0] == found[1]
    assert {"duplicate_rows", "conflicting_labels"} <= {getattr(one, "code", "") for one in found[0]}


def test_nothing_added_differs_from_no_rows():
    growing = ArrayBuilder(np.dtype(np.uint64))
    growing.add(None)
    assert not growing.has_any
    growing.add(np.empty(0, np.uint64))
    assert growing.has_any
