from collections.abc import Callable

from wirebert.data.checks import values
from wirebert.data.checks.subject import Subject
from wirebert.data.schema.conversion import InvalidValues

Make = Callable[..., Subject]
NAN = float("nan")


def test_missing_markers_are_counted_over_columns(subject: Make):
    invalid = InvalidValues(markers={"service": {"-": 2}, "bytes": {"-": 1, "": 4}})
    found = list(values.missing_markers(subject(invalid, service=["a"], bytes=[1.0])))
    assert [(f.example, f.count, f.column) for f in found] == [("'-'", 3, None), ("''", 4, "bytes")]
    assert "2 columns ('service', 'bytes')" in found[0].message


def test_nearly_constant_is_one_value_in_nearly_all_rows(subject: Make):
    found = values.nearly_constant_columns(subject(bytes=[0.0] * 1999 + [5.0], service=["a", "b"] * 1000))
    assert [(f.column, f.count, f.example) for f in found] == [("bytes", 1, "0")]


def test_a_category_of_numbers_and_words_is_mixed(subject: Make):
    found = values.mixed_types(subject(service=["80", "http", "443", "dns"], service2=["a", "b", "c", "d"]))
    assert [(f.column, f.count, f.example) for f in found] == [("service", 2, "'http' and '80'")]


def test_infinite_and_negative_values_are_counted_where_none_belong(subject: Make):
    table = subject(bytes=[1.0, -1.0, float("inf")], rate=[0.0, -0.5, 1.0])
    assert [(f.column, f.count) for f in values.infinite_values(table)] == [("bytes", 1)]
    assert [(f.column, f.count, f.example) for f in values.negative_values(table)] == [
        ("bytes", 1, "-1"),
        ("rate", 1, "-0.5"),
    ]


def test_a_truth_value_with_a_third_value_is_odd(subject: Make):
    flags = [0.0, 1.0] * 100 + [2.0]
    found = values.nearly_boolean_columns(subject(is_login=flags, bytes=flags))
    assert [(f.column, f.count, f.example) for f in found] == [("is_login", 1, "2")]


def test_equal_columns_are_found_whatever_their_names(subject: Make):
    table = subject(
        bytes=[1.0, NAN, 2.0], bytes2=[1.0, NAN, 2.0], bytes3=[1.0, 2.0, NAN], rate=[7.0, 7.0, 7.0]
    )
    assert [(f.column, f.example) for f in values.duplicate_columns(table)] == [("bytes2", "bytes")]


def test_stray_blanks_in_names_are_odd(subject: Make):
    found = values.odd_names(subject(**{"bytes  1": [1.0], "service": ["a"]}))
    assert [f.column for f in found] == ["bytes  1"]
