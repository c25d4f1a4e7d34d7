import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.dialect import Dialect
from wirebert.data.sources.key_values import parse, read
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
    assert parse([line]).to_pylist() == [{"protocol_type": "tcp", "service": "http", "src_bytes": "181"}]


def test_a_key_some_lines_lack_is_null_and_a_key_all_lack_is_no_column():
    assert parse(["a:1", "b:2", "", "a:, b:3"]).to_pydict() == {
        "a": ["1", None, None, ""],
        "b": [None, "2", None, "3"],
    }


def test_values_may_hold_marks_and_separators():
    table = parse(['uri:/a?b=c;d, agent:Mozilla (KHTML, like Gecko), t=10:30:00, q="x, y: \\"z\\""'])
    assert table.to_pylist() == [
        {"uri": "/a?b=c;d", "agent": "Mozilla (KHTML, like Gecko)", "t": "10:30:00", "q": 'x, y: "z"'}
    ]


words = st.text("abcxyz019_-./", min_size=1, max_size=6)
keys = st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True)


@given(rows=st.lists(st.dictionaries(keys, words, min_size=2, max_size=4), min_size=1, max_size=5))
def test_any_rows_are_read_back(rows: list[dict[str, str]]):
    for separator in (", ", "; ", " "):
        found = parse([separator.join(f"{key}:{value}" for key, value in row.items()) for row in rows])
        assert [{k: v for k, v in row.items() if v is not None} for row in found.to_pylist()] == rows


def test_what_is_no_pair_and_a_repeated_key_name_their_row():
    with pytest.raises(DataError, match="row 2: expected key:value or key=value, found 'hello'"):
        parse(["a:1", "hello"])
    with pytest.raises(DataError, match="row 3: expected each key once, found 'a' twice"):
        parse(["a:1", "a:2", "a:1, a:2"])


def test_no_lines_and_blank_lines_have_no_columns():
    assert parse([]).column_names == []
    assert parse(["", ""]).column_names == []


def test_a_compressed_file_is_read_in_blocks(tmp_path: Path):
    path = tmp_path / "flows.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + b"".join(b"n:%d, s=x\r\n\n" % i for i in range(100))))
    dialect = Dialect(format="key_values", compression="gzip")
    tables = list(read(path, dialect, 64))
    assert len(tables) > 3
    assert [v for table in tables for v in table["n"].to_pylist()] == [str(i) for i in range(100)]
