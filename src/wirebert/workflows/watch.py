"""Follow a training run in another process, or show one that is over: `wirebert watch`."""

import time
from collections.abc import Callable, Mapping
from typing import Final, final

from rich.console import Console

from wirebert.console import say
from wirebert.run_folder import RunFolder, is_at_work
from wirebert.telemetry.events import EndEvent, Event, MetricsFollower, StartEvent
from wirebert.telemetry.screen import display, is_live, show_still
from wirebert.telemetry.state import DashboardState

SECONDS_BETWEEN_LOOKS: Final = 0.5
QUIET_S: Final = 3.0
"""Seconds without a line before checking that the training still runs; it writes a line every second."""

HINT: Final = "Ctrl-C leaves; the training continues"


@final
class RunMonitor:
    """Follows the events of one run."""

    def __init__(self, folder: RunFolder) -> None:
        self.has_ended = False
        """Whether the training has ended."""

        self._folder = folder
        self._follower = MetricsFollower(folder.metrics)
        self._last_s = 0.0

    def news(self) -> list[tuple[Event, float]]:
        """Events since the last call, with their times in seconds since 1970."""
        events = self._follower.new_events()
        for event, self._last_s in events:
            if isinstance(event, EndEvent | StartEvent):
                self.has_ended = isinstance(event, EndEvent)
        return events

    def is_over(self) -> bool:
        """Whether no more events will come."""
        return self.has_ended or (time.time() - self._last_s > QUIET_S and not is_at_work(self._folder))


def watch_run(
    folder: RunFolder,
    console: Console,
    environment: Mapping[str, str],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the training in `folder` until it ends; if it is over, show its last state."""
    monitor = RunMonitor(folder)
    events = monitor.news()
    title = str(folder.path)
    if monitor.is_over() and is_live(console, environment):
        show_still(console, DashboardState.of(events, title=title, hint=""))
    else:
        with display(console, environment, title=title, hint=HINT) as screen:
            while True:
                for event, time_s in events:
                    screen.receive_at(event, time_s)
                if monitor.is_over():
                    break
                sleep(SECONDS_BETWEEN_LOOKS)
                events = monitor.news()
    if not monitor.has_ended:
        say(
            console, f"{title}: this training was interrupted; `wirebert train --resume {title}` continues it"
        )
