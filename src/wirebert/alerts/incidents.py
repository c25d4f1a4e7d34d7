"""Alerts to incidents: flows of one source and class without a long gap are one thing to look at."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, final

import pyarrow as pa

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.incident_records import (
    FOLDED,
    MAX_DISTINCT,
    IncidentRecord,
    IncidentSettings,
    event_times,
    incident_records,
)
from wirebert.serialization import from_builtins, to_builtins

_HOUR_S: Final = 3_600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """What is known of an incident at a moment."""

    incident_id: str
    """Stable: the same after a restart."""
    source: str
    """Address that the flows share; empty where they share none, or the log has no addresses."""
    class_name: str
    """Predicted class of most flows, or `unknown`."""
    severity: int
    """0 to 100, see `attack_techniques.SEVERITIES`."""
    first_s: float
    """Time of the first flow in seconds since 1970, or since the start of the sensor's clock."""
    last_s: float
    num_flows: int
    num_destinations: int
    """Distinct addresses; `has_more_destinations`: at least so many."""
    num_ports: int
    """Distinct destination ports; `has_more_ports`: at least so many."""
    has_more_destinations: bool = False
    has_more_ports: bool = False
    num_sources: int = 1
    """Above 1 only where incidents were folded into one: at least so many."""
    is_folded: bool = False
    """Stands for incidents beyond `max_alerts_per_hour`."""
    peak_score: float | None = None
    """Highest alert score of a flow."""
    joint_score: float | None = None
    """1 - the product of 1 - score over all flows: as if these were independent."""
    evidence: tuple[str, ...] = ()
    """Explanation of the flow with the highest score, where explanations were requested."""
    examples: tuple[Mapping[str, Any], ...] = ()
    """The three flows with the highest scores: their locating columns, class and score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentEvent:
    """An incident was opened, has grown, or is closed."""

    kind: Literal["opened", "updated", "closed"]
    incident: Incident
    number: int
    """Events of this incident so far, from 1: with the incident's id it names the event."""
    reason: str = ""
    """Why it was closed, if not by the gap: `merged into ID`, `too many open`, `stopped`."""


@final
class IncidentTracker:
    """Keeps the open incidents of a stream of verdict records; memory is bounded by the settings.

    Flows that come at most `late_s` late give the same incidents in any order and any blocks. An alert on a
    flow whose most probable class is `benign` counts as its most probable attack.
    """

    def __init__(
        self,
        settings: IncidentSettings,
        techniques: AttackTechniques | None = None,
        *,
        benign: str | None = None,
    ) -> None:
        self.settings, self.benign = settings, benign
        self.techniques = techniques or AttackTechniques.built_in()
        self.opened: Counter[str] = Counter()
        """Class -> incidents opened since the start, kept over restarts."""
        self.watermark_s = float("-inf")
        """The event time: the latest one seen, of several sources that of the one furthest behind."""
        self._latest: dict[str, float] = {}
        """Source of records -> the latest event time seen in it."""
        self._open: dict[str, list[IncidentRecord]] = {}
        self._opened_in: dict[int, int] = {}
        """Hour of event time -> incidents opened in it."""

    @property
    def num_open(self) -> int:
        """Incidents that are open."""
        return sum(record.num_events > 0 for record in self._records())

    @property
    def is_empty(self) -> bool:
        """Whether nothing would be closed by time."""
        return not self._open

    def add(self, records: pa.Table, origin: str = "", behind: Collection[str] = ()) -> list[IncidentEvent]:
        """Take verdict records (of any verdict: `pass` moves time on), and close what has become quiet.

        Args:
            origin: the log that they are from.
            behind: other logs whose flows are still to come; time does not pass what was seen in them.
        """
        if not records.num_rows:
            return []
        begun = float("-inf") if self._latest else self.watermark_s
        time_s, latest_s = event_times(records, self._latest.get(origin, begun))
        events: list[IncidentEvent] = []
        for record in incident_records(records, time_s, self.settings, self.benign):
            events += self._take(record)
        self._latest[origin] = float(latest_s[-1])
        held_s = [self._latest[name] for name in (origin, *behind) if name in self._latest]
        return events + self._go_to(min(held_s))

    def advance(self, event_time_s: float) -> list[IncidentEvent]:
        """Move event time on, where no flow does, and close what has become quiet."""
        self._latest = {name: max(seen_s, event_time_s) for name, seen_s in self._latest.items()}
        return self._go_to(max(self.watermark_s, event_time_s))

    def _go_to(self, event_time_s: float) -> list[IncidentEvent]:
        """Take this for the event time, and close what has become quiet."""
        self.watermark_s = event_time_s
        horizon_s = self.watermark_s - self.settings.gap_s - self.settings.late_s
        records = self._records()
        quiet = [one for one in records if one.last_s < horizon_s]
        closed = [(one, "") for one in quiet]
        excess = len(records) - len(quiet) - self.settings.max_open
        if excess > 0:
            closed += [(one, "too many open") for one in records[len(quiet) : len(quiet) + excess]]
        events = [event for one, reason in closed for event in self._close(one, reason)]
        hour = (horizon_s - self.settings.gap_s) // _HOUR_S
        self._opened_in = {at: count for at, count in self._opened_in.items() if at >= hour}
        return events

    def close_all(self) -> list[IncidentEvent]:
        """Close every open incident, as at the end of a file."""
        return [event for record in self._records() for event in self._close(record, "stopped")]

    def _records(self) -> list[IncidentRecord]:
        """All that may still grow, those that were quiet longest first."""
        return sorted((one for some in self._open.values() for one in some), key=lambda one: one.last_s)

    def _take(self, record: IncidentRecord) -> list[IncidentEvent]:
        """Add flows that belong together to the incidents that they touch, or open one."""
        touched = [one for one in self._open.get(record.key, ()) if one.touches(record, self.settings.gap_s)]
        if touched:
            first = min(touched, key=lambda one: (one.first_s, one.incident_id))
            first.absorb(record)
            events: list[IncidentEvent] = []
            for other in touched:
                if other is not first:
                    first.absorb(other)
                    events += self._close(other, f"merged into {first.incident_id}")
            return events + self._update(first)
        self._open.setdefault(record.key, []).append(record)
        return self._update(record)

    def _start(self, record: IncidentRecord) -> list[IncidentEvent]:
        """Open an incident, or fold it into the one of its hour."""
        hour = int(record.first_s // _HOUR_S)
        limit = self.settings.max_alerts_per_hour
        if limit and self._opened_in.get(hour, 0) >= limit:
            self._remove(record)
            record.key = FOLDED
            folded = next((one for one in self._open.get(FOLDED, ()) if one.hour == hour), None)
            if folded is not None:
                folded.absorb(record)
                return self._update(folded)
            self._open.setdefault(FOLDED, []).append(record)
        else:
            self._opened_in[hour] = self._opened_in.get(hour, 0) + 1
        self.opened[record.class_name] += 1
        return [self._event("opened", record)]

    def _update(self, record: IncidentRecord) -> list[IncidentEvent]:
        """Tell that an incident began or grew: when its flows have doubled, or it became more severe."""
        if not record.num_events:
            return self._start(record) if record.is_strong(self.settings.min_score) else []
        severity = incident_of(record, self.techniques).severity
        if record.num_flows < 2 * record.num_told and severity <= record.severity_told:
            return []
        return [self._event("updated", record)]

    def _close(self, record: IncidentRecord, reason: str) -> list[IncidentEvent]:
        self._remove(record)
        return [self._event("closed", record, reason)] if record.num_events else []

    def _remove(self, record: IncidentRecord) -> None:
        records = self._open[record.key]
        records.remove(record)
        if not records:
            del self._open[record.key]

    def _event(
        self, kind: Literal["opened", "updated", "closed"], record: IncidentRecord, reason: str = ""
    ) -> IncidentEvent:
        incident = incident_of(record, self.techniques)
        record.num_told, record.severity_told = record.num_flows, incident.severity
        record.num_events += 1
        return IncidentEvent(kind=kind, incident=incident, number=record.num_events, reason=reason)

    def state(self) -> dict[str, Any]:
        """All that a restart needs, as plain values for JSON."""
        return cast(
            dict[str, Any],
            to_builtins(
                {
                    "watermark_s": self.watermark_s,
                    "latest": self._latest,
                    "opened": self.opened,
                    "opened_in": list(self._opened_in.items()),
                    "open": self._records(),
                }
            ),
        )

    @classmethod
    def from_state(
        cls,
        settings: IncidentSettings,
        state: Mapping[str, Any],
        techniques: AttackTechniques | None = None,
        *,
        benign: str | None = None,
    ) -> "IncidentTracker":
        """The tracker that `state` was taken of.

        Raises:
            TypeError: it is no such state.
        """
        tracker = cls(settings, techniques, benign=benign)
        saved = from_builtins(_State, state)
        tracker.opened, tracker._opened_in = Counter(saved.opened), dict(saved.opened_in)
        tracker._latest = dict(saved.latest)
        if saved.watermark_s is not None:
            tracker.watermark_s = saved.watermark_s
        for record in saved.open:
            tracker._open.setdefault(record.key, []).append(record)
        return tracker


def incident_of(record: IncidentRecord, techniques: AttackTechniques) -> Incident:
    """The record as it is now, in plain values."""
    class_name = record.class_name
    severities = [techniques.of(name).severity_number for name in record.classes]
    return Incident(
        incident_id=record.incident_id,
        source=record.source if record.key != FOLDED else "",
        class_name=class_name,
        severity=max(severities),
        first_s=record.first_s,
        last_s=record.last_s,
        num_flows=record.num_flows,
        num_destinations=len(record.destinations),
        num_ports=len(record.ports),
        has_more_destinations=len(record.destinations) >= MAX_DISTINCT,
        has_more_ports=len(record.ports) >= MAX_DISTINCT,
        num_sources=max(1, len(record.sources)),
        is_folded=record.key == FOLDED,
        peak_score=record.peak_score,
        joint_score=record.joint_score,
        evidence=tuple(record.evidence),
        examples=tuple(record.examples),
    )


@dataclass(kw_only=True, slots=True)
class _State:
    """What `state` writes."""

    opened_in: list[tuple[int, int]]
    open: list[IncidentRecord]
    opened: dict[str, int] = field(default_factory=dict[str, int])
    latest: dict[str, float] = field(default_factory=dict[str, float])
    watermark_s: float | None = None
    """None before the first flow: JSON has no infinity."""
