import argparse
import os
import signal
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

from wirebert.inference.detector import Detector
from wirebert.inference.follow import FollowProgress
from wirebert.workflows import predict as following
from wirebert.workflows.predict import follow_until_asked


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
