import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Dialect
from wirebert.data.readers import key_values
from wirebert.data.readers.key_values import MIN_ALIKE, parse_key_values, read_key_values, read_keys
from wirebert.errors import DataError


@pytest.mark.parametrize(
    "line",
    [
        "protocol_type:tcp, service=http, src_bytes:181",
        "protocol_type=tcp;service=http;src_bytes=181",
        "protocol_type: tcp , service : http , src_bytes: 181,",
        "protocol_type=tcp service=http   src_bytes=181",
        'protocol_type="tcp", service="http", src_bytes="181"',
    ],
)
def test_all_separators_and_marks_give_the_same_row(line: str):
    assert parse_key_values([line]).to_pylist() == [
        {"protocol_type": "tcp", "service": "http", "src_bytes": "181"}
    ]


def test_a_key_some_lines_lack_is_null_and_a_key_all_lack_is_no_column():
    assert parse_key_values(["a:1", "b:2", "", "a:, b:3"]).to_pydict() == {
        "a": ["1", None, None, ""],
        "b": [None, "2", None, "3"],
    }


def test_values_may_hold_marks_and_separators():
    table = parse_key_values(
        ['uri:/a?b=c;d, agent:Mozilla (KHTML, like Gecko), t=10:30:00, q="x, y: \\"z\\""']
    )
    assert table.to_pylist() == [
        {"uri": "/a?b=c;d", "agent": "Mozilla (KHTML, like Gecko)", "t": "10:30:00", "q": 'x, y: "z"'}
    ]


words = st.text("abcxyz019_-./", min_size=1, max_size=6)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(rows=st.lists(st.dictionaries(keys, words, min_size=2, max_size=4), min_size=1, max_size=5))
def test_any_rows_are_read_back(rows: list[dict[str, str]]):
    for separator in (", ", "; ", " "):
        found = parse_key_values(
            [separator.join(f"{key}:{value}" for key, value in row.items()) for row in rows]
        )
        assert [{k: v for k, v in row.items() if v is not None} for row in found.to_pylist()] == rows


def test_what_is_no_pair_and_a_repeated_key_name_their_row():
    with pytest.raises(DataError, match="row 2: expected key:value or key=value, found 'hello'"):
        parse_key_values(["a:1", "hello"])
    with pytest.raises(DataError, match="row 3: expected each key once, found 'a' twice"):
        parse_key_values(["a:1", "a:2", "a:1, a:2"])


def test_no_lines_and_blank_lines_have_no_columns():
    assert parse_key_values([]).column_names == []
    assert parse_key_values(["", ""]).column_names == []


def test_a_compressed_file_is_read_in_blocks(tmp_path: Path):
    path = tmp_path / "flows.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b"".join(b"n:%d, s=x\r\n\n" % i for i in range(100))))
    dialect = Dialect(format="key_values", compression="gzip")
    tables = list(read_key_values(path, dialect, 64))
    assert len(tables) > 3
    assert [v for table in tables for v in table["n"].to_pylist()] == [str(i) for i in range(100)]


values = st.text('ab1 ,=:;"', max_size=5)


@given(
    rows=st.lists(st.dictionaries(keys, values, min_size=1, max_size=4), min_size=1, max_size=6),
    separator=st.sampled_from([", ", "; "]),
)
def test_many_lines_are_read_as_each_alone(rows: list[dict[str, str]], separator: str):
    """Many lines of one form take another way through the code than a few."""
    lines = [separator.join(f"{key}:{value}" for key, value in row.items()) for row in rows]

    def alone(line: str) -> dict[str, str] | None:
        try:
            (row,) = parse_key_values([line], separator=separator[0]).to_pylist() or [{}]
        except DataError:
            return None
        return row

    expected = [alone(line) for line in lines]
    good = [(line, row) for line, row in zip(lines, expected, strict=True) if row is not None]
    found = (
        parse_key_values([line for line, _ in good] * MIN_ALIKE, separator=separator[0]).to_pylist()
        if good
        else []
    )
    known = [{key: value for key, value in row.items() if value is not None} for row in found]
    assert known == [row for _, row in good] * MIN_ALIKE or not any(row for _, row in good)


def test_keys_that_come_and_go_and_change_places_are_put_in_their_columns():
    lines = ["a:1, b:2, c:3", "b:5, a:4, c:6", "a:7, d:8", "c:9, b, a:0"] * MIN_ALIKE
    table = parse_key_values(lines, separator=",")
    assert table.slice(0, 4).to_pydict() == {
        "a": ["1", "4", "7", "0"],
        "b": ["2", "5", None, None],
        "c": ["3", "6", None, "9, b"],
        "d": [None, None, "8", None],
    }
    assert table.slice(4, 4).equals(table.slice(0, 4)) or table.num_rows == len(lines)


def test_a_key_twice_is_found_among_many_lines():
    with pytest.raises(DataError, match="row 22: expected each key once, found 'a' twice"):
        parse_key_values(["a:1, b:2"] * 21 + ["a:1, a:2"] + ["a:1, b:2"] * 21)


def test_lines_that_hold_no_pairs_are_set_aside_when_a_file_is_read(tmp_path: Path):
    path = tmp_path / "flows.txt"
    path.write_text("a:1, b:2\n\nhello\na:3, a:4\na:5, b:6\n")
    parse_stats = ParseStats()
    (table,) = read_key_values(path, Dialect(format="key_values"), 1 << 20, parse_stats=parse_stats)
    assert table.to_pydict() == {"a": ["1", "5"], "b": ["2", "6"]}
    assert [(odd.line, odd.text) for odd in parse_stats.examples] == [(3, "hello"), (4, "a:3, a:4")]
    assert (parse_stats.num_lines, parse_stats.num_rows, parse_stats.num_blank, parse_stats.num_rejected) == (
        5,
        2,
        1,
        2,
    )
    assert read_keys(path, Dialect(format="key_values"), 1 << 20) == ("a", "b")


def test_a_line_of_too_many_keys_is_set_aside_and_the_others_are_read(tmp_path: Path):
    wide = ", ".join(f"k{number}:1" for number in range(2_001))
    (tmp_path / "f").write_text(f"a:1, b:2\n{wide}\na:3, b:4\n")
    dialect, stats = Dialect(format="key_values"), ParseStats(finds_lines=True)
    assert read_keys(tmp_path / "f", dialect, 1 << 20) == ("a", "b")
    (table,) = read_key_values(tmp_path / "f", dialect, 1 << 20, parse_stats=stats)
    assert table.to_pylist() == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert stats.row_lines is not None
    assert stats.row_lines.tolist() == [1, 3]
    assert [row.line for row in stats.examples] == [2]
    assert stats.num_line_breaks == 0


def test_one_wide_line_among_many_short_ones_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(key_values, "MAX_CELLS", 10_000)
    wide = ", ".join(f"k{number}:1" for number in range(100))
    (tmp_path / "f").write_text(wide + "\n" + "k1:2\n" * 1_000)
    tables = list(read_key_values(tmp_path / "f", Dialect(format="key_values"), 1 << 20))
    assert max(table.num_rows for table in tables) < 100
    assert [row["k1"] for table in tables for row in table.to_pylist()] == ["1"] + ["2"] * 1_000


def test_a_long_value_takes_no_square_of_time(tmp_path: Path):
    (tmp_path / "f").write_text("a:1, b:2\n" * 30 + "a:" + "x" * 1_000_000 + "\n" + "," * 100_000 + "\n")
    since = time.process_time()
    (table,) = read_key_values(tmp_path / "f", Dialect(format="key_values"), 1 << 22)
    assert table.num_rows == 32
    assert time.process_time() - since < 5
