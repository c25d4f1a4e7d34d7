"""`Sink`: where events go. Files, syslog and others satisfy it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Sink(Protocol):
    """Takes events, each one line without its end. What cannot be delivered now is an `OSError`."""

    def write(self, events: Sequence[bytes]) -> None:
        """Deliver the events, in order; when it returns, the sink has them all.

        Raises:
            OSError: some may not have been delivered; the caller gives all of them again, later.
        """
        ...

    def close(self) -> None:
        """Release what the sink holds; nothing is pending."""
        ...


@runtime_checkable
class RemoteSink(Sink, Protocol):
    """A sink that may hold what it took for a while, so that `write` alone proves nothing."""

    def confirm(self) -> None:
        """Return when the receiver has read everything that was written.

        Raises:
            OSError: it may not have; the caller gives all of it since the last time again, later.
        """
        ...
