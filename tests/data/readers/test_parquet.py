import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wirebert.data.arrow_columns import dictionary_encode
from wirebert.data.readers.parquet import plain, read_parquet, read_parquet_names
from wirebert.errors import DataError


def test_numbers_stay_numbers_and_all_else_becomes_text(tmp_path: Path):
    table = pa.table(
        {
            "n": pa.array([1, None], pa.int16()),
            "x": pa.array([0.5, 2.0], pa.float32()),
            "b": [True, None],
            "s": pa.array(["tcp", "udp"]).dictionary_encode(),
            "t": [datetime.datetime(2024, 1, 2, 3, 4, 5), None],
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    assert read_parquet_names(tmp_path / "f.parquet") == (("n", "x", "b", "s", "t"), 2)
    (block,) = read_parquet(tmp_path / "f.parquet", 1 << 20, names=("n", "x", "b", "s", "t"))
    assert block["n"].to_pylist() == [1, None]
    assert block["x"].to_pylist() == [0.5, 2.0]
    assert block["b"].to_pylist() == ["1", None]
    assert block["s"].to_pylist() == ["tcp", "udp"]
    assert block["t"].to_pylist() == ["2024-01-02T03:04:05.000000", None]


def test_rows_come_in_order_in_bounded_blocks(tmp_path: Path):
    pq.write_table(pa.table({"n": range(10_000)}), tmp_path / "f.parquet")
    blocks = list(read_parquet(tmp_path / "f.parquet", 8_192, names=("n",)))
    assert max(block.num_rows for block in blocks) <= 2_048
    assert [n for block in blocks for n in block["n"].to_pylist()] == list(range(10_000))


def test_structures_and_lists_become_columns_as_those_of_json_lines(tmp_path: Path):
    rows = [{"a": {"b": {"c": 1}, "d": "x"}, "n": [1, 2], "m": [{"k": 1}]}, {"a": None, "n": None, "m": []}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "f.parquet")
    names, num_rows = read_parquet_names(tmp_path / "f.parquet")
    assert (names, num_rows) == (("a.b.c", "a.d", "n", "m"), 2)
    (block,) = read_parquet(tmp_path / "f.parquet", 1 << 20, names=names)
    assert block.to_pylist() == [
        {"a.b.c": 1, "a.d": "x", "n": "1,2", "m": 1},
        {"a.b.c": None, "a.d": None, "n": None, "m": 0},
    ]


def test_damaged_files_are_one_sentence(tmp_path: Path):
    bad_text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xad"))
    pq.write_table(pa.table({"n": bad_text}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match=r"expected Parquet data, found it damaged .* copy or download"):
        list(read_parquet(tmp_path / "f.parquet", 1 << 20, names=("n",)))
    (tmp_path / "f.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="damaged"):
        read_parquet_names(tmp_path / "f.parquet")


def test_a_long_value_in_many_rows_takes_the_memory_of_one(tmp_path: Path):
    path = tmp_path / "t.parquet"
    codes = pa.array([0] * 3000, pa.int32())
    pq.write_table(pa.table({"a": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 1_000_000]))}), path)
    before = pa.total_allocated_bytes()
    blocks = read_parquet(path, 1 << 16, names=("a",))
    first = next(blocks)
    assert pa.total_allocated_bytes() - before < 50_000_000  # spelled out: 3 GB
    assert first["a"][0].as_py() == "x" * 8192
    assert first.num_rows + sum(block.num_rows for block in blocks) == 3000


def test_a_block_has_no_values_of_the_blocks_before_it(tmp_path: Path):
    texts = [None if row % 7 == 3 else f"flow {row}" for row in range(20_000)]
    pq.write_table(pa.table({"uid": texts}), tmp_path / "flows.parquet")
    blocks = list(read_parquet(tmp_path / "flows.parquet", 50_000, names=("uid",)))
    assert len(blocks) > 3
    assert all(len(dictionary_encode(block["uid"]).dictionary) <= block.num_rows for block in blocks)
    assert [text for block in blocks for text in block["uid"].to_pylist()] == texts


def test_lengths_of_time_and_views_of_text_are_text():
    lengths = pa.chunked_array([pa.array([1500, None], pa.duration("ms"))])
    assert plain(lengths, "x", Path("f")).to_pylist() == ["1500ms", None]
    views = pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["tcp", "udp"], pa.string_view()))
    assert plain(pa.chunked_array([views]), "x", Path("f")).to_pylist() == ["udp", "tcp"]


def test_only_wanted_columns_and_row_groups_are_read(tmp_path: Path):
    path = tmp_path / "flows.parquet"
    table = pa.table(
        {"a": [1, 2, 3, 4], "s": [{"x": n, "y": -n} for n in range(4)], "b": ["u", "v", "w", "z"]}
    )
    pq.write_table(table, path, row_group_size=2)
    names = ("A", "X", "Y", "B")
    whole = pa.concat_tables(read_parquet(path, 1 << 20, names=names))
    for wanted in ({"A"}, {"Y", "B"}, {"B", "none"}):
        some = pa.concat_tables(read_parquet(path, 1 << 20, names=names, wanted=wanted))
        assert some.equals(whole.select([name for name in names if name in wanted]))
    second = pa.concat_tables(read_parquet(path, 1 << 20, names=names, row_groups=range(1, 2)))
    assert second.to_pylist() == whole.slice(2).to_pylist()


def test_a_file_that_was_cut_is_told_with_the_way_out(tmp_path: Path):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"bytes": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"expected Parquet data, found it damaged .* copy or download"):
        read_parquet_names(path)


def test_a_block_has_the_values_of_its_own_rows_alone(tmp_path: Path):
    """Batches of a row group share a dictionary; each block would convert and encode the values of all."""
    texts = [f"/page/{row}" + "x" * 200 for row in range(6000)]
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"uri": texts, "kind": ["a", None] * 3000}), path)
    blocks = list(read_parquet(path, 1 << 20, names=("uri", "kind")))
    assert len(blocks) > 1
    for block in blocks:
        assert len(dictionary_encode(block["uri"]).dictionary) == block.num_rows
        assert dictionary_encode(block["kind"]).dictionary.to_pylist() == ["a"]
    assert [text for block in blocks for text in block["uri"].to_pylist()] == texts
    assert [kind for block in blocks for kind in block["kind"].to_pylist()] == ["a", None] * 3000
