from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pytest

from wirebert.data.dialect import read_head
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
