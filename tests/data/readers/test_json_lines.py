from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.dialect import read_head
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


def test_names_that_are_values_are_one_sentence(tmp_path: Path):
    (tmp_path / "f").write_text("{" + ",".join(f'"k{i}":1' for i in range(2_001)) + "}\n")
    with pytest.raises(DataError, match="at most 2,000 different fields"):
        source_of(tmp_path / "f")


def test_other_files_are_no_json_lines(tmp_path: Path):
    for head in (b"a,b\n", b"[1,2]\n", b""):
        assert open_json_lines(tmp_path / "f", head, "none", "f", 1 << 20) is None


def test_names_that_hold_escapes_are_counted_too(tmp_path: Path):
    path = tmp_path / "f.jsonl"
    path.write_text("".join(f'{{"a\\\\{number}": 1}}\n' for number in range(2500)))
    with pytest.raises(DataError, match=r"at most 2,000 different fields, found 2,500"):
        open_json_lines(path, b"{", "none", "f.jsonl", 1 << 20)


def test_fields_are_counted_over_all_blocks(tmp_path: Path):
    path = tmp_path / "f.jsonl"
    path.write_text("".join(f'{{"a{number}": 1}}\n' for number in range(2500)))
    with pytest.raises(DataError, match=r"at most 2,000 different fields, found 2,"):
        open_json_lines(path, b"{", "none", "f.jsonl", 4096)
