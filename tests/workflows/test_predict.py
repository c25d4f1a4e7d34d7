import os
import signal
from collections.abc import Generator
from io import StringIO
from threading import Event

import pyarrow as pa
import pytest
from rich.console import Console

from wirebert.workflows.predict import VerdictCounts, until_asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_once_and_the_next_one_is_as_before(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), Event()
    with until_asked(stop.set):
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


@pytest.fixture
def on_hangup(request: pytest.FixtureRequest) -> Generator[None]:
    """What SIGHUP does before the test; the tests themselves may run under nohup."""
    before = signal.signal(signal.SIGHUP, request.param)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("on_hangup", [signal.SIG_DFL], indirect=True)
@pytest.mark.usefixtures("on_hangup")
def test_hangups_ask_for_something_else_each_time() -> None:
    stop, hangups = Event(), list[int]()
    with until_asked(stop.set, lambda: hangups.append(1)):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
    assert (len(hangups), stop.is_set()) == (2, False)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


@pytest.mark.parametrize("on_hangup", [signal.SIG_IGN], indirect=True)
@pytest.mark.usefixtures("on_hangup")
def test_under_nohup_a_hangup_asks_for_nothing() -> None:
    stop = Event()
    with until_asked(stop.set):
        os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.is_set()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


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


def test_counts_on_a_terminal_bring_no_escapes_beside_verdicts() -> None:
    counts, shown = VerdictCounts(), StringIO()
    counts.add(pa.table({"predicted_class": ["dos", "normal"], "verdict": ["alert", "pass"]}))
    Console(file=shown, force_terminal=True, color_system="truecolor", highlight=False).print(
        counts.to_table()
    )
    assert "dos" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()
