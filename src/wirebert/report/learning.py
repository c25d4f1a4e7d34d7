"""The report of `wirebert learn`: what is normal in the traffic, and its most unusual later flows.

It is read and printed without PyTorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from wirebert.console import say
from wirebert.data.findings import Finding
from wirebert.files import read_json_file
from wirebert.metrics.masked_lm import MaskedMetrics
from wirebert.metrics.thresholds import Threshold
from wirebert.report.environment import Hardware
from wirebert.serialization import from_builtins

REPORT_FORMAT: Final = "learning 1"
NAMES_SHOWN: Final = 5
FLOWS_SHOWN: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class FrequentValues:
    """The most frequent values of a column."""

    column: str
    num_distinct: int
    counts: Mapping[str, int]
    """Value -> flows, the most frequent first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalTraffic:
    """What the traffic consists of. It stays in the report: no address is in the model folder."""

    num_flows: int
    first_s: float | None
    """Time of the first flow, in seconds since 1970 (UTC); None without times."""
    last_s: float | None
    flows_by_hour: tuple[int, ...]
    """Flows in each of the 24 hours of the day (UTC); empty without times."""
    columns: tuple[FrequentValues, ...]
    """Sources, destinations, ports, protocols and services, as far as the traffic has such columns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnusualFlow:
    """One of the most unusual later flows."""

    row: int
    """Its number among all flows that were read, from 0."""
    score: float
    """The alert score."""
    verdict: str
    num_equal: int
    """Later flows that look the same to the model, itself included."""
    columns: Mapping[str, str]
    """Its time, ends, protocol and service, as far as the traffic has them."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningReport:
    """The report of one run of `wirebert learn`; report.json has the same fields."""

    name: str
    command: str
    seed: int
    files: tuple[str, ...]
    fingerprint: str
    """Sha256 of the files' content."""
    num_train: int
    num_left_out: int
    """Training flows that were taken for attacks, as the most surprising ones."""
    num_later: int
    """Flows that set the thresholds."""
    split: str
    """A statement of what the split can and cannot show."""
    findings: tuple[Finding, ...]
    normal: NormalTraffic
    unusual: tuple[UnusualFlow, ...]
    """Most unusual later flows, one of each kind."""
    thresholds: tuple[Threshold, ...]
    alert_fpr: float
    correlation: float
    """Rank correlation (Spearman) of the one-pass score with the full leave-one-out surprisal, on later
    flows."""
    columns: Mapping[str, MaskedMetrics]
    """How well masked features of later flows were predicted; the entry without a name is over all."""
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    hardware: Hardware
    timing: Mapping[str, float]
    """Stage -> seconds."""
    format_version: str = REPORT_FORMAT


def read_learning(path: Path) -> LearningReport | None:
    """The report of a run of `wirebert learn`; None if the file is missing or is something else."""
    try:
        data = read_json_file(path)
    except (OSError, ValueError):
        return None
    is_ours = isinstance(data, dict) and data.get("format_version") == REPORT_FORMAT
    return from_builtins(LearningReport, data) if is_ours else None


def learning_lines(report: LearningReport) -> list[str]:
    """The report in a few sentences, for the terminal and the head of the page."""
    at = next((one for one in report.thresholds if one.target_fpr == report.alert_fpr), report.thresholds[0])
    masked = report.columns[""]
    return [
        f"learned from {report.num_train:,} flows; the {report.num_left_out:,} most surprising of them were "
        "taken for attacks and do not count as normal",
        f"score of one pass and full leave-one-out surprisal: rank correlation {report.correlation:.3f} on "
        "later flows",
        f"masked features of later flows: {masked.accuracy:.3f} predicted right, "
        f"{masked.frequent_accuracy:.3f} by the most frequent value of each column",
        f"alerts at a share of {at.target_fpr:.2%}: {at.num_false_positives:,} of {report.num_later:,} later "
        f"flows ({at.fpr_interval[0]:.3%} to {at.fpr_interval[1]:.3%} of similar traffic)"
        + ("" if at.is_trusted else "; too few different flows to trust this share"),
    ]


def normal_lines(normal: NormalTraffic) -> list[str]:
    """What is normal, a line for each column and one for the hours."""
    lines = [
        f"{one.column}: {one.num_distinct:,} different; "
        + ", ".join(
            f"{name} {count / max(1, normal.num_flows):.1%}"
            for name, count in list(one.counts.items())[:NAMES_SHOWN]
        )
        for one in normal.columns
    ]
    if normal.flows_by_hour:
        busiest = max(range(24), key=lambda hour: normal.flows_by_hour[hour])
        share = normal.flows_by_hour[busiest] / max(1, sum(normal.flows_by_hour))
        active = sum(count > 0 for count in normal.flows_by_hour)
        lines.append(f"hours: flows in {active} of 24 (UTC), the busiest is {busiest}:00 with {share:.1%}")
    return lines


def flow_line(flow: UnusualFlow) -> str:
    """An unusual flow in one line."""
    equal = f" (one of {flow.num_equal:,} alike)" if flow.num_equal > 1 else ""
    ends = ", ".join(f"{name} {value}" for name, value in flow.columns.items())
    return f"{flow.score:.2f} {flow.verdict}: {ends or f'row {flow.row}'}{equal}; {', '.join(flow.reasons)}"


def print_learning(report: LearningReport, console: Console) -> None:
    """Print what is normal, the most unusual later flows, and how far to trust the detector."""
    lines = ["normal here:", *(f"  {line}" for line in normal_lines(report.normal))]
    lines += ["most unusual later flows, by alert score:"]
    lines += [f"  {flow_line(flow)}" for flow in report.unusual[:FLOWS_SHOWN]]
    for line in (*lines, *learning_lines(report)):
        say(console, line)
