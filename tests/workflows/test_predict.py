import argparse
import os
import signal
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pyarrow as pa
import pytest

from wirebert.inference.detector import Detector
from wirebert.inference.follow_state import FollowProgress
from wirebert.workflows import predict as following
from wirebert.workflows.predict import VerdictCounts, follow_until_asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_once_and_the_next_one_is_as_before(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)

    def follow(detector: object, log: Path, out: Path | None, stop: Event, **_: object) -> FollowProgress:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        assert signal.getsignal(number) == before
        return FollowProgress(num_flows=3)

    monkeypatch.setattr(following, "follow", follow)
    options = argparse.Namespace(data="conn.log", out=None, explain=None, strict=False)
    detector = object.__new__(Detector)
    detector.artifact = SimpleNamespace(operating_point=None)  # pyright: ignore[reportAttributeAccessIssue]
    follow_until_asked(detector, options)
    assert signal.getsignal(number) == before
    assert capfd.readouterr().err == "wirebert: 3 flows\n"


def test_verdicts_are_counted_by_class_over_all_tables() -> None:
    counts = VerdictCounts()
    for classes, verdicts in (
        (["dos", "dos", "normal"], ["alert", "pass", "pass"]),
        (["normal"], ["unknown"]),
    ):
        counts.add(pa.table({"predicted_class": classes, "verdict": verdicts, "row": range(len(classes))}))
    table = counts.to_table()
    head = [str(column.header) for column in table.columns]
    rows = [
        [str(cell) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)
    ]
    assert head == ["predicted class", "flows", "alert", "unknown", "pass"]
    assert rows == [["dos", "2", "1", "0", "1"], ["normal", "2", "0", "1", "1"], ["all", "4", "1", "1", "2"]]


def test_without_a_threshold_there_are_classes_alone() -> None:
    counts = VerdictCounts()
    counts.add(pa.table({"predicted_class": ["[red]"]}))
    assert [str(column.header) for column in counts.to_table().columns] == ["predicted class", "flows"]
    assert [str(cell) for cell in counts.to_table().columns[0].cells] == ["[red]"]
