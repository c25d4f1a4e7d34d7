from pathlib import Path

from wirebert.data.dialect import read_head
from wirebert.data.formats import open_source
from wirebert.data.readers.source import Source


def test_json_lines_are_a_source_without_canonical_schema(tmp_path: Path):
    path = tmp_path / "flows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b": "x"}\n')
    head, compression = read_head(path)
    source = open_source(path, head, compression, "flows.jsonl", 1 << 20)
    assert isinstance(source, Source)
    assert (source.format, source.names, source.schema) == ("json_lines", ("a", "b"), None)
    assert sum(table.num_rows for table in source.read(1 << 20)) == 2
