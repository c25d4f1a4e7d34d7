import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.delimited.reader import read_delimited
from wirebert.data.dialect import Dialect, Encoding
from wirebert.errors import DataError


def rows_of(
    path: Path,
    dialect: Dialect,
    names: list[str],
    block_bytes: int = 1 << 20,
    parse_stats: ParseStats | None = None,
) -> list[list[str]]:
    tables = list(read_delimited(path, dialect, block_bytes, names=names, parse_stats=parse_stats))
    columns = [
        [value for table in tables for value in table.column(i).to_pylist()] for i in range(len(names))
    ]
    return [list(row) for row in zip(*columns, strict=True)]


def take(
    path: Path, text: str, dialect: Dialect | None = None, block_bytes: int = 1 << 20
) -> tuple[list[list[str]], ParseStats]:
    """Rows of a text of two columns without header, and the account of its lines."""
    path.write_bytes(text.encode())
    parse_stats = ParseStats()
    rows = rows_of(path, dialect or Dialect(has_header=False), ["a", "b"], block_bytes, parse_stats)
    assert parse_stats.num_rows == len(rows)
    assert parse_stats.num_lines == len(re.findall(r"\r\n|\r|\n|[^\r\n]\Z", text))
    return rows, parse_stats


fields = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    rows=st.lists(st.lists(fields, min_size=3, max_size=3), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t| "),
    quote=st.sampled_from("\"'"),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    has_header=st.booleans(),
    skip_lines=st.integers(0, 2),
    block_bytes=st.sampled_from([1 << 20, 64, 7]),
)
def test_any_table_in_any_dialect_is_read_back_equal(
    rows: list[list[str]],
    delimiter: str,
    quote: str,
    encoding: Encoding,
    line_end: str,
    has_header: bool,
    skip_lines: int,
    block_bytes: int,
    tmp_path_factory: pytest.TempPathFactory,
):
    text = io.StringIO(newline="")
    text.write(f"a title with {delimiter} and {quote}{line_end}" * skip_lines)
    header = [["a", "b", "c"]] if has_header else []
    writer = csv.writer(
        text, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL, lineterminator=line_end
    )
    writer.writerows(header + rows)
    path = tmp_path_factory.mktemp("flows") / "flows.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    dialect = Dialect(
        delimiter=delimiter, quote=quote, encoding=encoding, has_header=has_header, skip_lines=skip_lines
    )
    parse_stats = ParseStats()
    # A row may be twice as long as a block; these can be longer than the smallest ones.
    size = max(block_bytes, 2 * len(text.getvalue().encode()) if block_bytes < 64 else 64)
    assert rows_of(path, dialect, ["a", "b", "c"], size, parse_stats) == rows
    assert (parse_stats.num_rows, parse_stats.num_rejected, parse_stats.num_before) == (
        len(rows),
        0,
        has_header + skip_lines,
    )


plain = st.text("abc\"'#\\ .-0123456789é", max_size=6)


@given(
    rows=st.lists(st.lists(plain, min_size=3, max_size=3), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
)
def test_any_table_without_quotes_or_with_escapes_is_read_back_equal(
    rows: list[list[str]], delimiter: str, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("flows") / "flows.csv"
    path.write_text("".join(f"x{delimiter.join(row)}\n" for row in rows))
    dialect = Dialect(delimiter=delimiter, quote=None, has_header=False)
    found = rows_of(path, dialect, ["a", "b", "c"])
    assert found == [[f"x{row[0]}", *row[1:]] for row in rows]
    text = io.StringIO(newline="")
    csv.writer(
        text,
        delimiter=delimiter,
        escapechar="\\",
        doublequote=False,
        quoting=csv.QUOTE_ALL,
        lineterminator="\n",
    ).writerows(rows)
    path.write_text(text.getvalue())
    assert rows_of(path, Dialect(delimiter=delimiter, escape="\\", has_header=False), ["a", "b", "c"]) == rows


@given(
    text=st.text('12,"\n\r x\t#', max_size=40),
    block_bytes=st.sampled_from([4, 8, 1 << 20]),
    footer_lines=st.sampled_from([None, 0, 2]),
    delimiter=st.sampled_from(",,\t "),
    comment=st.sampled_from([None, "#"]),
)
@example(text="1 2\n \n3 4\n ", block_bytes=1 << 20, footer_lines=None, delimiter=" ", comment=None)
def test_every_line_of_any_text_is_accounted_for(
    text: str,
    block_bytes: int,
    footer_lines: int | None,
    delimiter: str,
    comment: str | None,
    tmp_path_factory: pytest.TempPathFactory,
):
    path = tmp_path_factory.getbasetemp() / "flows.csv"
    dialect = Dialect(has_header=False, footer_lines=footer_lines, delimiter=delimiter, comment=comment)
    try:
        rows, parse_stats = take(path, text, dialect, block_bytes=block_bytes)
    except DataError as error:
        if "expected rows shorter than" in str(error):
            return
        raise
    accounted = (
        parse_stats.num_rows + parse_stats.num_blank + parse_stats.num_rejected_lines + parse_stats.num_footer
    )
    accounted += parse_stats.num_comments
    num_breaks = sum(len(re.findall(r"\r\n|\r|\n", value)) for row in rows for value in row)
    assert accounted + num_breaks == parse_stats.num_lines
    assert parse_stats.num_line_breaks == num_breaks


@given(text=st.text('12,"\n\r \t', max_size=40), delimiter=st.sampled_from(",,\t "))
@example(text="1 1\r\t1 2", delimiter=" ")
@example(text="111\r\t", delimiter="\t")
def test_blocks_of_any_size_give_the_same_rows(
    text: str, delimiter: str, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.getbasetemp() / "flows.csv"
    dialect = Dialect(has_header=False, delimiter=delimiter)
    rows, parse_stats = take(path, text, dialect)
    small, again = take(path, text, dialect, block_bytes=len(text) // 2 + 1)
    assert small == rows
    assert (again.num_rejected, again.num_footer) == (parse_stats.num_rejected, parse_stats.num_footer)


def test_a_quote_left_open_swallows_nothing(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", '5,"6\n7,8')
    assert rows == [["7", "8"]]
    assert parse_stats.num_rejected == 1
    assert (parse_stats.examples[0].line, parse_stats.examples[0].text) == (1, '5,"6')
    rows, parse_stats = take(tmp_path / "f", '1,2\n5,"6\n7,"8"\n"a\nb",9\n')
    assert rows == [["1", "2"], ["7", "8"], ["a\nb", "9"]]
    assert (parse_stats.num_rejected, parse_stats.examples[0].line, parse_stats.num_line_breaks) == (1, 2, 1)


@pytest.mark.parametrize("closing", ["", '9, x"y"\n', '9, x"y", z\n', '9, ""la\n\na:"x", p\n'])
def test_a_quote_left_open_behind_a_blank_swallows_nothing(closing: str, tmp_path: Path):
    dialect = Dialect(has_header=False, blanks_before_quotes=True)
    rows, parse_stats = take(tmp_path / "f", f'1, "2"\n5, "6\n7, 8\n{closing}3, 4\n', dialect)
    assert rows[:2] == [["1", "2"], ["7", " 8"]]
    assert rows[-1] == ["3", " 4"]
    assert len(rows) + parse_stats.num_rejected == 4 + len(closing.splitlines()) - parse_stats.num_blank
    assert parse_stats.num_line_breaks == 0


def test_a_row_with_a_line_break_and_an_open_quote_is_set_aside_whole(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", '1,2\n"a\nb","c\n3,4\n')
    assert rows == [["1", "2"], ["3", "4"]]
    assert (parse_stats.num_rejected, parse_stats.num_rejected_lines, parse_stats.examples[0].line) == (
        1,
        2,
        2,
    )


def test_an_open_quote_in_a_large_file_costs_one_row(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", '"1,2\n' + "3,4\n" * 1000, block_bytes=512)
    assert (len(rows), parse_stats.num_rejected, parse_stats.num_blank) == (1000, 1, 0)


def test_rows_of_another_width_are_set_aside_with_their_lines(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", '"1\n1",2\n\n3,4,5\n6\n7,8\n', block_bytes=16)
    assert rows == [["1\n1", "2"], ["7", "8"]]
    assert [(odd.line, odd.reason) for odd in parse_stats.examples] == [
        (4, "expected 2 fields, found 3"),
        (5, "expected 2 fields, found 1"),
    ]
    assert (parse_stats.num_blank, parse_stats.num_line_breaks, parse_stats.num_footer) == (1, 1, 0)


def test_lines_after_the_table_are_a_footer(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", "1,2\n3,4\nSummary\n\ntotal 2\n")
    assert len(rows) == 2
    assert (parse_stats.num_footer, parse_stats.num_rejected, parse_stats.num_blank) == (2, 0, 1)
    assert [line.text for line in parse_stats.footer] == ["Summary", "total 2"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block_bytes", [8, 12, 1 << 20])
def test_so_many_lines_after_the_table_as_are_named_are_no_rows(tmp_path: Path, block_bytes: int, end: str):
    text = end.join(["1,2", "3,4", "", "5", "6,7", "9,9", " ", "Total", ""])
    rows, parse_stats = take(
        tmp_path / "f", text, Dialect(has_header=False, footer_lines=2), block_bytes=block_bytes
    )
    assert rows == [["1", "2"], ["3", "4"], ["6", "7"]]
    assert [(line.line, line.text) for line in parse_stats.footer] == [(6, "9,9"), (8, "Total")]
    assert (parse_stats.num_rejected, parse_stats.num_blank, parse_stats.num_lines) == (1, 2, 8)


@pytest.mark.parametrize("block_bytes", [6, 8, 1 << 20])
@pytest.mark.parametrize("wide", ["5,6", "5,6,7"])
def test_short_rows_before_another_row_are_set_aside_wherever_a_block_ends(
    tmp_path: Path, block_bytes: int, wide: str
):
    text = f"1,2\n3\n\n4\n{wide}\n7\n"
    _, parse_stats = take(tmp_path / "f", text, block_bytes=block_bytes)
    aside = [(2, "3"), (4, "4"), *([(5, wide)] if wide == "5,6,7" else [])]
    assert [(row.line, row.text) for row in parse_stats.examples] == aside
    assert (parse_stats.num_rejected, parse_stats.num_rejected_lines) == (len(aside), len(aside))
    assert [(row.line, row.text) for row in parse_stats.footer] == [(6, "7")]
    assert (parse_stats.num_footer, parse_stats.num_line_breaks) == (1, 0)


def test_without_lines_after_the_table_a_row_that_is_cut_off_is_set_aside(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", "1,2\n3", Dialect(has_header=False, footer_lines=0))
    assert (rows, parse_stats.num_rejected, parse_stats.num_footer) == ([["1", "2"]], 1, 0)


def test_blanks_inside_quotes_stay_where_blanks_are_delimiters(tmp_path: Path):
    dialect = Dialect(delimiter=" ", has_header=False)
    assert take(tmp_path / "f", ' "a\t" "\r\t b" \n\tc  d\t\n', dialect)[0] == [["a\t", "\r\t b"], ["c", "d"]]


def test_a_line_after_the_table_that_is_two_is_a_row_that_cannot_be_used(tmp_path: Path):
    for line_break in "\n\r":
        rows, parse_stats = take(tmp_path / "f", f'1,2\n"3{line_break}4"')
        assert (rows, parse_stats.num_rejected, parse_stats.num_rejected_lines) == ([["1", "2"]], 1, 2)


def test_a_short_row_is_found_where_it_stands_not_where_another_begins_like_it(tmp_path: Path):
    _, parse_stats = take(tmp_path / "f", "12,3\n12\n4,5\n")
    assert [(row.line, row.text) for row in parse_stats.examples] == [(2, "12")]


def test_a_line_inside_quotes_is_not_taken_for_the_short_row_that_equals_it(tmp_path: Path):
    (tmp_path / "f").write_text('1,"2\n12\n3"\n12\n4,5\n12\n')
    parse_stats = ParseStats(finds_lines=True)
    rows = rows_of(tmp_path / "f", Dialect(has_header=False), ["a", "b"], parse_stats=parse_stats)
    assert rows == [["1", "2\n12\n3"], ["4", "5"]]
    assert parse_stats.row_lines is not None
    assert parse_stats.row_lines.tolist() == [1, 5]
    assert [row.line for row in (*parse_stats.examples, *parse_stats.footer)] == [4, 6]


def test_comments_are_counted_and_quotes_in_them_open_nothing(tmp_path: Path):
    dialect = Dialect(has_header=False, comment="#")
    rows, parse_stats = take(tmp_path / "f", '1,2\n# a, b, "note\n3,4\n# x\n5\n6,7\n', dialect)
    assert rows == [["1", "2"], ["3", "4"], ["6", "7"]]
    assert (parse_stats.num_comments, parse_stats.num_rejected, parse_stats.examples[0].line) == (2, 1, 5)


def test_lines_that_are_taken_out_join_no_line_end_before_them(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", "1,2\r#\n3,4\n", Dialect(has_header=False, comment="#"))
    assert (len(rows), parse_stats.num_comments, parse_stats.num_blank, parse_stats.num_lines) == (2, 1, 0, 3)
    rows, parse_stats = take(tmp_path / "f", '1,2\r3,"x\n4,5\n')
    assert (len(rows), parse_stats.num_rejected, parse_stats.num_blank, parse_stats.num_lines) == (2, 1, 0, 3)


def test_runs_of_blanks_are_one_delimiter(tmp_path: Path):
    dialect = Dialect(delimiter=" ", has_header=False)
    rows, _ = take(tmp_path / "f", '  a   b\nc\t\td  \n"e  f"  " g"\n', dialect)
    assert rows == [["a", "b"], ["c", "d"], ["e  f", " g"]]


def test_blanks_before_a_quote_belong_to_no_value(tmp_path: Path):
    dialect = Dialect(has_header=False, blanks_before_quotes=True)
    rows, _ = take(tmp_path / "f", '1, "a, ""b"""\n2,  "x"\n', dialect)
    assert rows == [["1", 'a, "b"'], ["2", "x"]]


def test_nothing_is_interpreted(tmp_path: Path):
    (tmp_path / "f").write_text("a,b\n 01 ,NA\n,nan\n")
    assert rows_of(tmp_path / "f", Dialect(), ["a", "b"]) == [[" 01 ", "NA"], ["", "nan"]]


def test_blocks_are_dictionaries_and_small_blocks_keep_order(tmp_path: Path):
    (tmp_path / "f").write_text("".join(f"{i},x\n" for i in range(1000)))
    tables = list(read_delimited(tmp_path / "f", Dialect(has_header=False), 512, names=["i", "x"]))
    assert len(tables) > 5
    assert tables[0].schema.types == [pa.dictionary(pa.int32(), pa.string())] * 2
    assert [int(str(v)) for table in tables for v in table["i"].to_pylist()] == list(range(1000))


@pytest.mark.parametrize(("encoding", "byte"), [("utf-8", b"\xe9"), ("cp1252", b"\x81")])
def test_a_byte_that_is_not_of_the_encoding_costs_no_row(encoding: Encoding, byte: bytes, tmp_path: Path):
    (tmp_path / "f").write_bytes(b"a,b\n1,2\n" + byte + b",1\n3,4\n")
    stats = ParseStats()
    rows = rows_of(tmp_path / "f", Dialect(encoding=encoding), ["a", "b"], parse_stats=stats)
    assert rows == [["1", "2"], ["\ufffd", "1"], ["3", "4"]]
    assert (stats.num_rows, stats.num_rejected, stats.num_lines) == (3, 0, 4)
    assert stats.num_not_text == (encoding == "utf-8")


def test_a_row_that_begins_like_a_comment_is_a_row(tmp_path: Path):
    text = "a,b\n1,2\n# a note\n#3,4\n5,6\n"
    rows, stats = take(tmp_path / "f", text, Dialect(comment="#"))
    assert rows == [["1", "2"], ["#3", "4"], ["5", "6"]]
    assert (stats.num_rows, stats.num_comments, stats.num_rejected) == (3, 1, 0)
    rows, stats = take(tmp_path / "g", text, Dialect(comment="#", hides_rows=True))
    assert rows == [["1", "2"], ["5", "6"]]
    assert stats.num_comments == 2


def test_a_header_that_comes_again_is_no_row(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", "a,b\r\n1,2\r\na,b\r\na,bb\r\n3,4\r\na,b", Dialect())
    assert rows == [["1", "2"], ["a", "bb"], ["3", "4"]]
    assert (parse_stats.num_rejected, parse_stats.num_not_text, parse_stats.num_lines) == (2, 0, 6)
    assert (parse_stats.examples[0].line, parse_stats.examples[0].reason) == (3, "it repeats the header")


@pytest.mark.parametrize("text", ["a\nb\na\n", "0,1\n5,6\n0,1\n"])
def test_a_word_or_numbers_that_come_again_are_a_row(tmp_path: Path, text: str):
    (tmp_path / "f").write_text(text)
    names = ["a", "b"][: text.splitlines()[0].count(",") + 1]
    assert len(rows_of(tmp_path / "f", Dialect(), names)) == 2


def test_zero_bytes_are_characters_like_any_other(tmp_path: Path):
    rows, parse_stats = take(tmp_path / "f", "1,\x002\n\x00\x00\x00\n3,4\n")
    assert rows == [["1", "\x002"], ["3", "4"]]
    assert parse_stats.num_rejected == 1


@pytest.mark.parametrize("end", ["", "\n", "\n5,6\n"])
def test_a_row_longer_than_two_blocks_is_skipped_and_told(end: str, tmp_path: Path):
    rows, stats = take(tmp_path / "f", "a,b\n1,2\n3," + "x" * 100 + end, Dialect(), block_bytes=16)
    assert rows == [["1", "2"], ["5", "6"]][: 1 + ("5" in end)]
    assert [one.line for one in stats.examples] == [3]
    assert (stats.num_lines, stats.num_rejected, stats.num_blank) == (3 + len(rows) - 1, 1, 0)
