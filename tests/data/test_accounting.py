import json

import pytest

from wirebert.data.accounting import MAX_LINE_EXAMPLES, ParseStats
from wirebert.errors import DataError


def test_too_many_rejected_rows_are_one_sentence_with_the_first():
    parse_stats = ParseStats(num_rows=98)
    parse_stats.reject(7, "expected 2 fields, found 3", "a,b,c")
    parse_stats.reject(9, "expected 2 fields, found 1", "a")
    parse_stats.check(0.02, "flows.csv")
    with pytest.raises(
        DataError, match=r"flows\.csv, line 7: expected 2 fields, found 3 in 'a,b,c', and so 2 of 100 rows"
    ):
        parse_stats.check(0.01, "flows.csv")


def test_a_footer_fails_nothing():
    parse_stats = ParseStats(num_rows=1)
    parse_stats.add_footer(3, "expected 2 fields, found 1", "Summary")
    parse_stats.check(0.0, "flows.csv")


def test_accounts_of_files_add_up():
    one, other = (
        ParseStats(num_lines=5, num_rows=3, num_before=1, num_blank=1),
        ParseStats(num_lines=4, num_rows=2),
    )
    for line in range(5):
        other.reject(line, "reason", "text")
    one.merge(other)
    assert (one.num_lines, one.num_rows, one.num_rejected, len(one.examples)) == (9, 5, 5, MAX_LINE_EXAMPLES)


def test_what_is_left_of_the_lines_are_line_breaks_in_quotes():
    parse_stats = ParseStats(
        num_lines=10, num_before=1, num_rows=5, num_blank=1, num_comments=1, num_footer=1
    )
    assert parse_stats.num_line_breaks == 1


def test_counts_come_back_from_json():
    stats = ParseStats(num_lines=9, num_rows=3, num_odd={"a": 1}, rows_by_file={"x.csv": 3})
    stats.reject(4, "expected 3 fields, found 2", "a,b")
    stats.add_footer(9, "it comes after the table", "total")
    stats.count_odd("b", 2, "text")
    plain = json.loads(json.dumps(stats.to_dict()))
    assert ParseStats.from_dict(plain) == stats
