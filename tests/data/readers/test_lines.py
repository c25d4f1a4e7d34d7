import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.readers.lines import (
    header_names,
    line_blocks,
    parse_delimited,
    parse_json,
    without_first_line,
)
from wirebert.errors import DataError


@given(st.lists(st.text("ab\r", max_size=9), max_size=30), st.integers(1, 50), st.booleans())
def test_blocks_are_the_file_cut_at_line_ends(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], block_bytes: int, ends: bool
):
    content = "\n".join(lines).encode() + (b"\n" if ends else b"")
    path = tmp_path_factory.mktemp("lines") / "f"
    path.write_bytes(content)
    blocks = list(line_blocks(path, "none", max(block_bytes, 12), "f", ParseStats()))
    assert b"".join(blocks) == content
    assert all(block.endswith(b"\n") for block in blocks[:-1])


def test_byte_order_mark_and_header_are_no_rows(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n3,4\n")
    parse_stats = ParseStats()
    blocks = without_first_line(line_blocks(tmp_path / "f", "none", 6, "f", parse_stats), parse_stats)
    assert b"".join(blocks) == b"1,2\n3,4\n"
    assert parse_stats.num_lines == parse_stats.num_before == 1
    assert header_names(b"\xef\xbb\xbfa, b\r\n1,2", ",") == ("a", "b")


@pytest.mark.parametrize("end", [b"", b"\n", b"\nc\n"])
def test_a_line_above_the_limit_is_skipped_and_told(tmp_path: Path, end: bytes):
    (tmp_path / "long").write_bytes(b"a\n" + b"x" * 1000 + end)
    stats = ParseStats()
    blocks = b""
    for block in line_blocks(tmp_path / "long", "none", 10, "long", stats):
        stats.num_lines += block.count(b"\n")  # as who reads the blocks does
        blocks += block
    assert blocks == b"a" + (end or b"\n").replace(b"\n\n", b"\n")
    assert [(one.line, one.reason) for one in stats.examples] == [
        (2, f"expected lines of at most 80 bytes, found one of {1000 + bool(end):,}")
    ]


def test_rows_of_equal_text_keep_their_lines():
    parse_stats = ParseStats()
    block = b"1,2\nx\n3,4\ny\nx\n"
    parse_delimited(block, ["a", "b"], ",", quote=None, where="f", parse_stats=parse_stats)
    assert [(row.line, row.text) for row in parse_stats.examples] == [(2, "x"), (4, "y"), (5, "x")]


def test_a_cut_archive_is_one_sentence(tmp_path: Path):
    (tmp_path / "cut").write_bytes(gzip.compress(b"a line\n" * 1000)[:-20])
    with pytest.raises(DataError, match=r"expected gzip data, found it damaged .* copy or download"):
        list(line_blocks(tmp_path / "cut", "gzip", 1 << 20, "cut", ParseStats()))


def test_rows_of_another_width_are_counted_with_their_line():
    parse_stats = ParseStats()
    block = b"1,2\n3\n4,5\n"
    table = parse_delimited(block, ["a", "b"], ",", quote=None, where="f", parse_stats=parse_stats)
    assert table.to_pydict() == {"a": ["1", "4"], "b": ["2", "5"]}
    assert (parse_stats.num_rows, parse_stats.num_rejected, parse_stats.num_lines) == (2, 1, 3)
    assert (parse_stats.examples[0].line, parse_stats.examples[0].text) == (2, "3")


def test_an_empty_block_has_columns_and_no_rows():
    assert parse_delimited(b"\n", ["a"], ",", quote=None, where="f", parse_stats=ParseStats()).num_rows == 0
    assert parse_json(b"", pa.schema([("a", pa.int64())]), ParseStats()).column_names == ["a"]


def test_a_line_that_is_no_object_is_counted_with_its_line():
    parse_stats = ParseStats()
    table = parse_json(b'{"a":1}\n[2]\n{"a":3}\n{"a":', None, parse_stats)
    assert table["a"].to_pylist() == [1, 3]
    assert (parse_stats.num_rows, parse_stats.num_rejected, parse_stats.num_lines) == (2, 2, 4)


def test_a_field_of_two_types_is_text_and_fits_a_schema_where_it_can():
    block = b'{"a":1,"n":{"x":"5"}}\n{"a":"x","n":7}\n{"a":[2]}\n'
    assert parse_json(block, None, ParseStats()).to_pylist() == [
        {"a": "1", "n.x": "5", "n": None},
        {"a": "x", "n.x": None, "n": 7},
        {"a": "2", "n.x": None, "n": None},
    ]
    parse_stats = ParseStats()
    schema = pa.schema([("a", pa.int64()), ("n", pa.struct([("x", pa.int64())]))])
    table = parse_json(block, schema, parse_stats)
    assert table.to_pylist() == [{"a": 1, "n": {"x": 5}}, {"a": None, "n": None}, {"a": 2, "n": None}]
    assert (parse_stats.num_odd, parse_stats.odd_examples) == (
        {"a": 1, "n": 1},
        {"a": (2, "x"), "n": (2, "7")},
    )


def test_deep_json_is_set_aside_with_its_line_before_it_is_parsed():
    parse_stats = ParseStats()
    for deep in (
        b'{"a":' * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a":' + b"[" * 70 + b"]" * 70 + b"}",
    ):
        parse_stats = ParseStats()
        table = parse_json(b'{"a":1}\n' + deep + b'\n{"a":3}\n', None, parse_stats)
        assert table["a"].to_pylist() == [1, 3]
        assert (parse_stats.num_rejected, parse_stats.examples[0].line) == (1, 2)
