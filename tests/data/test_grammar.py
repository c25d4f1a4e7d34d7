import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.delimited import reader as delimited
from wirebert.data.dialect import Dialect
from wirebert.data.grammar import Grammar, row_lines
from wirebert.data.readers import key_values

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


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
FIELDS = st.sampled_from(["a", "", "1", '"b"', '"c\nd"', '"e\r\n\r\nf"', '"g,h"', '"i""\n"'])


def by_hand(text: str) -> list[int]:
    """Lines on which rows begin, character by character."""
    lines: list[int] = []
    line, is_quoted, is_start = 1, False, True
    for place, character in enumerate(text):
        if is_start and character not in "\r\n":
            lines.append(line)
        is_start = False
        if character == '"':
            is_quoted = not is_quoted
        if character == "\n" or (character == "\r" and text[place + 1 : place + 2] != "\n"):
            line += 1
            is_start = not is_quoted
    return lines


@given(st.lists(st.tuples(FIELDS, FIELDS, ENDS)))
def test_rows_begin_where_reading_by_characters_says(rows: list[tuple[str, str, str]]):
    text = "".join(f"{left},{right}{end}" for left, right, end in rows)
    assert row_lines(text.encode(), Grammar(), [], 1).tolist() == by_hand(text)


@given(st.lists(st.sampled_from(["1,2", "", "3", '4,"5\n6"', "7,8,9"])), ENDS, st.booleans())
def test_every_row_that_is_read_has_the_line_of_its_first_field(rows: list[str], end: str, has_end: bool):
    text = end.join(["a,b", *rows]) + end * has_end
    parse_stats = ParseStats(finds_lines=True)
    grammar_text = text.encode()

    class Stream:
        """The text, four bytes at a time."""

        at = 0

        def read(self, nbytes: int, /) -> bytes:
            self.at += nbytes
            return grammar_text[self.at - nbytes : self.at]

    found: list[tuple[int, str]] = []
    blocks = delimited.tables(Stream(), Dialect(), 40, names=["a", "b"], parse_stats=parse_stats)
    for block in blocks:
        assert parse_stats.row_lines is not None
        firsts = [str(first) for first in block["a"].to_pylist()]
        found += list(zip(parse_stats.row_lines.tolist(), firsts, strict=True))
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [lines[line - 1].split(",")[0] for line, _ in found] == [first for _, first in found]
    assert len(found) == sum(row in ("1,2", '4,"5\n6"') for row in rows)


def test_nothing_is_counted_unless_it_is_wanted(tmp_path: Path):
    (tmp_path / "flows.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    parse_stats = ParseStats()
    list(
        delimited.read_delimited(
            tmp_path / "flows.csv", Dialect(), 100, names=["a", "b"], parse_stats=parse_stats
        )
    )
    assert parse_stats.row_lines is None


@pytest.mark.parametrize("block_bytes", [5, 1000])
def test_key_value_lines_are_numbered_too(tmp_path: Path, block_bytes: int):
    text = "a:1, b:2\n\nno pair at all\na:3, b:4\na:5, b:6\n"
    (tmp_path / "flows.txt").write_text(text, encoding="utf-8")
    parse_stats = ParseStats(finds_lines=True)
    lines = [np.empty(0, np.int64)]
    for _ in key_values.read_key_values(
        tmp_path / "flows.txt", Dialect(format="key_values"), block_bytes, parse_stats=parse_stats
    ):
        assert parse_stats.row_lines is not None
        lines.append(parse_stats.row_lines)
    assert np.concatenate(lines).tolist() == [1, 4, 5]
