from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError
from wirebert.inference.follow_state import FollowProgress, read_progress, state_path, write_progress
from wirebert.inference.tail import Position

SCHEMA = FlowSchema(name="flows", columns=())
PROGRESS = FollowProgress(
    position=Position(1, 2, 3, "ab", 4, ("x", "y")),
    num_flows=5,
    num_out_bytes=6,
    num_rejected_bytes=7,
    encoding="utf-8",
    header="a,b\n",
)


def test_progress_is_read_as_it_was_written(tmp_path: Path):
    out = tmp_path / "v.jsonl"
    out.write_bytes(b"x" * 6)
    assert read_progress(out, SCHEMA) == FollowProgress()
    for progress in (PROGRESS, replace(PROGRESS, position=None)):
        write_progress(out, progress)
        assert read_progress(out, SCHEMA) == progress


def test_verdicts_that_are_shorter_than_the_state_says_are_refused(tmp_path: Path):
    out = tmp_path / "v.jsonl"
    out.write_bytes(b"x" * 5)
    write_progress(out, PROGRESS)
    with pytest.raises(DataError, match="at least the 6 bytes"):
        read_progress(out, SCHEMA)


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"{}"])
def test_a_damaged_state_is_one_sentence(tmp_path: Path, content: bytes):
    out = tmp_path / "v.jsonl"
    state_path(out).write_bytes(content)
    with pytest.raises(DataError, match="expected the state that --follow keeps"):
        read_progress(out, SCHEMA)
