import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.records import Grammar

fields = st.text("ab,;\t\n\r\"' \\é", max_size=6)


@given(
    rows=st.lists(st.lists(fields, min_size=2, max_size=3), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t"),
)
def test_rows_that_the_csv_module_writes_are_split_alike(rows: list[list[str]], delimiter: str):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    records = Grammar(delimiter).split(text.getvalue())
    assert [record.cells for record in records] == rows
    assert not any(record.is_broken for record in records)
    assert [text.getvalue()[record.start] for record in records] == ['"'] * len(rows)


@given(text=st.text('a,"\n', max_size=30))
def test_scanning_bytes_and_splitting_text_find_the_same_broken_rows(text: str):
    broken = [record.start for record in Grammar().split(text) if record.is_broken]
    assert [start for start, _ in Grammar().scan(text.encode(), is_last=True).broken] == broken


@pytest.mark.parametrize(
    ("text", "broken", "unfinished"),
    [
        (b"1,2\n3,4\n", [], None),
        (b'1,"a\nb"\n', [], None),
        (b'1,"a\n', [], 0),
        (b'1,2\n3,"a\nb', [], 4),
        (b'1,"a"x\n2,3\n', [(0, 7)], None),
        (b'1,"a\n2,"b"\n', [(0, 5)], None),
        (b'1,a"b\n2,""\n', [], None),
    ],
)
def test_a_row_may_go_on_only_where_more_text_may_come(
    text: bytes, broken: list[tuple[int, int]], unfinished: int | None
):
    assert Grammar().scan(text, is_last=False) == (broken, unfinished)


def test_without_quotes_nothing_is_broken():
    assert Grammar(quote=None).scan(b'1,"a\n', is_last=True) == ([], None)
    assert Grammar(quote=None).split('1,"a\n')[0].cells == ["1", '"a']


def test_blanks_around_quotes_belong_to_no_value_and_runs_of_blanks_are_one_delimiter():
    assert Grammar().split('1, "a, b" ,c\n')[0].cells == ["1", "a, b", "c"]
    assert Grammar(" ").split('  1  "a  b"\tc  \n')[0].cells == ["1", "a  b", "c"]


def test_an_escape_character_makes_the_next_one_ordinary():
    grammar = Grammar(escape="\\")
    assert grammar.split('a\\,b,"c\\"d"\n')[0].cells == ["a,b", 'c"d']
    assert grammar.scan(b'a,"c\\"d"\n', is_last=True).broken == []


def test_an_escape_with_nothing_after_it_breaks_its_row():
    rows = Grammar(escape="\\").split('1,2\n\\"\\')
    assert [(row.cells, row.is_broken) for row in rows] == [(["1", "2"], False), (['\\"\\'], True)]


def test_a_header_may_hold_a_line_break():
    assert Grammar().first_row(b'"a\nb",c\n1,2\n') == (2, 8)
    assert Grammar().first_row(b'a,"b\nc\n') == (1, 5)
