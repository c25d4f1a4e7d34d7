"""Verdict records to the parts of incidents: alerts of one key without a long gap, added up."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (Arrow arrays are generic in the type stubs alone, and they know no text literals as arguments.)

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import expm1
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.flow_columns import FlowColumns, flow_columns
from wirebert.alerts.grouping import GroupBy, group_keys, incident_ids, log_misses
from wirebert.data.arrow_columns import combine_chunks, to_texts
from wirebert.data.times import seconds_of
from wirebert.errors import ConfigError
from wirebert.shapes import Bool, Float64

MAX_DISTINCT: Final = 1_000
"""Distinct destinations, ports and sources kept of an incident; of more it is known that there are more."""
MAX_CLASSES: Final = 100
NUM_EXAMPLES: Final = 3
FOLDED: Final = "folded"
"""Key of the incident that stands for those beyond the limit per hour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class IncidentSettings:
    """How flows become incidents, and how many at most."""

    group_by: GroupBy = "source_and_class"
    """What the flows of an incident share."""
    gap_s: float = 300.0
    """Longest time between two flows of an incident, above 0; event time decides, not the clock."""
    late_s: float = 60.0
    """Flows this much behind the latest time seen are still put where they belong, at least 0."""
    min_score: float = 0.5
    """Joint score from which alerts are an incident, in [0, 1]; 0: always. Alerts without a score and
    unknown flows always are."""
    max_open: int = 10_000
    """Open incidents kept at most; beyond that the one that was quiet longest is closed. At least 1."""
    max_alerts_per_hour: int = 0
    """Incidents opened in an hour of event time; further ones are folded into one. 0: no limit."""
    opens_on_unknown: bool = False
    """Whether flows with the verdict `unknown` belong to incidents too."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ConfigError(f"incidents.min_score must be in [0, 1], got {self.min_score}")
        for name in ("gap_s", "max_open"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"incidents.{name} must be above 0, got {getattr(self, name)}")
        for name in ("late_s", "max_alerts_per_hour"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"incidents.{name} must be at least 0, got {getattr(self, name)}")


@dataclass(kw_only=True, slots=True)
class IncidentRecord:
    """The flows of an incident, added up; bounded, whatever their number."""

    key: str
    source: str
    incident_id: str
    first_s: float
    last_s: float
    num_flows: int = 0
    classes: dict[str, int] = field(default_factory=dict[str, int])
    """Class -> flows."""
    destinations: list[str] = field(default_factory=list[str])
    ports: list[int] = field(default_factory=list[int])
    sources: list[str] = field(default_factory=list[str])
    peak_score: float | None = None
    log_miss: float = 0.0
    """Sum of log(1 - score) over the flows."""
    evidence: list[str] = field(default_factory=list[str])
    examples: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    """The highest scores first."""
    num_events: int = 0
    num_told: int = 0
    """Flows in the last event."""
    severity_told: int = 0
    hour: int = 0
    """Hour of event time in which it was opened."""

    @property
    def class_name(self) -> str:
        """The class of most flows; of equally many the first by name."""
        return min(self.classes, key=lambda name: (-self.classes[name], name))

    @property
    def joint_score(self) -> float | None:
        """1 - the product of 1 - score over all flows; None where they have no scores."""
        return None if self.peak_score is None else -expm1(self.log_miss)

    def is_strong(self, min_score: float) -> bool:
        """Whether it is enough for an incident."""
        joint = self.joint_score
        return joint is None or joint >= min_score or "unknown" in self.classes

    def touches(self, other: "IncidentRecord", gap_s: float) -> bool:
        """Whether the flows of both are one incident."""
        return self.first_s - gap_s <= other.last_s and other.first_s <= self.last_s + gap_s

    def absorb(self, other: "IncidentRecord") -> None:
        """Add the flows of another record."""
        if other.peak_score is not None and (self.peak_score is None or other.peak_score > self.peak_score):
            self.peak_score = other.peak_score
            self.evidence = other.evidence or self.evidence
        self.evidence = self.evidence or other.evidence
        self.first_s, self.last_s = min(self.first_s, other.first_s), max(self.last_s, other.last_s)
        self.num_flows += other.num_flows
        self.log_miss += other.log_miss
        for name, count in other.classes.items():
            if name in self.classes or len(self.classes) < MAX_CLASSES:
                self.classes[name] = self.classes.get(name, 0) + count
        self.destinations = _united(self.destinations, other.destinations)
        self.ports = _united(self.ports, other.ports)
        self.sources = _united(self.sources, other.sources)
        ranked = sorted([*self.examples, *other.examples], key=lambda flow: -(flow["score"] or 0))
        self.examples = ranked[:NUM_EXAMPLES]


def _united(one: list[Any], other: list[Any]) -> list[Any]:
    return list(dict.fromkeys([*one, *other]))[:MAX_DISTINCT]


def event_times(
    records: pa.Table, watermark_s: float
) -> tuple[Float64[np.ndarray, " flows"], Float64[np.ndarray, " flows"]]:
    """The time of each flow, and the latest time up to it; a flow without a time has the latest."""
    name = flow_columns(records.column_names).time
    time_s = np.full(records.num_rows, np.nan) if name is None else seconds_of(records[name])
    latest_s = np.maximum(np.fmax.accumulate(np.where(np.isnan(time_s), -np.inf, time_s)), watermark_s)
    latest_s = np.where(np.isinf(latest_s), 0.0, latest_s)
    return np.where(np.isnan(time_s), latest_s, time_s), latest_s


def incident_records(
    records: pa.Table,
    time_s: Float64[np.ndarray, " flows"],
    settings: IncidentSettings,
    benign: str | None = None,
) -> Iterator[IncidentRecord]:
    """The alerts of the records, grouped and added up, by the time of their first flow."""
    rows = np.flatnonzero(_opens(records, settings))
    if not len(rows):
        return
    chosen = records.take(pa.array(rows, pa.int64()))
    columns = flow_columns(chosen.column_names)
    names = alert_classes(chosen, benign)
    sources = _texts(chosen, columns.source)
    keys = group_keys(sources, names, settings.group_by)
    time_s = time_s[rows]
    groups = incident_ids(keys, time_s, np.ones(len(rows), np.bool_), settings.gap_s)
    order = np.lexsort((np.arange(len(rows)), time_s, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    parts = np.split(order, starts[1:])
    parts.sort(key=lambda part: (time_s[part[0]], part[0]))
    table = AlertTable(chosen, columns, names, sources, time_s, _scores(chosen), _explained(chosen))
    for part, examples in zip(parts, table.examples(parts), strict=True):
        record = table.record(part, str(keys[int(part[0])]))
        record.examples = examples
        yield record


def _opens(records: pa.Table, settings: IncidentSettings) -> Bool[np.ndarray, " flows"]:
    """Whether each flow belongs to an incident; without verdicts none does."""
    if "verdict" not in records.column_names:
        return np.zeros(records.num_rows, np.bool_)
    kinds = ["alert", "unknown"] if settings.opens_on_unknown else ["alert"]
    return pc.is_in(records["verdict"], value_set=pa.array(kinds)).to_numpy()


def alert_classes(records: pa.Table, benign: str | None) -> pa.Array:
    """What each flow is alerted as: its most probable class other than `benign`; `unknown` where that is the
    verdict."""
    names = combine_chunks(records["predicted_class"])
    columns = [
        name
        for name in records.column_names
        if name.startswith("p_") and pa.types.is_floating(records.schema.field(name).type)
    ]
    columns = [name for name in columns if name != f"p_{benign}"]
    if benign is not None and columns and records.num_rows:
        likely = np.stack([records[name].to_numpy() for name in columns]).argmax(axis=0)
        attacks = pa.array([name[2:] for name in columns]).take(pa.array(likely, pa.int64()))
        names = pc.if_else(pc.equal(names, benign), attacks, names)
    if "verdict" not in records.column_names:
        return names
    is_unknown = combine_chunks(pc.equal(records["verdict"], "unknown"))
    return pc.if_else(is_unknown, "unknown", names)


def _texts(records: pa.Table, name: str | None) -> pa.Array:
    if name is None:
        return pa.repeat(pa.scalar("", pa.string()), records.num_rows)
    return to_texts(records[name]).fill_null("")


def _scores(records: pa.Table) -> Float64[np.ndarray, " flows"] | None:
    if "attack_score" not in records.column_names:
        return None
    return records["attack_score"].to_numpy().astype(np.float64)


def _explained(records: pa.Table) -> Bool[np.ndarray, " flows"]:
    if "explanation" not in records.column_names:
        return np.zeros(records.num_rows, np.bool_)
    return pc.greater(pc.list_value_length(records["explanation"]), 0).fill_null(False).to_numpy()


@dataclass(frozen=True, slots=True)
class AlertTable:
    """Alerts of a block of records, with what incidents need of them."""

    records: pa.Table
    columns: FlowColumns
    names: pa.Array
    sources: pa.Array
    time_s: Float64[np.ndarray, " flows"]
    scores: Float64[np.ndarray, " flows"] | None
    has_explanation: Bool[np.ndarray, " flows"]

    def examples(self, parts: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        """Of each part the flows with the highest scores, highest first."""
        c, scores = self.columns, self.scores
        ranked = [
            (part if scores is None else part[np.argsort(-scores[part], kind="stable")])[:NUM_EXAMPLES]
            for part in parts
        ]
        located = (c.time, c.uid, c.source, c.source_port, c.destination, c.destination_port)
        names = [name for name in (*located, "predicted_class", "community_id") if name is not None]
        rows = np.concatenate(ranked)
        some = self.records.select([name for name in names if name in self.records.column_names])
        flows = some.take(pa.array(rows, pa.int64())).to_pylist()
        for flow, row in zip(flows, rows, strict=True):
            flow["score"] = None if scores is None else float(scores[row])
        ends = np.cumsum([len(each) for each in ranked]).tolist()
        return [flows[end - len(each) : end] for each, end in zip(ranked, ends, strict=True)]

    @staticmethod
    def of(records: pa.Table, benign: str | None) -> "AlertTable":
        """All of these verdict records."""
        columns = flow_columns(records.column_names)
        time_s, _ = event_times(records, float("-inf"))
        names, sources = alert_classes(records, benign), _texts(records, columns.source)
        return AlertTable(records, columns, names, sources, time_s, _scores(records), _explained(records))

    def record(self, rows: np.ndarray, key: str) -> IncidentRecord:
        """The flows of these rows, in order of time, added up."""
        chosen = pa.array(rows, pa.int64())
        first = int(rows[0])
        uid = "" if self.columns.uid is None else str(self.records[self.columns.uid][first])
        first_s = float(self.time_s[first])
        name = "\x1f".join([key, uid, f"{first_s:.6f}"])
        ports = _some(self.records, self.columns.destination_port, chosen)
        source = str(self.sources[first])
        scores = None if self.scores is None else self.scores[rows]
        return IncidentRecord(
            key=key,
            source=source,
            incident_id=blake2b(name.encode(), digest_size=8).hexdigest(),
            first_s=first_s,
            last_s=float(self.time_s[rows[-1]]),
            num_flows=len(rows),
            classes=dict(Counter(self.names.take(chosen).to_pylist()).most_common(MAX_CLASSES)),
            destinations=_some(self.records, self.columns.destination, chosen),
            ports=[port for port in ports if isinstance(port, int)],
            sources=[source] if source else [],
            peak_score=None if scores is None else float(scores.max()),
            log_miss=0.0 if scores is None else float(log_misses(scores).sum()),
            evidence=self._evidence(rows),
            hour=int(first_s // 3_600),
        )

    def _evidence(self, rows: np.ndarray) -> list[str]:
        """Explanation of the flow with the highest score, of those that have one."""
        explained = rows[self.has_explanation[rows]]
        if not len(explained):
            return []
        row = explained[0 if self.scores is None else int(self.scores[explained].argmax())]
        return self.records["explanation"][int(row)].as_py()


def _some(records: pa.Table, name: str | None, rows: pa.Array) -> list[Any]:
    """Distinct values that are not missing, at most `MAX_DISTINCT`."""
    if name is None:
        return []
    values = records[name].take(rows)
    return [value for value in pc.unique(values).to_pylist() if value is not None][:MAX_DISTINCT]
