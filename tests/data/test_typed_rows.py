from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.typed_rows import (
    ROWS,
    TypedRowsWriter,
    free_bytes,
    read_index,
    read_typed_rows,
    restore,
)
from wirebert.errors import DataError


def written(
    folder: Path, blocks: Sequence[pa.Table], fingerprint: str = "abc", invalid: InvalidValues | None = None
) -> Path:
    with TypedRowsWriter(folder.with_name("partial")) as writer:
        for block in blocks:
            writer.write(block)
        writer.finish(folder, fingerprint, invalid or InvalidValues())
    return folder


def test_typed_rows_are_read_as_they_were_written_dictionaries_included(traffic: Path, tmp_path: Path):
    blocks = list(open_flows(traffic / "train.csv", DataConfig(block_mb=1)).blocks())
    halves = [half for block in blocks for half in (block.slice(0, 700), block.slice(700))]
    read = list(read_typed_rows(written(tmp_path / "rows", halves)))
    assert len(read) == len(halves) > 1
    for ours, theirs in zip(read, halves, strict=True):
        assert ours.schema == theirs.schema
        assert ours.equals(theirs)
        for column, original in zip(ours.columns, theirs.columns, strict=True):
            chunk, source = column.chunk(0), original.chunk(0)
            if isinstance(chunk, pa.DictionaryArray):
                assert isinstance(source, pa.DictionaryArray)
                assert chunk.dictionary.equals(source.dictionary)
                assert chunk.indices.equals(source.indices)


def test_blocks_may_differ_in_columns_and_types_and_may_have_no_rows(tmp_path: Path):
    blocks = [
        pa.table({"a": [1.0, None], "b": ["x", "y"]}),
        pa.table({"a": [2.0], "b": ["z"]}),
        pa.table({"a": [3.0]}),
        pa.table({"a": pa.array(["p", "p"]).dictionary_encode()}),
        pa.table({"a": pa.array([], pa.float64())}),
    ]
    read = list(read_typed_rows(written(tmp_path / "rows", blocks)))
    assert [table.schema for table in read] == [table.schema for table in blocks]
    assert [table.to_pydict() for table in read] == [table.to_pydict() for table in blocks]


def test_a_column_of_several_chunks_becomes_one(tmp_path: Path):
    block = pa.table({"a": pa.chunked_array([[1.0], [2.0, 3.0]])})
    (read,) = read_typed_rows(written(tmp_path / "rows", [block]))
    assert read.column("a").num_chunks == 1
    assert read.equals(block)


def test_the_account_of_the_parsing_comes_back(tmp_path: Path):
    invalid = InvalidValues(num_rows=9, markers={"a": {"-": 2}}, padded={"b": {" x": 1}})
    invalid.add("a", ["one"], [3], 1)
    invalid.lines = ParseStats(num_lines=11, num_rows=9)
    invalid.lines.reject(4, "two fields", "1,2")
    invalid.lines.add_footer(11, "one field", "total")
    index = read_index(written(tmp_path / "rows", [], "digest", invalid))
    assert index is not None
    again = InvalidValues()
    restore(again, index[1])
    assert (index[0], again) == ("digest", invalid)


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path):
    def stopped() -> None:
        with TypedRowsWriter(tmp_path / "partial") as writer:
            writer.write(pa.table({"a": [1.0]}))
            assert (tmp_path / "partial").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "gone", "index"])
def test_rows_that_are_not_whole_are_not_found(tmp_path: Path, damage: str):
    folder = written(tmp_path / "rows", [pa.table({"a": [1.0, 2.0]})])
    assert read_index(folder) is not None
    path = folder / ROWS
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "gone":
            path.unlink()
        case _:
            (folder / "index.json").write_text("{")
    assert read_index(folder) is None


def test_damaged_rows_are_refused_with_their_folder(tmp_path: Path):
    folder = written(tmp_path / "rows", [pa.table({"a": [1.0, 2.0]})])
    (folder / ROWS).write_bytes(b"\xff" * 400)
    with pytest.raises(DataError, match=f"delete the folder {folder}"):
        list(read_typed_rows(folder))


def test_free_space_is_that_of_the_disk_on_which_the_folder_will_be(tmp_path: Path):
    assert free_bytes(tmp_path / "not" / "there") > 0
