import io
from pathlib import Path

import pytest
from rich.console import Console

from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import open_flows
from wirebert.data.progress import progress_bar, reading_bar


def test_blocks_pass_unchanged_and_a_terminal_sees_rows():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert list(progress_bar([[1, 2], [3]], "reading", len, total=3, console=terminal)) == [[1, 2], [3]]
    assert isinstance(terminal.file, io.StringIO)
    assert "3 rows" in terminal.file.getvalue()


def test_nothing_is_written_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]):
    assert list(progress_bar([[1]], "reading", len)) == [[1]]
    assert capfd.readouterr() == ("", "")


def test_traffic_is_profiled_alike_under_a_bar(tmp_path: Path):
    (tmp_path / "f.csv").write_text("dur,proto,label\n" + "1,tcp,benign\n2,udp,scan\n" * 20)
    flows = open_flows(tmp_path / "f.csv")
    seen = profile_table(flows)
    watched = profile_table(flows, lambda invalid: reading_bar(flows.blocks(invalid)))
    assert (watched.num_rows, watched.label_counts, watched.columns) == (
        seen.num_rows,
        seen.label_counts,
        seen.columns,
    )
