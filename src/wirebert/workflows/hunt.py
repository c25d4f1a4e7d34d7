"""`wirebert hunt`: unusual hosts and flows of logs without labels, ranked, grouped and explained."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.flow_columns import flow_columns
from wirebert.alerts.suspects import (
    Reason,
    Suspect,
    SuspectHost,
    find_suspects,
    rank_hosts,
    seconds_text,
)
from wirebert.data.arrow_columns import to_texts
from wirebert.data.schema.schema import ColumnKind
from wirebert.decision.alert_score import log_odds
from wirebert.decision.novelty import Neighbours, NoveltyScorer
from wirebert.encoding.matrix import extract_features
from wirebert.errors import ConfigError
from wirebert.inference.detector import Detector
from wirebert.plurals import counted
from wirebert.run_folder import BUILT_IN, MANIFEST, model_folder
from wirebert.shapes import Bool, Float64
from wirebert.workflows.hunt_terminal import print_hunt

MAX_KEPT: Final = 500_000
"""Unusual flows that are grouped, those with the most points; others are counted."""
NUM_REASONS: Final = 3
CLEARLY: Final = 3.0
"""Nats below the threshold from which on a kept flow is an example of normal traffic."""
_WINDOW = re.compile(r"(.+)_(\d+)s")
_WORDS: Final[Mapping[str, str]] = {
    "ctx_src_flows": "flows of the source in {}",
    "ctx_src_dst_hosts": "hosts the source reached in {}",
    "ctx_src_dst_ports": "ports the source reached in {}",
    "ctx_src_failed_share": "share of the source's flows that failed in {}",
    "ctx_src_sent_bytes": "bytes the source sent in {}",
    "ctx_src_received_bytes": "bytes the source received in {}",
    "ctx_dst_flows": "flows to the destination in {}",
    "ctx_dst_src_hosts": "hosts that reached the destination in {}",
    "ctx_channel_gap_s": "seconds since the same ends talked",
    "ctx_channel_gap_variation": "variation of the gaps between the same ends",
    "ctx_channel_size_variation": "variation of the sizes between the same ends",
    "dst_port": "port",
    "conn_state": "connection state",
    "duration_s": "duration in seconds",
    "src_packets": "packets sent",
    "dst_packets": "packets received",
    "src_ip_bytes": "bytes sent, with headers",
    "dst_ip_bytes": "bytes received, with headers",
    "src_payload_bytes": "bytes of content sent",
    "dst_payload_bytes": "bytes of content received",
    "tcp_flags": "TCP flags",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Hunt:
    """What was found."""

    hosts: tuple[SuspectHost, ...]
    """The highest score first."""
    suspects: tuple[Suspect, ...]
    """Groups of flows, the highest score first; without any above the threshold, the least usual flows."""
    num_flows: int
    num_unusual: int
    """Flows above the threshold."""
    num_hosts: int
    """Sources of these."""
    threshold: float | None
    """Of the alert score; None: the model has none."""


def hunt(
    detector: Detector,
    tables: Iterable[pa.Table],
    num_most: int,
    *,
    gap_s: float,
    techniques: AttackTechniques,
) -> Hunt:
    """Rank what is unusual in tables of verdicts that carry all features (`carried` of `predict_blocks`).

    Raises:
        ConfigError: no class of the model is benign.
    """
    if detector.artifact.classes.benign is None:
        raise ConfigError(
            "hunt: expected a model with a benign class, found none; train one with --benign LABEL"
        )
    seen = _Seen(detector, num_most)
    for table in tables:
        seen.add(table)
    records, points = seen.records()
    operating = detector.artifact.operating_point
    deployed = None if operating is None else operating.deployed
    benign = detector.artifact.classes.benign
    gap_s = gap_s if seen.num_unusual else 0.0  # single flows
    suspects = (
        find_suspects(records, points, num_most, gap_s=gap_s, benign=benign, techniques=techniques)
        if records.num_rows
        else []
    )
    above = np.flatnonzero(points >= 1) if seen.num_unusual else np.empty(0, np.int64)
    hosts = rank_hosts(
        records.take(pa.array(above)),
        points[above],
        seen.num_flows_of,
        0.0 if deployed is None else deployed.target_fpr,
    )
    return Hunt(
        hosts=tuple(hosts[:num_most]),
        suspects=tuple(_explained(detector, records, suspects)),
        num_flows=seen.num_flows,
        num_unusual=seen.num_unusual,
        num_hosts=len(hosts),
        threshold=detector.threshold,
    )


def model_and_logs(places: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    """The model folder and the logs: the first place is a model if there is one in it, else that in the box.

    Raises:
        ConfigError: there is a model, but no log.
    """
    first = model_folder(Path(places[0]))
    if first != BUILT_IN and not (first / MANIFEST).is_file():
        return BUILT_IN, tuple(places)
    if len(places) == 1:
        raise ConfigError(
            f"hunt: {places[0]} is a model, found no log after it; give one, as in `wirebert hunt "
            f"{places[0]} conn.log`"
        )
    return first, tuple(places[1:])


def show(found: Hunt, console: Console) -> None:
    """Print what was found."""
    flows = counted(found.num_flows, "flow")
    if found.num_unusual:
        hosts = counted(found.num_hosts, "host")
        lines = [f"{flows}, {found.num_unusual:,} above the threshold, of {hosts}"]
    elif found.threshold is None:
        lines = [f"{flows}; the model has no threshold. The least usual are:"]
    else:
        lines = [f"{flows}, nothing above the threshold. The least usual are:"]
    print_hunt(console, found.hosts, found.suspects, summary=lines)


@final
class _Seen:
    """Collects unusual flows and, while there are none, the least usual ones."""

    def __init__(self, detector: Detector, num_most: int) -> None:
        self._detector, self._num_most = detector, num_most
        self._kept: list[tuple[pa.Table, Float64[np.ndarray, " flows"]]] = []
        self._num_kept = 0
        self.num_flows = self.num_unusual = 0
        self.num_flows_of: Counter[str] = Counter()
        """Source -> its flows."""

    def add(self, table: pa.Table) -> None:
        """Take verdicts."""
        points = self._points(table)
        is_unusual = points >= 1 if self._detector.threshold is not None else np.zeros(len(points), np.bool_)
        self.num_flows += len(points)
        self.num_unusual += int(is_unusual.sum())
        source = flow_columns(table.column_names).source
        if source is not None:
            counted = pc.value_counts(to_texts(table[source]).fill_null(""))
            values, counts = counted.field("values").to_pylist(), counted.field("counts").to_pylist()
            for name, count in zip(values, counts, strict=True):
                self.num_flows_of[str(name)] += int(count or 0)
        chosen = np.flatnonzero(points >= 0)
        if len(chosen) < self._num_most and not self.num_unusual:
            chosen = np.sort(np.argsort(-points, kind="stable")[: self._num_most])
        if len(chosen):
            self._kept.append((table.take(pa.array(chosen)), points[chosen]))
            self._num_kept += len(chosen)
            if self._num_kept > 2 * MAX_KEPT:
                self._kept = [self._most(MAX_KEPT)]
                self._num_kept = len(self._kept[0][1])

    def records(self) -> tuple[pa.Table, Float64[np.ndarray, " flows"]]:
        """The flows above the threshold and just below it, or the least usual ones, with their points."""
        if not self._kept:
            return pa.table({"predicted_class": pa.array([], pa.string())}), np.empty(0)
        return self._most(MAX_KEPT if self.num_unusual else self._num_most)

    def _most(self, count: int) -> tuple[pa.Table, Float64[np.ndarray, " flows"]]:
        """Those with the most points, in order of appearance."""
        records = pa.concat_tables([table for table, _ in self._kept], promote_options="permissive")
        points = np.concatenate([points for _, points in self._kept])
        rows = np.sort(np.argsort(-points, kind="stable")[:count])
        return records.take(pa.array(rows)), points[rows]

    def _points(self, table: pa.Table) -> Float64[np.ndarray, " flows"]:
        """1 at the threshold, and 1 more for each nat."""
        threshold = self._detector.threshold
        if "alert_score" in table.column_names:  # nats already
            return table["alert_score"].to_numpy() - (threshold or 0.0) + 1
        score = table["attack_score"].to_numpy().astype(np.float64)
        return log_odds(score) - _log_odds(0.5 if threshold is None else threshold) + 1


def _explained(detector: Detector, records: pa.Table, suspects: Sequence[Suspect]) -> Iterator[Suspect]:
    """The groups with reasons: of the flow with the most points, beside the nearest normal flow."""
    if not suspects:
        return
    flows = np.concatenate([np.array(suspect.rows) for suspect in suspects])
    ends = np.cumsum([len(suspect.rows) for suspect in suspects])
    table = records.take(pa.array(flows))
    weights = _weights(detector, table)
    normal = _nearest_normal(detector, extract_features(table, detector.schema))
    columns = {column.name: column for column in detector.schema.features if column.name in weights}
    for suspect, last in zip(suspects, ends.tolist(), strict=True):
        first = last - len(suspect.rows)
        means = {name: float(weights[name][first:last].mean()) for name in columns}
        reasons: list[Reason] = []
        for name in sorted(means, key=lambda name: -means[name]):
            if means[name] <= 0 or len(reasons) == NUM_REASONS:
                break
            kind = columns[name].kind
            here = table.column(name)[first].as_py()
            there = normal[name][first].as_py() if name in normal else None
            value, usual = _text(here, kind), _text(there, kind) if name in normal else ""
            is_less = columns[name].kind in (ColumnKind.COUNT, ColumnKind.RATE) and _is_less(here, there)
            if not (_is_alike(here, there) or (is_less and detector.schema.is_context(name))):
                about = "about " * (kind.is_numeric and usual not in ("", "none")) + usual
                reasons.append(Reason(feature=name, what=feature_words(name), value=value, normal=about))
        evidence = (
            f"{one.what}: {one.value}{f' (nearest normal flow: {one.normal})' * bool(one.normal)}"
            for one in reasons
        )
        incident = replace(suspect.incident, evidence=(suspect.what, *evidence))
        yield replace(suspect, incident=incident, reasons=tuple(reasons))


def _weights(detector: Detector, table: pa.Table) -> dict[str, Float64[np.ndarray, " flows"]]:
    """How much each column speaks against each flow: by occlusion, or by novelty where that decides."""
    benign = detector.artifact.classes.benign
    assert benign is not None
    attributions = detector.explain(table, np.full(table.num_rows, detector.classes.index(benign)))
    weights: dict[str, Float64[np.ndarray, " flows"]] = {}
    for slot, against in zip(
        detector.artifact.tokenizer.slots, -attributions.contributions.T.astype(np.float64), strict=True
    ):
        name = slot.name if slot.name in table.column_names else slot.name.rpartition(".")[0]  # a flag's bit
        weights[name] = weights.get(name, 0) + against
    scorer = detector.novelty_scorer
    scores = detector.score(table)
    if (
        scorer is None
        or scores.combined_alert is None
        or scores.attack_score is None
        or scores.novelty is None
    ):
        return weights
    goes = scores.combined_alert.goes_by_novelty(scores.attack_score, scores.novelty)
    shares = scorer.contributions(extract_features(table, detector.schema))
    by_novelty = dict(zip((name for name, _ in scorer.space.encoder.known), shares.T, strict=True))
    names = dict.fromkeys([*weights, *by_novelty])
    none = np.zeros(table.num_rows)
    return {name: np.where(goes, by_novelty.get(name, none), weights.get(name, none)) for name in names}


def _nearest_normal(detector: Detector, measured: pa.Table) -> dict[str, pa.Array]:
    """About the values of the nearest kept flow that the model passes, by column; empty without any."""
    scorer = detector.artifact.novelty
    if scorer is None or not len(scorer.neighbours.kept):
        return {}
    kept = scorer.neighbours.kept
    is_normal = _passes(detector, scorer)
    neighbours = Neighbours(kept[is_normal]) if is_normal.any() else scorer.neighbours
    return scorer.space.values(neighbours.nearest(scorer.space.points(measured)))


def _passes(detector: Detector, scorer: NoveltyScorer) -> Bool[np.ndarray, " kept"]:
    """Which kept flows are clearly normal to the model, as far as their values are known."""
    values = scorer.space.values(scorer.neighbours.kept)
    columns = {column.name: column.kind for column in detector.schema.features if column.name in values}
    table = pa.table(
        {
            name: values[name].cast(pa.bool_()) if kind is ColumnKind.BOOLEAN else values[name]
            for name, kind in columns.items()
        }
    )
    score = detector.score_encoded(detector.artifact.tokenizer.encode(table)).attack_score
    assert score is not None
    is_of_attack = detector.threshold is not None and detector.novelty_scorer is None
    limit = detector.threshold if is_of_attack else None
    return log_odds(score) < _log_odds(0.5 if limit is None else limit) - CLEARLY


def _log_odds(share: float) -> float:
    return float(log_odds(np.array([share]))[0])


def feature_words(name: str) -> str:
    """A feature in words.

    >>> feature_words("ctx_src_dst_ports_60s"), feature_words("ssl_version")
    ('ports the source reached in 60 s', 'ssl version')
    """
    window = _WINDOW.fullmatch(name)
    if window is not None and window[1] in _WORDS:
        return _WORDS[window[1]].format(seconds_text(float(window[2])))
    return _WORDS.get(name, name.replace("_", " "))


def _text(value: object, kind: ColumnKind) -> str:
    """A value for people; numbers of normal flows are rounded already, so counts may be off by a little."""
    if value is None:
        return "none"
    if not isinstance(value, int | float):
        return str(value)
    if kind is ColumnKind.PORT:
        return f"{value:.0f}"
    if kind is ColumnKind.COUNT or not 0.005 <= abs(value) < 100:
        return f"{abs(value):,.0f}"
    return f"{value:.2g}"


def _is_alike(here: object, there: object) -> bool:
    """Whether two values are the same but for rounding."""
    if isinstance(here, int | float) and isinstance(there, int | float):
        return abs(here - there) <= max(0.05 * abs(here), 0.01)
    return here == there


def _is_less(here: object, there: object) -> bool:
    """Whether a number is lower than in normal traffic: few flows or failures are no reason in words."""
    return isinstance(here, int | float) and isinstance(there, int | float) and here < there


def suspect_rows(found: Hunt) -> list[dict[str, Any]]:
    """The groups as the incidents that `serve --incidents` shows, with rank, score and reasons."""
    return [
        {
            "event": "incident_closed",
            "number": 1,
            "reason": "hunt" if suspect.num_above else "hunt: below the threshold",
            "rank": rank,
            "score": suspect.score,
            "num_above_threshold": suspect.num_above,
            **asdict(suspect.incident),
            "reasons": [asdict(reason) for reason in suspect.reasons],
        }
        for rank, suspect in enumerate(found.suspects, 1)
    ]
