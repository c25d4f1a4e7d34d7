import time
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import read_head
from wirebert.data.readers import json_lines
from wirebert.data.readers.json_lines import JsonLines, open_json_lines
from wirebert.errors import DataError


def source_of(path: Path, block_bytes: int = 1 << 20) -> JsonLines:
    head, compression = read_head(path)
    source = open_json_lines(path, head, compression, path.name, block_bytes)
    assert isinstance(source, JsonLines)
    return source


def test_structures_lists_and_truth_values_become_plain_columns(tmp_path: Path):
    (tmp_path / "f").write_text(
        '{"n":1,"ok":true,"in":{"x":{"y":2}},"tags":["a","b"],"when":"2024-01-02T03:04:05","none":null,"many":[{"a":1}]}\n'
        '{"n":2.5,"extra":"late"}\n'
    )
    source = source_of(tmp_path / "f")
    first, second = pa.concat_tables(source.read(1 << 20)).to_pylist()
    said = {name: value for name, value in first.items() if value is not None}
    assert said == {
        "n": 1.0,
        "ok": "1",
        "in.x.y": 2,
        "tags": "a,b",
        "when": "2024-01-02T03:04:05",
        "many": 1,
    }
    assert (second["n"], second["extra"]) == (2.5, "late")


def test_a_field_met_late_is_a_column_of_all_blocks(tmp_path: Path):
    lines = [f'{{"n":{i}}}' for i in range(100)] + ['{"n":100,"late":"x"}']
    (tmp_path / "f").write_text("\n".join(lines))
    source = source_of(tmp_path / "f", block_bytes=64)
    blocks = list(source.read(64))
    assert len(blocks) > 1
    assert all(block.column_names == ["n", "late"] for block in blocks)
    assert [n for block in blocks for n in block["n"].to_pylist()] == list(range(101))


def test_a_field_in_a_structure_and_its_dotted_name_are_one_column(tmp_path: Path):
    (tmp_path / "f").write_text('{"a":{"b":1}}\n{"a.b":2}\n')
    assert pa.concat_tables(source_of(tmp_path / "f").read(1 << 20)).to_pylist() == [{"a.b": 1}, {"a.b": 2}]


def test_a_record_of_too_many_fields_is_set_aside_and_the_others_are_read(tmp_path: Path):
    wide = "{" + ",".join(f'"k{i}":1' for i in range(2_001)) + "}\n"
    (tmp_path / "f").write_text('{"a":1}\n' + wide + '{"a":2,"b":{"c":"x"}}\n')
    source, stats = source_of(tmp_path / "f"), ParseStats()
    assert source.names == ("a", "b.c")
    (table,) = source.read(1 << 20, stats)
    assert table.to_pylist() == [{"a": 1, "b.c": None}, {"a": 2, "b.c": "x"}]
    assert [(row.line, row.reason) for row in stats.examples] == [
        (2, "with it there would be more than 2,000 different fields")
    ]


def test_a_file_of_such_records_alone_is_one_sentence(tmp_path: Path):
    (tmp_path / "f").write_text("{" + ",".join(f'"k{i}":1' for i in range(2_001)) + "}\n")
    with pytest.raises(DataError, match="more than 2,000 different fields"):
        source_of(tmp_path / "f")


def test_one_wide_line_among_many_short_ones_takes_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(json_lines, "MAX_CELLS", 1 << 20)
    wide = "{" + ",".join(f'"k{i}":1' for i in range(1_999)) + "}\n"
    (tmp_path / "f").write_text(wide + '{"k":{}}\n' * 5_000)
    before = pa.total_allocated_bytes()
    source, most, num_rows = source_of(tmp_path / "f"), 0, 0
    for table in source.read(1 << 23):
        num_rows += table.num_rows
        most = max(most, pa.total_allocated_bytes() - before)
    assert num_rows == 5_001
    assert most < 1 << 25  # all at once would be 80 MB


def test_structures_of_many_different_fields_take_bounded_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(json_lines, "MAX_NESTED", 3_000)
    inner = ",".join(f'"i{i}":1' for i in range(300))
    nested = "".join(f'{{"o{outer}":{{{inner}}}}}\n' for outer in range(100))
    (tmp_path / "f").write_text(nested + '{"a":1}\n')
    source, stats, since = source_of(tmp_path / "f"), ParseStats(), time.process_time()
    assert sum(table.num_rows for table in source.read(1 << 23, stats)) == 7
    assert stats.num_rejected == 94
    assert time.process_time() - since < 5


def test_other_files_are_no_json_lines(tmp_path: Path):
    for head in (b"a,b\n", b"[1,2]\n", b""):
        assert open_json_lines(tmp_path / "f", head, "none", "f", 1 << 20) is None


def test_names_that_hold_escapes_are_counted_too(tmp_path: Path):
    path = tmp_path / "f.jsonl"
    path.write_text("".join(f'{{"a\\\\{number}": 1}}\n' for number in range(2500)))
    assert len(source_of(path).names) == 2000


def test_fields_are_counted_over_all_blocks_and_both_passes_agree(tmp_path: Path):
    path, stats = tmp_path / "f.jsonl", ParseStats()
    path.write_text("".join(f'{{"a{number}": 1}}\n' for number in range(2500)) + '{"a7": 2}\n')
    source = open_json_lines(path, b"{", "none", "f.jsonl", 4096)
    assert source is not None
    assert source.names == tuple(f"a{number}" for number in range(2000))
    assert sum(table.num_rows for table in source.read(4096, stats)) == stats.num_rows == 2001
    assert stats.num_rejected == 500
    assert stats.num_lines == 2501
