"""Names that stand above a table, not in its first row."""

from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.errors import DataError

PLAIN = Path(__file__).parent / "names-in-preamble" / "plain.arff"


def test_the_names_of_arff_are_its_attributes():
    flows = open_flows(PLAIN)
    assert flows.described == "ARFF"
    assert flows.schema.names == ("proto", "dport", "duration", "packets", "bytes", "class")
    assert flows.require_label() == "class"
    rows = pa.concat_tables(flows.blocks())
    assert (rows.num_rows, rows["duration"].null_count) == (80, 9)


def test_attributes_and_values_may_be_quoted(tmp_path: Path):
    rows = [f"'{proto} x', {n}, {n / 7}, benign" for n, proto in enumerate(["a", "it\\'s", "?"] * 10)]
    text = "% c\n@RELATION 'r'\n@ATTRIBUTE 'the proto' {a,b}\n@attribute\tn\tnumeric\n@attribute d real\n"
    text += '@attribute "class" {benign}\n\n@DATA\n' + "\n".join(rows) + "\n% end\n"
    (tmp_path / "f.arff").write_text(text)
    table = pa.concat_tables(open_flows(tmp_path / "f.arff").blocks())
    assert table.column_names == ["the proto", "n", "d", "class"]
    assert table["the proto"].to_pylist()[:3] == ["a x", "it's x", "? x"]
    assert [float(str(n)) for n in table["n"].to_pylist()] == list(range(30))


def test_sparse_arff_is_one_sentence(tmp_path: Path):
    (tmp_path / "f.arff").write_text("@relation r\n@attribute a real\n@data\n{0 1}\n")
    with pytest.raises(DataError, match="found sparse ARFF"):
        open_flows(tmp_path / "f.arff")


def test_names_in_a_comment_are_those_of_the_columns(tmp_path: Path):
    rows = "".join(f"2023-11-14\t22:13:{n:02}\t{100 + n}\tGET\n" for n in range(30))
    (tmp_path / "f.log").write_text(f"#Version: 1.0\n#Fields: date time sc-bytes cs-method\n{rows}")
    flows = open_flows(tmp_path / "f.log")
    assert flows.parts[0].names == ("date", "time", "sc-bytes", "cs-method")
    assert sum(block.num_rows for block in flows.blocks()) == 30
