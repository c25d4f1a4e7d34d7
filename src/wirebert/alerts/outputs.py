"""Where a monitor writes: targets as users name them, and which events go there in which format."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any, BinaryIO, Final, cast, final
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from wirebert.alerts.appended_file import AppendedFile
from wirebert.alerts.ecs import ECS_VERSION, EcsContext, ecs_events, ecs_incidents
from wirebert.alerts.incidents import IncidentEvent
from wirebert.alerts.sinks import RemoteSink, Sink
from wirebert.alerts.spool import SpooledSink
from wirebert.alerts.syslog import SyslogSettings, SyslogSink
from wirebert.errors import ConfigError
from wirebert.shapes import Bool

FORMATS: Final = ("verdicts", "ecs")
CONTENTS: Final = ("flows", "alerts", "incidents", "health")
_SCHEMES: Final = ("syslog+udp", "syslog+tcp", "syslog+tls", "kafka")
_RETRY_S: Final = 1.0
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """One `--to`: a place, the format of events, and which of them go there."""

    place: str
    """A file, `-`, or an address with one of `_SCHEMES`."""
    format: str
    contents: frozenset[str]

    @classmethod
    def parse(cls, text: str) -> "Target":
        """The target of `PLACE[,format=verdicts|ecs][,write=flows+alerts+incidents+health]`.

        Files and standard output get a verdict for every flow unless something else is said, syslog and Kafka
        get alerts, incidents and health in the Elastic Common Schema.

        Raises:
            ConfigError: it is none.

        >>> Target.parse("syslog+tcp://siem:601").contents == {"alerts", "incidents", "health"}
        True
        >>> Target.parse("out.jsonl,write=all")
        Traceback (most recent call last):
        wirebert.errors.ConfigError: --to out.jsonl,write=all: expected write= and some of flows, alerts, ...
        """
        words, given = text.split(","), dict[str, str]()
        while len(words) > 1 and words[-1].startswith(("format=", "write=")):
            key, _, value = words.pop().partition("=")
            given[key] = value
        place = ",".join(words)  # brokers have commas between them
        is_remote = "://" in place
        format_ = given.get("format", "ecs" if is_remote else "verdicts")
        contents = given.get("write", "alerts+incidents+health" if format_ == "ecs" else "flows").split("+")
        if format_ not in FORMATS:
            raise ConfigError(
                f"--to {text}: expected format= and one of {', '.join(FORMATS)}, got {format_!r}"
            )
        if not set(contents) <= set(CONTENTS):
            raise ConfigError(
                f"--to {text}: expected write= and some of {', '.join(CONTENTS)} with + between them, got "
                f"{given.get('write')!r}"
            )
        if is_remote and place.partition("://")[0] not in _SCHEMES:
            raise ConfigError(
                f"--to {text}: expected a file, -, or an address that begins with one of "
                f"{', '.join(f'{name}://' for name in _SCHEMES)}; log shippers carry events to other places"
            )
        return cls(place=place, format=format_, contents=frozenset(contents))

    @property
    def is_file(self) -> bool:
        """Whether events are appended to a file."""
        return self.place != "-" and "://" not in self.place

    @property
    def is_spooled(self) -> bool:
        """Whether events may have to wait on disk."""
        return "://" in self.place


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Verdict records of some flows, and what came of them."""

    records: pa.Table
    is_alert: Bool[np.ndarray, " flows"]
    """Alerts and unknown flows that no suppression hides."""
    incidents: Sequence[IncidentEvent]


@final
class Outputs:
    """All targets, with their sinks.

    Args:
        saved: name of a target -> where its output ended, as saved.
        spools: folder of what waits for remote targets; None: no target is remote.
        stop: ends waiting for a disk that is full.
        tell: called with a code and a sentence.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        saved: Mapping[str, Mapping[str, Any]],
        spools: Path | None,
        cap_bytes: int,
        stop: Event,
        tell: Callable[[str, str], None],
    ) -> None:
        self._targets, self._stop, self._tell = targets, stop, tell
        self.files: dict[str, AppendedFile] = {}
        self.spools: dict[str, SpooledSink] = {}
        self._sinks: list[Sink] = []
        for target in targets:
            place, end = target.place, saved.get(target.place)
            if target.is_spooled:
                assert spools is not None
                folder = spools / "".join(c if c.isalnum() else "_" for c in place)
                self.spools[place] = SpooledSink(place, folder, _remote(place), end, cap_bytes, tell)
                self._sinks.append(self.spools[place])
            elif target.is_file:
                self._sinks.append(self._open_file(place, end))
            else:
                self._sinks.append(_Stream(sys.stdout.buffer))
        for place, end in saved.items():  # rejected rows
            if spools is not None and Path(place).parent == spools and place not in self.files:
                self._open_file(place, end)

    def write(self, batch: Batch, context: EcsContext) -> None:
        """Write what each target gets of a batch; a full disk is waited for."""
        made: dict[tuple[str, str], list[bytes]] = {}
        alerts = batch.records.filter(pa.array(batch.is_alert))

        def events(format_: str, what: str) -> list[bytes]:
            if (format_, what) not in made:
                made[format_, what] = _events(format_, what, batch, alerts, context)
            return made[format_, what]

        for target, sink in zip(self._targets, self._sinks, strict=True):
            what = "flows" if "flows" in target.contents else "alerts"
            chosen = events(target.format, what) if what in target.contents else []
            if "incidents" in target.contents:
                chosen = chosen + events(target.format, "incidents")
            self._deliver(target.place, sink, chosen)

    def write_health(self, action: str, counts: Mapping[str, object]) -> None:
        """Write an event about the monitor itself."""
        for target, sink in zip(self._targets, self._sinks, strict=True):
            if "health" in target.contents or action == "test":
                self._deliver(target.place, sink, [health_event(target.format, action, counts)])

    def write_rejected(self, path: Path, rows: Sequence[bytes]) -> None:
        """Write rows without a verdict; their file appears with the first of them."""
        if (place := str(path)) not in self.files:
            self._open_file(place, None)
        self._deliver(place, self.files[place], rows)

    def ends(self) -> dict[str, Mapping[str, Any]]:
        """Where each output ends, after everything is on disk.

        Raises:
            OSError: it cannot be written to disk.
        """
        for one in (*self.files.values(), *self.spools.values()):
            one.flush()
        return {name: one.end for name, one in (*self.files.items(), *self.spools.items())}

    def follow_rotation(self) -> bool:
        """Go on in new files where others were renamed; call it after `ends` were saved."""
        return sum(file.follow_rotation() for file in self.files.values()) > 0

    def close(self) -> None:
        """Close every sink; what cannot be delivered stays in the spool."""
        for sink in {id(one): one for one in (*self._sinks, *self.files.values())}.values():
            sink.close()

    def _open_file(self, place: str, end: Mapping[str, Any] | None) -> AppendedFile:
        file = AppendedFile(Path(place), end, lambda sentence: self._tell("output_changed", sentence))
        self.files[place] = file
        return file

    def _deliver(self, place: str, sink: Sink, events: Sequence[bytes]) -> None:
        is_told = False
        while events and not (is_told and self._stop.is_set()):
            try:
                sink.write(events)
                break
            except BrokenPipeError:
                raise
            except OSError as error:
                if not is_told:
                    self._tell("sink_down", f"{place}: cannot be written ({error.strerror}); waiting")
                is_told = True
                self._stop.wait(_RETRY_S)
        else:
            if events:
                raise InterruptedError(f"{place}: was asked to end while it could not be written")
        if is_told:
            self._tell("sink_up", f"{place}: can be written again")


@final
class _Stream:
    """Standard output."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, events: Sequence[bytes]) -> None:
        self._stream.write(b"".join(event + b"\n" for event in events))
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


def health_event(format_: str, action: str, counts: Mapping[str, object]) -> bytes:
    """A heartbeat, or a test event."""
    if format_ == "verdicts":
        return _ENCODER.encode({"event": action, "time": time.time(), **counts})
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"kind": "metric", "dataset": "wirebert.monitor", "module": "wirebert", "action": action}
    return _ENCODER.encode(
        {"@timestamp": now, "ecs": {"version": ECS_VERSION}, "event": event, "wirebert": {"monitor": counts}}
    )


def _events(format_: str, what: str, batch: Batch, alerts: pa.Table, context: EcsContext) -> list[bytes]:
    if what == "incidents":
        if format_ == "ecs":
            return ecs_incidents(batch.incidents, context)
        return [_plain_incident(event) for event in batch.incidents]
    records = alerts if what == "alerts" else batch.records
    if format_ == "ecs":
        return ecs_events(records, context)
    return [_ENCODER.encode(record) for record in records.to_pylist()]


def _plain_incident(event: IncidentEvent) -> bytes:
    incident = asdict(event.incident)
    return _ENCODER.encode(
        {"event": f"incident_{event.kind}", "number": event.number, "reason": event.reason, **incident}
    )


def _remote(place: str) -> RemoteSink:
    """The sink of an address.

    Raises:
        ConfigError: it is not valid.
    """
    if place.startswith("kafka://"):
        from wirebert.alerts.kafka import KafkaPlace, KafkaSink

        return KafkaSink(KafkaPlace.parse(place))
    parts = urlsplit(place)
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = set(given) - {"ca", "facility"}
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0 or unknown:
        raise ConfigError(f"--to {place}: expected syslog+udp|tcp|tls://HOST:PORT?facility=NAME&ca=FILE")
    return SyslogSink(
        SyslogSettings(
            host=parts.hostname,
            port=port,
            transport=cast(Any, parts.scheme.removeprefix("syslog+")),
            ca=Path(given["ca"]) if "ca" in given else None,
            facility=given.get("facility", "local0"),
        )
    )
