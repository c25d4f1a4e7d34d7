"""Unusual flows to what an analyst reads: groups of flows and hosts, ranked, each with a sentence of counts.

A flow has points: 1 at the alert threshold and 1 more for each factor of e in its odds, at most 10. A group
of n flows scores the mean of their points times 1 + ln(n). A host scores the same by its k highest points,
where k is n less the false alarms that the target FPR makes of all its flows: being busy is not unusual.
Flows just below the threshold (0 to 1 point) belong to a group of at least `FEW_FLOWS` above it, but add
nothing to its score.
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (Arrow arrays are generic in the type stubs alone, and they know no text literals as arguments.)

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.grouping import group_by_gap
from wirebert.alerts.incident_records import MAX_DISTINCT, AlertTable
from wirebert.alerts.incidents import Incident, incident_of
from wirebert.data.arrow_columns import dictionary_encode, to_texts
from wirebert.plurals import counted
from wirebert.shapes import Bool, Float64, Int64

MAX_POINTS: Final = 10.0
FEW_FLOWS: Final = 3
"""A source with fewer unusual flows may be one of many that act together."""
MANY_SOURCES: Final = 5
"""Such sources at one destination that are one group."""
NUM_EXPLAINED: Final = 5
"""Flows of a group that its reasons are taken from."""
MANY: Final = 10
"""Hosts or ports that are worth a count."""
STEADY: Final = 0.35
"""Largest variation (standard deviation over mean) of the gaps of a group that has a period."""
FAILED: Final = ("S0", "REJ", "RSTOS0", "RSTRH", "SH", "SHR")
"""Connection states without an exchange."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """A feature that speaks against a flow, and what it is in the nearest normal flow."""

    feature: str
    what: str
    """The feature in words."""
    value: str
    normal: str
    """About its value in the nearest normal flow; empty where the model keeps none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A group of flows."""

    incident: Incident
    score: float
    what: str
    """What they do, in numbers."""
    num_above: int
    """Flows above the threshold; 0: they are just the least usual ones."""
    rows: tuple[int, ...]
    """The flows with the most points, as rows of the records."""
    reasons: tuple[Reason, ...] = ()
    """Of that flow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SuspectHost:
    """A source of unusual flows."""

    source: str
    """Empty where the flows have no source."""
    score: float
    num_unusual: int
    num_flows: int
    num_destinations: int
    num_ports: int


def rank_hosts(
    records: pa.Table, points: Float64[np.ndarray, " flows"], num_flows: Mapping[str, int], target_fpr: float
) -> list[SuspectHost]:
    """The sources of these unusual flows, the highest score first; `num_flows` counts all flows of each."""
    alerts = AlertTable.of(records, None)
    encoded = dictionary_encode(alerts.sources)
    codes, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    order = np.lexsort((-points, codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    hosts: list[SuspectHost] = []
    for rows in np.split(order, starts[1:]) if len(order) else []:
        name = str(names[codes[rows[0]]])
        total = max(num_flows.get(name, 0), len(rows))
        counted = max(1, round(len(rows) - target_fpr * total))
        hosts.append(
            SuspectHost(
                source=name,
                score=_score(points[rows[:counted]]),
                num_unusual=len(rows),
                num_flows=total,
                num_destinations=len(_values(alerts, alerts.columns.destination, rows)),
                num_ports=len(_values(alerts, alerts.columns.destination_port, rows)),
            )
        )
    return sorted(hosts, key=lambda host: (-host.score, host.source))


def _score(points: Float64[np.ndarray, " flows"]) -> float:
    return float(points.clip(max=MAX_POINTS).mean() * (1 + np.log(len(points))))


def find_suspects(
    records: pa.Table,
    points: Float64[np.ndarray, " flows"],
    num_most: int,
    *,
    gap_s: float,
    benign: str | None,
    techniques: AttackTechniques,
) -> list[Suspect]:
    """The groups with the highest scores, at most `num_most`; of all flows if none is above the threshold."""
    alerts = AlertTable.of(records, benign)
    is_above = points >= 1 if (points >= 1).any() else np.ones(len(points), np.bool_)
    keys, is_shared = _keys(alerts, is_above)
    groups = group_by_gap(keys, alerts.time_s, gap_s)
    num_above = np.bincount(groups, is_above)
    sums = np.bincount(groups, np.where(is_above, points, 0).clip(max=MAX_POINTS))
    scores = np.where(num_above, sums / num_above.clip(1) * (1 + np.log(num_above.clip(1))), -np.inf)
    order = np.lexsort((alerts.time_s, groups))
    parts = np.split(order, np.cumsum(np.bincount(groups))[:-1])
    suspects: list[Suspect] = []
    for group in np.argsort(-scores, kind="stable")[: min(num_most, int((num_above > 0).sum()))]:
        rows = parts[int(group)]
        if num_above[group] < FEW_FLOWS:
            rows = rows[is_above[rows]]
        record = alerts.record(rows, str(keys[rows[0]]))
        (record.examples,) = alerts.examples([rows])
        if is_shared[rows[0]]:
            sources = pc.unique(alerts.sources.take(pa.array(rows))).to_pylist()
            record.source, record.sources = "", [str(source) for source in sources[:MAX_DISTINCT]]
        suspects.append(
            Suspect(
                incident=incident_of(record, techniques),
                score=float(scores[group]),
                what=describe(alerts, rows),
                num_above=int((points[rows] >= 1).sum()),
                rows=tuple(rows[np.argsort(-points[rows], kind="stable")[:NUM_EXPLAINED]].tolist()),
            )
        )
    return suspects


def _keys(
    alerts: AlertTable, is_above: Bool[np.ndarray, " flows"]
) -> tuple[Int64[np.ndarray, " flows"], Bool[np.ndarray, " flows"]]:
    """What the flows of a group share: the source, or the destination of many sources with few flows each.

    Flows without any source share their class. The second array says where it is the destination.
    """
    own = alerts.sources if alerts.columns.source is not None else alerts.names
    sources = dictionary_encode(own).indices.to_numpy().astype(np.int64)
    if alerts.columns.source is None or alerts.columns.destination is None:
        return sources, np.zeros(len(sources), np.bool_)
    texts = to_texts(alerts.records[alerts.columns.destination]).fill_null("")
    destinations = dictionary_encode(texts).indices.to_numpy().astype(np.int64)
    is_few = (np.bincount(sources, is_above)[sources] < FEW_FLOWS) & is_above
    pairs = np.unique(np.stack([destinations[is_few], sources[is_few]]), axis=1)
    num_sources = np.bincount(pairs[0], minlength=int(destinations.max(initial=0)) + 1)
    is_shared = is_few & (num_sources[destinations] >= MANY_SOURCES)
    return np.where(is_shared, int(sources.max(initial=0)) + 1 + destinations, sources), is_shared


def describe(alerts: AlertTable, rows: Int64[np.ndarray, " rows"]) -> str:
    """What these flows do: how many hosts and ports, in what time, at what period, how many in vain."""
    columns, num_flows = alerts.columns, len(rows)
    hosts, ports = (_values(alerts, name, rows) for name in (columns.destination, columns.destination_port))
    to = f"{hosts[0]}" if len(hosts) == 1 else f"{len(hosts):,} hosts" if hosts else "unknown hosts"
    port = f" port {ports[0]}" if len(ports) == 1 else f", {len(ports):,} ports" if ports else ""
    if len(ports) >= MANY and len(hosts) < MANY:
        text = f"{len(ports):,} ports of {to}"
    elif len(hosts) >= MANY:
        text = to + (port if len(ports) == 1 else f" at {len(ports):,} ports" if ports else "")
    else:
        text = f"{counted(num_flows, 'flow')} to {to}{port}"
    span_s = float(alerts.time_s[rows[-1]] - alerts.time_s[rows[0]])
    gaps_s = np.diff(alerts.time_s[rows])
    is_one_channel = len(hosts) == 1 and len(ports) <= 1 and span_s >= num_flows >= 6
    is_steady = is_one_channel and gaps_s.std() < STEADY * gaps_s.mean()
    if is_steady:
        text += f", every {seconds_text(float(gaps_s.mean()))} (± {gaps_s.std() / gaps_s.mean():.0%})"
    elif num_flows > 1 and columns.time is not None:
        text += f" in {seconds_text(span_s)}"
    failed = _num_failed(alerts, rows)
    return text + (f"; {failed:,} of {num_flows:,} refused or unanswered" if failed else "")


def _num_failed(alerts: AlertTable, rows: Int64[np.ndarray, " rows"]) -> int:
    if "conn_state" in alerts.records.column_names:
        states = alerts.records["conn_state"].take(pa.array(rows))
        return pc.sum(pc.is_in(states, value_set=pa.array(FAILED))).as_py() or 0
    name = alerts.columns.destination_packets
    if name is None:
        return 0
    return pc.sum(pc.equal(alerts.records[name].take(pa.array(rows)), 0)).as_py() or 0


def _values(alerts: AlertTable, name: str | None, rows: Int64[np.ndarray, " rows"]) -> list[Any]:
    if name is None:
        return []
    return pc.unique(alerts.records[name].take(pa.array(rows))).drop_null().to_pylist()


def seconds_text(seconds: float) -> str:
    """A time span for people.

    >>> seconds_text(3.21), seconds_text(250.0), seconds_text(9_000.0)
    ('3.2 s', '4 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"
