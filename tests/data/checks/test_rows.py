from collections.abc import Callable

from wirebert.data.checks import rows
from wirebert.data.checks.subject import Subject

Make = Callable[..., Subject]


def test_rows_that_differ_in_addresses_only_are_counted(subject: Make):
    table = subject(src_ip=["a", "b", "c"], ts=["1", "2", "3"], bytes=[1.0, 1.0, 2.0], label=["x", "x", "y"])
    (found,) = rows.rows_equal_without_endpoints(table)
    assert (found.count, found.example) == (1, "row 2")
    assert "(1 with the same label)" in found.message
    assert not [*rows.duplicate_rows(table)]
    assert not [*rows.rows_equal_without_endpoints(subject(bytes=[1.0, 1.0]))]


def test_texts_that_differ_in_digits_only_are_near_duplicates(subject: Make):
    (found,) = rows.texts_equal_in_shape(subject(uri=["/a?id=1", "/a?id=2", "/b", "/a?id=12"]))
    assert (found.count, found.example) == (1, "row 2")
    assert not [*rows.texts_equal_in_shape(subject(uri=["/a", "/a"]))]  # equal, so counted as duplicates


def test_duplicates_and_conflicts_are_different_things(subject: Make):
    table = subject(service=["a", "a", "b", "b"], label=["x", "x", "x", "y"])
    assert next(rows.duplicate_rows(table)).count == 2
    assert next(rows.conflicting_labels(table)).count == 2
