from wirebert.data.accounting import ParseStats
from wirebert.data.checks.unread import unread
from wirebert.data.schema.conversion import InvalidValues


def test_rejected_rows_and_footers_name_their_line():
    lines = ParseStats(num_rows=9)
    lines.reject(4, "expected 2 fields, found 3", "a,b,c")
    lines.add_footer(12, "expected 2 fields, found 1", "Summary")
    rejected, footer = unread(InvalidValues(lines=lines))
    assert (rejected.code, rejected.count, rejected.example) == ("rejected_rows", 1, "line 4: a,b,c")
    assert "1 of 10 rows (10.0 %)" in rejected.message
    assert (footer.code, footer.count, footer.example) == ("footer", 1, "line 12: Summary")


def test_values_that_are_no_numbers_are_counted_per_column():
    invalid = InvalidValues(num_rows=10)
    invalid.add("bytes", ["5%"], [3], 1)
    invalid.add("rate", [], [], 0)  # a block without any
    (found,) = unread(invalid)
    assert (found.column, found.count, found.example) == ("bytes", 1, "row 3: 5%")


def test_a_file_that_was_read_whole_has_no_finding():
    assert not [*unread(InvalidValues(num_rows=3))]
