"""A log goes on under another model where the old one stopped; `tests/workflows/test_monitor.py` has more."""

from pathlib import Path
from typing import TYPE_CHECKING

from wirebert.data.accounting import RejectedRow
from wirebert.data.findings import Finding
from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import SourceProgress
from wirebert.inference.followed_log import FollowedLog, Scoring
from wirebert.inference.line_source import StreamedLines
from wirebert.inference.tail import Tail

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact

HEADER = "service,bytes,flags,src_ip\n"


def test_a_reload_between_two_pieces_loses_no_line(artifact: "Artifact", tmp_path: Path):
    detector, log = Detector(artifact), tmp_path / "flows.csv"
    log.write_text(HEADER + "http,1,SF,10.0.0.1\nhttp,2,S,10.0.0.1\n")
    scoring = Scoring(detector=detector, tell=[].extend, keep=lambda _: None)
    followed = FollowedLog(Tail(log), SourceProgress.fresh(detector.schema), scoring)
    rows = [row for table in followed.tables() for row in table.column("row").to_pylist()]
    with log.open("a") as file:
        file.write("dns,3,SF,10.0.0.2\n")
    other = followed.under(Detector(artifact))
    assert other.num_behind() == 18
    rows += [row for table in other.tables() for row in table.column("row").to_pylist()]
    assert rows == [0, 1, 2]
    assert other.num_behind() == 0
    other.close()


def test_a_log_without_rows_waits_with_what_it_has(artifact: "Artifact", tmp_path: Path):
    detector, log = Detector(artifact), tmp_path / "flows.csv"
    log.write_text(HEADER)
    scoring = Scoring(detector=detector, tell=[].extend, keep=lambda _: None)
    followed = FollowedLog(Tail(log), SourceProgress.fresh(detector.schema), scoring)
    assert list(followed.tables()) == []
    assert followed.num_behind() == 0, "a log that has only begun is no lag"
    followed = followed.under(detector)
    with log.open("a") as file:
        file.write("http,1,SF,10.0.0.1\n")
    assert [table.num_rows for table in followed.tables()] == [1]
    followed.close()


def test_messages_that_are_no_flows_are_set_aside_and_the_next_ones_are_scored(artifact: "Artifact"):
    detector, kept, told = Detector(artifact), list[RejectedRow](), list[Finding]()
    pieces = [b'{"other": 1}\n{"other": 2}\n', b'{"service": "http", "bytes": 1, "flags": "SF"}\n']
    lines = StreamedLines("flows[0]", lambda _: pieces.pop(0) if pieces else b"", lambda: len(pieces))
    lines.saved_position = {"offset": 0, "base": 0}
    scoring = Scoring(detector=detector, tell=told.extend, keep=kept.append)
    followed = FollowedLog(lines, SourceProgress.fresh(detector.schema), scoring)
    assert list(followed.tables()) == []
    assert [(row.line, row.text) for row in kept] == [(1, '{"other": 1}'), (2, '{"other": 2}')]
    assert [(one.code, one.count) for one in told] == [("rejected_rows", 2)]
    assert [table.num_rows for table in followed.tables()] == [1]
    followed.close()
