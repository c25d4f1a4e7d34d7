from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from wirebert.data.dialect import read_head
from wirebert.data.readers import arrow
from wirebert.data.readers.arrow import ArrowTable, open_arrow
from wirebert.errors import DataError

TABLE = pa.table({"n": list(range(5000)), "proto": ["tcp", "udp"] * 2500, "flag": [True, None] * 2500})


def source_of(path: Path) -> ArrowTable:
    head, compression = read_head(path)
    source = open_arrow(path, head, compression, path.name)
    assert isinstance(source, ArrowTable)
    return source


def write(path: Path, how: str) -> Path:
    if how == "stream":
        with pa.ipc.new_stream(str(path), TABLE.schema) as stream:
            stream.write_table(TABLE)
    elif how == "file":
        with pa.ipc.new_file(str(path), TABLE.schema) as file:
            file.write_table(TABLE, max_chunksize=3000)
    else:
        feather.write_feather(TABLE, path, version=2)
    return path


@pytest.mark.parametrize("how", ["file", "stream", "2"])
def test_all_layouts_give_the_same_rows(tmp_path: Path, how: str):
    source = source_of(write(tmp_path / "t", how))
    assert source.names == ("n", "proto", "flag")
    blocks = list(source.read(8192))
    assert max(block.num_rows for block in blocks) <= 1024
    rows = pa.concat_tables(blocks)
    assert rows["n"].to_pylist() == TABLE["n"].to_pylist()
    assert rows["flag"].to_pylist()[:2] == ["1", None]


def test_damaged_and_packed_files_are_one_sentence(tmp_path: Path):
    path = write(tmp_path / "t", "file")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="damaged"):
        source_of(path)
    with pytest.raises(DataError, match="found it inside gzip"):
        open_arrow(path, b"ARROW1", "gzip", "t")
    assert open_arrow(path, b"a,b\n", "none", "t") is None


def declaring(path: Path, table: pa.Table, compression: str | None = None) -> Path:
    with pa.ipc.new_stream(
        str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as stream:
        stream.write_table(table)
    return path


def test_rows_that_hold_nothing_are_refused_before_memory_is_taken(tmp_path: Path):
    path = declaring(tmp_path / "t", pa.table({"a": pa.nulls((1 << 31) - 1)}))
    assert path.stat().st_size < 1000
    with pytest.raises(DataError, match=r"2,147,483,647 rows in 0 bytes, which hold nothing"):
        source_of(path)


def test_a_batch_that_unfolds_to_more_than_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = declaring(tmp_path / "t", pa.table({"a": [0] * 100_000}), "zstd")
    monkeypatch.setattr(arrow, "MAX_BATCH_BYTES", 799_999)
    assert path.stat().st_size < 2000
    with pytest.raises(DataError, match=r"at most 799,999 bytes, found one of 800,0"):
        source_of(path)
    monkeypatch.setattr(arrow, "MAX_BATCH_BYTES", 900_000)
    assert sum(block.num_rows for block in source_of(path).read(1 << 20)) == 100_000


def test_a_long_value_of_a_dictionary_is_not_spelled_out_for_each_row(tmp_path: Path):
    codes = pa.array([0] * 5000, pa.int32())
    path = declaring(
        tmp_path / "t", pa.table({"a": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 2_000_000]))})
    )
    blocks = list(source_of(path).read(1 << 16))
    assert [block["a"].type for block in blocks] == [pa.dictionary(pa.int32(), pa.string())] * len(blocks)
    assert sum(block.num_rows for block in blocks) == 5000
    assert max(block.num_rows for block in blocks) <= 1024
    assert len(blocks[0]["a"][0].as_py()) == 8192
