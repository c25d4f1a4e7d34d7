import os
import signal
from threading import Event

import pytest

from wirebert.workflows.predict import until_asked


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_once_and_the_next_one_is_as_before(number: signal.Signals) -> None:
    before, stop = signal.getsignal(number), Event()
    with until_asked(stop.set):
        os.kill(os.getpid(), number)
        assert stop.wait(10)
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_hangups_ask_for_something_else_each_time() -> None:
    stop, hangups = Event(), list[int]()
    before = signal.getsignal(signal.SIGHUP)
    with until_asked(stop.set, lambda: hangups.append(1)):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
    assert (len(hangups), stop.is_set()) == (2, False)
    assert signal.getsignal(signal.SIGHUP) == before
