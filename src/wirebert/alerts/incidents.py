"""Alerts to incidents: flows of one source and class without a long gap are one thing to look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, final

import pyarrow as pa

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentSettings:
    """How flows become incidents, and how many at most."""

    group_by: Literal["source_and_class", "source"] = "source_and_class"
    """What the flows of an incident share."""
    gap_s: float = 300.0
    """Longest time between two flows of an incident, above 0; event time decides, not the clock."""
    late_s: float = 60.0
    """Flows this much behind the latest time seen are still put where they belong, at least 0."""
    max_open: int = 10_000
    """Open incidents kept at most; beyond that the one that was quiet longest is closed. At least 1."""
    max_alerts_per_hour: int = 0
    """Incidents opened in an hour of event time; further ones are folded into one. 0: no limit."""
    opens_on_unknown: bool = False
    """Whether flows with the verdict `unknown` belong to incidents too."""

    def __post_init__(self) -> None:
        for name, low in {"gap_s": 0.0, "max_open": 1}.items():
            value = getattr(self, name)
            if not value > 0 or value < low or value == float("inf"):
                raise ConfigError(f"incidents.{name} must be above 0, got {value}")
        for name in ("late_s", "max_alerts_per_hour"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"incidents.{name} must be at least 0, got {getattr(self, name)}")


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


@dataclass(kw_only=True, slots=True)
class IncidentCounts:
    """Totals since the start, kept over restarts."""

    opened: int = 0
    updated: int = 0
    closed: int = 0
    merged: int = 0
    flows: int = 0
    """Flows in incidents."""
    late: int = 0
    """Flows behind the bound `late_s`."""
    folded: int = 0
    """Incidents that were folded into one."""
    forced: int = 0
    """Closed early, since too many were open."""
    by_class: dict[str, int] = field(default_factory=dict[str, int])
    """Class -> incidents opened."""


@final
class IncidentTracker:
    """Keeps the open incidents of a stream of verdict records; memory is bounded by the settings."""

    def __init__(self, settings: IncidentSettings, techniques: AttackTechniques | None = None) -> None:
        self.settings = settings
        self.techniques = techniques or AttackTechniques.built_in()
        self.counts = IncidentCounts()
        self.watermark_s = float("-inf")
        """The latest event time seen."""

    @property
    def num_open(self) -> int:
        """Incidents that are open."""
        return 0

    def open_incidents(self) -> list[Incident]:
        """The open incidents, the most severe first, then the latest."""
        return []

    def add(self, records: pa.Table) -> list[IncidentEvent]:
        """Take verdict records (of any verdict: `pass` moves time on), and close what has become quiet."""
        return []

    def advance(self, event_time_s: float) -> list[IncidentEvent]:
        """Move event time on, where no flow does, and close what has become quiet."""
        return []

    def close_all(self) -> list[IncidentEvent]:
        """Close every open incident, as at the end of a file."""
        return []

    def state(self) -> dict[str, Any]:
        """All that a restart needs, as plain values for JSON."""
        return {}

    @classmethod
    def from_state(
        cls,
        settings: IncidentSettings,
        state: Mapping[str, Any],
        techniques: AttackTechniques | None = None,
    ) -> "IncidentTracker":
        """The tracker that `state` was taken of.

        Raises:
            ValueError: it is no such state.
        """
        return cls(settings, techniques)
