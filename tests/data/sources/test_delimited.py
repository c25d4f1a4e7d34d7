import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.dialect import Dialect
from wirebert.data.sources.delimited import NotUtf8Error, read
from wirebert.errors import DataError


def rows_of(path: Path, dialect: Dialect, names: list[str], block_bytes: int = 1 << 20) -> list[list[str]]:
    tables = list(read(path, dialect, block_bytes, names=names))
    columns = [
        [value for table in tables for value in table.column(i).to_pylist()] for i in range(len(names))
    ]
    return [list(row) for row in zip(*columns, strict=True)]


fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


@given(
    rows=st.lists(st.lists(fields, min_size=3, max_size=3), min_size=1, max_size=6),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
    has_header=st.booleans(),
)
def test_any_table_in_any_dialect_is_read_back_equal(
    rows: list[list[str]],
    delimiter: str,
    encoding: str,
    has_header: bool,
    tmp_path_factory: pytest.TempPathFactory,
):
    text = io.StringIO()
    header = [["a", "b", "c"]] if has_header else []
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(header + rows)
    path = tmp_path_factory.mktemp("flows") / "flows.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    dialect = Dialect(delimiter=delimiter, encoding=encoding, has_header=has_header)  # pyright: ignore[reportArgumentType]: both are known encodings
    assert rows_of(path, dialect, ["a", "b", "c"]) == rows


def test_nothing_is_interpreted(tmp_path: Path):
    (tmp_path / "f").write_text("a,b\n 01 ,NA\n,nan\n")
    assert rows_of(tmp_path / "f", Dialect(), ["a", "b"]) == [[" 01 ", "NA"], ["", "nan"]]


def test_blocks_are_dictionaries_and_small_blocks_keep_order(tmp_path: Path):
    (tmp_path / "f").write_text("".join(f"{i},x\n" for i in range(1000)))
    tables = list(read(tmp_path / "f", Dialect(has_header=False), 512, names=["i", "x"]))
    assert len(tables) > 5
    assert tables[0].schema.types == [pa.dictionary(pa.int32(), pa.string())] * 2
    assert [int(str(v)) for table in tables for v in table["i"].to_pylist()] == list(range(1000))


@pytest.mark.parametrize(("has_header", "row"), [(True, 2), (False, 3)])
def test_a_ragged_row_is_named(has_header: bool, row: int, tmp_path: Path):
    (tmp_path / "f.csv").write_text('a,b\n"1\n1",2\n3,4,5\n')
    with pytest.raises(DataError, match=rf"f\.csv, row {row}: expected 2 fields, found 3 in '3,4,5'"):
        list(read(tmp_path / "f.csv", Dialect(has_header=has_header), 1 << 20, names=["a", "b"]))


def test_other_bytes_than_utf_8_are_one_sentence(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"a,b\n\xe9,1\n")
    with pytest.raises(NotUtf8Error, match=r"data\.encoding"):
        list(read(tmp_path / "f", Dialect(), 1 << 20, names=["a", "b"]))


def test_a_quote_that_is_never_closed_is_one_sentence(tmp_path: Path):
    (tmp_path / "f").write_text('a,b\n"1,2\n' + "3,4\n" * 1000)
    with pytest.raises(DataError, match="f"):
        list(read(tmp_path / "f", Dialect(), 512, names=["a", "b"]))
