from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.checks import comparison
from wirebert.data.checks.subject import Subject

Make = Callable[..., Subject]
HOSTS = [f"10.0.0.{row % 5}" for row in range(200)]
LABELS = ["benign", "scan"] * 100


def test_labels_of_one_side_are_named(subject: Make):
    train, test = subject(label=["benign", "scan", "dos"]), subject(label=["benign", "worm", "worm"])
    assert [(f.code, f.count, f.example) for f in comparison.new_labels(train, test)] == [
        ("new_labels", 2, "worm")
    ]
    assert [f.count for f in comparison.missing_classes(train, test)] == [2]


def test_shared_rows_or_that_there_are_none(subject: Make):
    train = subject(service=["a", "b"])
    assert next(comparison.train_overlap(train, subject(service=["b", "c"]))).code == "shared_rows"
    assert next(comparison.train_overlap(train, subject(service=["c"]))).code == "no_shared_rows"


def test_texts_that_differ_in_digits_are_shared_in_shape(subject: Make):
    train, test = subject(uri=["/a?id=1"]), subject(uri=["/a?id=7", "/b"])
    assert next(comparison.train_overlap(train, test)).code == "no_shared_rows"
    assert next(comparison.shared_shapes(train, test)).count == 1
    assert not [*comparison.shared_shapes(subject(service=["a"]), subject(service=["a"]))]


def test_hosts_that_are_on_both_sides_are_reported(subject: Make):
    train = subject(src_ip=HOSTS, label=LABELS)
    (found,) = comparison.known_endpoints(train, subject(src_ip=HOSTS[:150], label=LABELS[:150]))
    assert (found.column, found.count) == ("src_ip", 150)
    assert not [*comparison.known_endpoints(train, subject(src_ip=["9.9.9.9"] * 150, label=LABELS[:150]))]


def test_test_rows_from_before_the_end_of_training_are_reported(subject: Make):
    train = subject(ts=[str(100 + row) for row in range(200)], label=LABELS)
    (found,) = comparison.time_overlap(
        train, subject(ts=[str(250 + row) for row in range(200)], label=LABELS)
    )
    assert (found.column, found.count) == ("ts", 49)
    assert not [*comparison.time_overlap(train, subject(ts=["900"] * 200, label=LABELS))]


def test_drift_names_the_farthest_columns_first(subject: Make):
    numbers = [float(row) for row in range(200)]
    train = subject(bytes=numbers, rate=[0.5] * 200, service=["a", "b"] * 100, label=LABELS)
    test = subject(
        bytes=[row + 100 for row in numbers], rate=[0.5] * 200, service=["a", "c"] * 100, label=LABELS
    )
    found = comparison.drift(train, test)
    assert {(f.column, f.example) for f in found} == {("bytes", "0.50"), ("service", "0.50")}


@given(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8), st.data())
def test_distance_is_zero_to_itself_and_symmetric(texts: list[str | None], data: st.DataObject):
    others = data.draw(st.lists(st.sampled_from(["a", "b", None]), min_size=1, max_size=8))
    one, other = pa.array(texts, pa.string()), pa.array(others, pa.string())
    assert comparison.ks_distance(one, one) == 0
    assert comparison.ks_distance(one, other) == pytest.approx(comparison.ks_distance(other, one))
    assert 0 <= comparison.ks_distance(one, other) <= 1


def test_few_rows_say_nothing_of_drift(subject: Make):
    few = subject(bytes=[1.0, 2.0], label=["benign", "scan"])
    assert not [*comparison.drift(few, few)]
