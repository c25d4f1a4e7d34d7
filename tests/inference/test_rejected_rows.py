import json
from pathlib import Path

import pytest

from wirebert.data.accounting import RejectedRow
from wirebert.errors import DataError
from wirebert.inference.rejected_rows import RejectedRows, rejected_path, rejected_rows_file

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


def test_what_is_behind_the_saved_state_is_written_again(tmp_path: Path):
    out = tmp_path / "v.jsonl"
    rows = RejectedRows(out, 0)
    rows(ROW)
    saved = rows.num_bytes
    rows(ROW)
    rows.close()
    again = RejectedRows(out, saved)
    again(RejectedRow(9, "reason", "text"))
    again.close()
    assert [json.loads(line)["line"] for line in rejected_path(out).read_text().splitlines()] == [3, 9]


def test_rejected_rows_are_not_written_through_a_link(tmp_path: Path):
    out = tmp_path / "v.jsonl"
    (tmp_path / "mine").write_text("mine")
    rejected_path(out).symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="cannot be written"):
        RejectedRows(out, 0)
    assert (tmp_path / "mine").read_text() == "mine"


def test_without_a_file_of_verdicts_nothing_is_written(tmp_path: Path):
    rows = RejectedRows(None, 0)
    rows(ROW)
    rows.close()
    assert not list(tmp_path.iterdir())
