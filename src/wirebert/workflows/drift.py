"""`wirebert drift`: whether traffic still looks as it did when the thresholds of a model were set."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wirebert.console import say
from wirebert.data.findings import Finding, format_names
from wirebert.data.flows import Flows
from wirebert.decision.drift import FALSE_ALARM_RATE, NEW_STATES, DriftReference, MeasureDrift
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import ConfigError
from wirebert.inference.artifact import Artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.plurals import counted
from wirebert.report.columns import ColumnDrift
from wirebert.report.html.drift import drift_page

DRIFTED: Final = 3
"""Exit code of `wirebert drift` for traffic that has drifted."""
_SHOWN: Final = 15
_LOST: Final = 0.5
"""A feature is lost if it lacks a value in so many more of the flows."""
_MANY_NEW: Final = 0.01
"""A feature is named if so many more of the flows have a value that training lacked."""
_NO_VALUE: Final = ("<absent>", "<missing>")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficDrift:
    """Traffic beside the reference of a model."""

    name: str
    num_flows: int
    false_alarm_rate: float
    measures: tuple[MeasureDrift, ...]
    """Those that moved first."""

    @property
    def moved(self) -> tuple[MeasureDrift, ...]:
        """The features and scores that moved."""
        return tuple(one for one in self.measures if one.has_moved)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the drift means, and what to do."""
        return advise(self.measures)

    @property
    def sentence(self) -> str:
        """The result in words."""
        found = f"{len(self.moved)} of {len(self.measures)} features and scores have moved"
        flows = counted(self.num_flows, "flow")
        return (
            f"{self.name}, {flows}: {found if self.moved else 'no drift'} (false alarm rate "
            f"{100 * self.false_alarm_rate:g} % of such a comparison)"
        )

    def to_json(self) -> str:
        """Everything as JSON."""
        findings = [asdict(one) for one in self.findings]
        plain = {**asdict(self), "has_drifted": bool(self.moved), "findings": findings}
        return json.dumps(plain, indent=2, ensure_ascii=False)

    def to_page(self) -> str:
        """Everything as an HTML page."""
        sentences = [self.sentence, *(one.message for one in self.findings)]
        return drift_page(f"Drift of {self.name}", sentences, as_columns(self.measures))


def fit_reference(detector: Detector, tables: Iterable[pa.Table]) -> DriftReference | None:
    """The drift reference of traffic that is no sample; None if there are too few flows.

    The detector must be the one that is saved with it: its thresholds decide what is an alert.
    """
    detector.drift = blocks = TrafficBlocks(detector.artifact.tokenizer)
    for table in tables:
        detector.score(table)
    detector.drift = None
    return DriftReference.fit(blocks, detector.artifact.tokenizer)


def reference_of(artifact: Artifact) -> DriftReference:
    """The drift reference; a ConfigError if the model has none."""
    if artifact.reference is None:
        raise ConfigError(
            f"{artifact.name or 'the model'} has no drift reference: an earlier version saved it, or it was "
            "fitted on few flows; make one from your own traffic with `wirebert calibrate MODEL LOGS "
            "--alerts-per-day N`"
        )
    return artifact.reference


def compare_traffic(
    detector: Detector, flows: Flows, fit: TrafficFit, false_alarm_rate: float = FALSE_ALARM_RATE
) -> TrafficDrift:
    """Drift of these flows from the reference of the detector.

    Raises:
        ConfigError: the model has no reference, or the rate is none.
        DataError: there are too few flows.
    """
    reference, tokenizer = reference_of(detector.artifact), detector.artifact.tokenizer
    if not 0.001 <= false_alarm_rate < 1:
        raise ConfigError(f"--false-alarm-rate must be in [0.001, 1), got {false_alarm_rate:g}")
    detector.drift = blocks = reference.new_blocks(tokenizer)
    num_flows = 0
    for table in flows.blocks(fit.invalid_values):
        block = detector.encode(table)
        fit.add(table, block)
        detector.score(table, block)
        num_flows += table.num_rows
    return TrafficDrift(
        name=flows.name,
        num_flows=num_flows,
        false_alarm_rate=false_alarm_rate,
        measures=reference.compare(blocks, tokenizer, false_alarm_rate, flows.name),
    )


def advise(measures: Sequence[MeasureDrift]) -> tuple[Finding, ...]:
    """What to do about features and scores that moved, the most urgent first."""

    def gained(one: MeasureDrift, states: Sequence[str]) -> float:
        return sum(now - before for before, now in map(one.shares, states))

    moved = [one for one in measures if one.has_moved]
    scores = sorted(one.name for one in moved if one.is_score)
    features = [one for one in measures if not one.is_score]
    lost = [one.name for one in features if one.has_moved and gained(one, _NO_VALUE) > _LOST]
    new = sorted((one for one in features if gained(one, NEW_STATES) > _MANY_NEW), key=lambda one: one.name)
    found: list[Finding] = []

    def tell(code: str, names: Sequence[str], sentence: str) -> None:
        message = sentence.format(format_names(names))
        found.append(Finding(code=code, severity="warning", count=len(names), message=message))

    if lost:
        tell("drift_lost", lost, "{} lack values that the reference has; check the sensor and its settings")
    if "unseen values" in scores or "novelty" in scores or any(one.has_moved for one in new):
        tell(
            "drift_unknown",
            [*(one.name for one in new), *(name for name in scores if name in ("novelty", "unseen values"))],
            "values or flows are unlike the training data ({}); train or learn again with such traffic",
        )
    elif scores:
        tell(
            "drift_scores",
            scores,
            "{} moved, while the values are known; set the threshold again with `wirebert calibrate`",
        )
    if moved and not found:
        tell(
            "drift_features",
            [one.name for one in moved],
            "{} moved among known values, and the scores did not; if that lasts, renew the reference with "
            "`wirebert calibrate`",
        )
    return tuple(found)


def as_columns(measures: Sequence[MeasureDrift]) -> tuple[ColumnDrift, ...]:
    """The same for a report."""
    return tuple(
        ColumnDrift(column=one.name, distance=one.distance, bins=one.bins, train=one.reference, test=one.now)
        for one in measures
    )


def show_drift(drift: TrafficDrift, console: Console) -> None:
    """Print the scores, the features that moved most, and what it means."""
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for name in ("feature or score", "moved", "distance", "usual", "p", "changed most", "reference", "now"):
        justify = "left" if name in ("feature or score", "moved", "changed most") else "right"
        table.add_column(name, justify=justify, overflow="fold")
    chosen = [one for at, one in enumerate(drift.measures) if one.is_score or at < _SHOWN]
    for one in chosen:
        text, before, now = one.change
        cells = ["yes" if one.has_moved else "", f"{one.distance:.3f}", f"{one.usual:.3f}", f"{one.p:.3f}"]
        cells += [text, f"{before:.1%}", f"{now:.1%}"]
        table.add_row(Text(one.name), *map(Text, cells))
    console.print(table)
    say(console, drift.sentence)
