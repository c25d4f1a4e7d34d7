"""`SensorLog` and `SensorFormat`: what a sensor format provides. The list of formats is
`sensors/formats.py`."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from wirebert.data.dialect import Compression
from wirebert.data.readers.source import Source
from wirebert.data.sensors.canonical import SensorTable


@runtime_checkable
class SensorLog(Source, Protocol):
    """A log of a sensor, read as canonical columns."""

    @property
    def raw_names(self) -> tuple[str, ...]:
        """The columns of the file if it can also be read as a plain table; else none."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SensorFormat:
    """One sensor format: how to recognise, open and follow its logs."""

    name: str
    open_log: Callable[[Path, bytes, Compression, str], SensorLog | None]
    """Path, first bytes, compression, name in messages -> the log; None for a file of another format."""
    table: Callable[[], SensorTable]
    """The names and values of the format in canonical ones."""
    can_be_followed: bool
    """Each flow is one line, so the log can be scored while it grows."""
    is_joined_file: Callable[[Path, Collection[Path]], bool] | None = None
    """Whether a file is read together with another of these files, and has no flows itself; None: never."""
    computed_from_joined: Mapping[str, str] = field(default_factory=dict)
    """Column computed from other logs or events that is not in `table().joined` -> that log or event."""
    suffixes: tuple[str, ...] = ()
    """More file name suffixes, besides those of text, JSON and log files."""

    @property
    def joined_columns(self) -> dict[str, str]:
        """Column -> the other log or event than the line of the flow that it comes from."""
        logs = reversed(list(self.table().joined.items()))  # a column that several logs give is of the first
        joined = {name: log for log, columns in logs for name in columns}
        return {**joined, **self.computed_from_joined}
