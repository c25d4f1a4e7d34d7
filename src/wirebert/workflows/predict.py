"""`wirebert predict --follow`: score a growing log until Ctrl-C or a termination request."""

import argparse
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from wirebert.console import warn
from wirebert.inference.detector import Detector
from wirebert.inference.follow import follow


def follow_until_asked(detector: Detector, options: argparse.Namespace) -> None:
    """Follow the log that the options of `predict` name; at the end, every scored flow is saved."""
    stop = Event()
    with until_asked(stop.set):
        done = follow(
            detector,
            Path(options.data),
            options.out,
            stop,
            tell=warn,
            explained=options.explain,
        )
    warn(f"{done.num_flows:,} flows{f': {options.out}' if options.out else ''}")


@contextmanager
def until_asked(stop: Callable[[], None]) -> Generator[None]:
    """Within it, the first Ctrl-C or termination request calls `stop`; a second one ends at once."""

    def ask(number: int, _: object) -> None:
        stop()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
