"""Ending what reads on without an end: Ctrl-C, or a termination request."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""


@contextmanager
def until_asked(stop: Callable[[], None], on_hangup: Callable[[], None] | None = None) -> Generator[None]:
    """Within it, the first signal of `ENDING` calls `stop`; a second one ends at once.

    With `on_hangup`, SIGHUP calls that instead, each time.
    """

    def ask(number: int, _: object) -> None:
        if number == signal.SIGHUP and on_hangup is not None:
            on_hangup()
            return
        stop()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup
    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
