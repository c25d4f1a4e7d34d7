"""The report of one run: everything a reader needs to judge its numbers, as one frozen dataclass.

`report.json` is the dataclass, field by field; the terminal tables and the page are made from it and from nothing else
(but the curves of the training), so that a report can be shown again long after the run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from wirebert.data.checks.checks import Finding
from wirebert.data.labels import distribution
from wirebert.errors import RunError
from wirebert.files import write_atomic
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import TeacherGap
from wirebert.report.environment import Hardware
from wirebert.serialization import from_builtins, to_builtins

FORMAT_VERSION = 2

TREES: Final = "boosted trees"
"""Name of the baseline that stands beside the model wherever one does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedClass:
    """One class of one split."""

    name: str
    num_flows: int
    share: float


@dataclass(frozen=True, slots=True)
class FileUsage:
    """The content that a split was read from."""

    sha256: str
    num_reads: int = 0
    """How often this run and those beside it opened it for a test; 0: it is no test file."""
    num_settings: int = 0
    """For how many different settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSection:
    """What the run learned from and was judged on."""

    files: tuple[str, ...]
    """Training files, then test files."""
    detected: str
    """The format that was recognised, in words."""
    split: str
    """How validation flows were chosen, in words."""
    distribution: Mapping[str, tuple[ReportedClass, ...]]
    """Split -> its classes, the largest first; "train" is one of the splits."""
    findings: tuple[Finding, ...] = ()
    """What validation of the data found."""
    benign: str | None = None
    """The class that means no attack, if there is one."""
    test_usage: Mapping[str, FileUsage] = field(default_factory=dict)
    """Split -> the content that its rows come from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A simple method on the same rows."""

    summary: Mapping[str, object]
    """What it is and what it was given."""
    splits: Mapping[str, SplitMetrics]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All there is to say about one run, or about one model on one more file."""

    name: str
    command: str
    seed: int
    splits: Mapping[str, SplitMetrics]
    """In the order of evaluation; the last one carries the verdict."""
    data: DataSection
    settings: Mapping[str, object]
    """Section -> setting -> value, everything resolved."""
    versions: Mapping[str, str]
    hardware: Hardware
    training: Mapping[str, object] = field(default_factory=dict)
    """Steps, best step, parameters and the like: name in words -> value."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds."""
    baseline: Mapping[str, Baseline] = field(default_factory=dict)
    """Name of the method -> its figures on the same splits."""
    teacher: TeacherGap | None = None
    """How far the model is from its teacher, if it had one."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, object]:
        """The content of report.json."""
        data = cast(dict[str, object], to_builtins(self))
        data["splits"] = {name: metrics.to_json() for name, metrics in self.splits.items()}
        data["baseline"] = {
            name: {
                "summary": to_builtins(rival.summary),
                "splits": {split: metrics.to_json() for split, metrics in rival.splits.items()},
            }
            for name, rival in self.baseline.items()
        }
        return data

    def trees(self, split: str) -> SplitMetrics | None:
        """What boosted trees did on a split, if they were asked."""
        rival = self.baseline.get(TREES)
        return rival.splits.get(split) if rival else None


def class_distribution(counts: Mapping[str, int]) -> tuple[ReportedClass, ...]:
    """Classes of a split, the largest first.

    >>> class_distribution({"dos": 1, "normal": 3})[0]
    ReportedClass(name='normal', num_flows=3, share=0.75)
    """
    return tuple(
        ReportedClass(name=share.class_name, num_flows=share.num_rows, share=share.share)
        for share in distribution(counts)
    )


def write_json(report: Report, path: Path) -> None:
    """Write report.json; the file appears whole or not at all."""
    write_atomic(path, json.dumps(report.to_json(), indent=1, allow_nan=False))


def read_json(path: Path) -> Report:
    """The report in a report.json.

    Raises:
        RunError: the file is missing, is no report, or is one of another version.
    """
    try:
        data = cast(object, json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: expected the report of a finished run, found none that can be read ({error})"
        ) from error
    found = cast(Mapping[str, object], data).get("format_version") if isinstance(data, Mapping) else None
    if found != FORMAT_VERSION:
        raise RunError(
            f"{path}: expected a report of format version {FORMAT_VERSION}, found {found!r}; run the training or evaluation again"
        )
    try:
        return from_builtins(Report, data)
    except (TypeError, KeyError, ValueError) as error:
        raise RunError(f"{path}: expected a wirebert report, found something else ({error})") from error
