from collections.abc import Callable

import numpy as np
import pytest

from wirebert.data.checks import leaks
from wirebert.data.checks.subject import Subject

Make = Callable[..., Subject]
MIXED = ["benign", "scan"] * 200


def test_a_guess_is_made_on_rows_it_was_not_learned_from():
    codes = np.arange(400)  # every value once: nothing can be learned
    told = leaks.guess_label(codes, np.arange(400) % 2)
    assert told.base == 0.5
    assert abs(told.gain) < 0.2


def test_a_code_that_is_the_class_is_never_wrong():
    classes = np.arange(300) % 3
    assert leaks.guess_label(classes + 7, classes).accuracy == 1.0


def test_addresses_that_have_one_class_each_tell_the_label(subject: Make):
    hosts = ["10.0.0.1" if label == "benign" else f"175.45.176.{row % 9}" for row, label in enumerate(MIXED)]
    (found,) = leaks.label_leaking_columns(subject(src_ip=hosts, label=MIXED))
    assert (found.column, found.severity, found.example) == ("src_ip", "info", "1.0000")
    assert "every attack row has '175.45.176.x'" in found.message


def test_a_feature_that_is_the_label_is_a_warning(subject: Make):
    (found,) = leaks.label_leaking_columns(
        subject(service=MIXED, bytes=[float(row % 7) for row in range(400)], label=MIXED)
    )
    assert (found.column, found.severity) == ("service", "warning")


def test_a_feature_that_tells_much_but_not_all_is_none(subject: Make):
    service = [("a" if label == "scan" else "b") if row % 10 > 1 else "c" for row, label in enumerate(MIXED)]
    assert not [*leaks.label_leaking_columns(subject(service=service, label=MIXED))]


def test_identifiers_and_sorted_rows_tell_the_label_of_a_sorted_file(subject: Make):
    table = subject(id=[str(row) for row in range(400)], label=["benign"] * 250 + ["scan"] * 150)
    assert [f.column for f in leaks.label_leaking_columns(table)] == ["id"]
    (found,) = leaks.sorted_by_label(table)
    assert float(found.example) > 0.95
    assert not [*leaks.sorted_by_label(subject(bytes=[1.0] * 400, label=MIXED))]


def test_a_column_that_is_missing_in_one_class_only(subject: Make):
    family = [None if label == "benign" else "worm" for label in MIXED]
    (found,) = leaks.missing_with_a_class(subject(family=family, label=MIXED))
    assert (found.column, found.example, found.severity) == ("family", "benign", "info")
    (found,) = leaks.missing_with_a_class(subject(service=family, label=MIXED))
    assert found.severity == "warning"
    half = [None if row % 4 == 0 else "a" for row in range(400)]
    assert not [*leaks.missing_with_a_class(subject(service=half, label=MIXED))]


def test_derived_columns_are_listed(subject: Make):
    (found,) = leaks.label_derived_columns(subject(family=["a", "b"], label=["x", "y"]))
    assert found.column == "family"


@pytest.mark.parametrize("labels", [["a"] * 400, [None] * 400, MIXED[:50]])
def test_one_class_no_labels_and_few_rows_say_nothing(labels: list[str | None], subject: Make):
    table = subject(src_ip=[f"h{row % 2}" for row in range(len(labels))], label=labels)
    assert not [*leaks.label_leaking_columns(table), *leaks.sorted_by_label(table)]
