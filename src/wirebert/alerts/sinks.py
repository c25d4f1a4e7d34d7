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
