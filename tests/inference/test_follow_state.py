from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError
from wirebert.inference.follow_state import MonitorState, SourceProgress, read_state, write_state

SCHEMA = FlowSchema(name="flows", columns=())
PROGRESS = SourceProgress(
    position={"inode": 1, "offset": 2}, num_flows=5, identity="x", encoding="utf-8", header="a,b\n"
)


def test_a_state_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / "monitor.state"
    assert read_state(path, SCHEMA) == MonitorState()
    state = MonitorState(
        sources={"a": PROGRESS, "b": replace(PROGRESS, position=None)},
        outputs={"out": {"inode": 1, "num_bytes": 2}},
        incidents={"open": []},
    )
    write_state(path, state)
    assert read_state(path, SCHEMA) == state


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"{}"])
def test_a_damaged_state_is_one_sentence(tmp_path: Path, content: bytes):
    path = tmp_path / "monitor.state"
    path.write_bytes(content)
    with pytest.raises(DataError, match="expected the state that `wirebert monitor` keeps"):
        read_state(path, SCHEMA)
