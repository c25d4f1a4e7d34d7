"""`wirebert predict --follow`: score a growing log until Ctrl-C or a termination request."""

import argparse
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Final

from wirebert.console import warn
from wirebert.data.findings import Finding
from wirebert.inference.detector import Detector
from wirebert.inference.follow import follow
from wirebert.workflows.findings import require_no_warnings, tell

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""


def follow_until_asked(detector: Detector, options: argparse.Namespace) -> None:
    """Follow the log that the options of `predict` name; at the end, every scored flow is saved."""
    stop = Event()
    told: list[Finding] = []

    def hear(findings: Iterable[Finding]) -> None:
        new = list(findings)
        told.extend(new)
        tell(new)

    operating = detector.artifact.operating_point
    hear(operating.findings(options.fpr) if operating else ())
    with until_asked(stop.set):
        done = follow(
            detector,
            Path(options.data),
            options.out,
            stop,
            tell=hear,
            explained=options.explain,
        )
    warn(f"{done.num_flows:,} flows{f': {options.out}' if options.out else ''}")
    require_no_warnings(told, strict=options.strict)


@contextmanager
def until_asked(stop: Callable[[], None]) -> Generator[None]:
    """Within it, the first signal of `ENDING` calls `stop`; a second one ends at once."""

    def ask(number: int, _: object) -> None:
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
