from wirebert.data.checks.reading import noted_findings
from wirebert.data.schema.conversion import InvalidValues


def test_units_are_told_with_rows_and_an_example():
    invalid = InvalidValues(num_rows=200)
    invalid.note("units_read", "bytes", 3, "1.9 M")
    (told,) = noted_findings(invalid)
    assert (told.code, told.severity, told.column, told.count) == ("units_read", "info", "bytes", 3)
    assert "3 of 200 rows (1.5 %), such as '1.9 M'" in told.message


def test_unreadable_times_are_told_above_one_in_a_hundred():
    invalid = InvalidValues(num_rows=200)
    invalid.note("unreadable_times", "ts", 2, "soon")
    assert list(noted_findings(invalid)) == []
    invalid.note("unreadable_times", "ts", 1, "later")
    (told,) = noted_findings(invalid)
    assert (told.severity, told.count, told.example) == ("warning", 3, "soon")


def test_counts_of_files_add_up():
    one, other = InvalidValues(num_rows=5), InvalidValues(num_rows=7)
    one.note("units_read", "bytes", 1, "1 k")
    other.note("units_read", "bytes", 2, "2 k")
    one.merge(other)
    assert one.noted == {"units_read": {"bytes": (3, "1 k")}}
