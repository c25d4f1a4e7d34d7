import json
from pathlib import Path

import pytest

from wirebert.data.accounting import RejectedRow
from wirebert.errors import DataError
from wirebert.inference.rejected_rows import rejected_path, rejected_rows_file

ROW = RejectedRow(3, "expected 2 fields, found 1", "caf\udce9", "flows.csv")


def test_a_file_of_rejected_rows_is_there_only_if_there_are_any(tmp_path: Path):
    out = tmp_path / "v.csv"
    with rejected_rows_file(out):
        pass
    assert not list(tmp_path.iterdir())
    with rejected_rows_file(out) as keep:
        keep(ROW)
    assert json.loads(rejected_path(out).read_text()) == {
        "file": "flows.csv",
        "line": 3,
        "reason": "expected 2 fields, found 1",
        "text": "caf?",
    }
    with pytest.raises(DataError, match="exists and is kept"), rejected_rows_file(out):
        raise AssertionError("opened")
