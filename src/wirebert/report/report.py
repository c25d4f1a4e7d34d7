"""The report of one run as one frozen dataclass: everything a reader needs to judge its metrics.

`report.json` is the dataclass, field by field. The terminal tables and the page are made from it and from the
training curves alone, so that a report can be shown again long after the run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from wirebert.data.checks.checks import Finding
from wirebert.data.folders import FileListing
from wirebert.data.labels import distribution
from wirebert.errors import RunError
from wirebert.files import read_json_file, write_atomic
from wirebert.metrics.intervals import Interval
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.student_gap import TeacherGap
from wirebert.report.columns import Columns
from wirebert.report.environment import Hardware
from wirebert.serialization import from_builtins, to_builtins

FORMAT_VERSION = 2

GBDT: Final = "gbdt"
"""Key of the quick baseline, boosted trees on the same rows."""

FITTED_TEACHER: Final = "teacher"
"""Key of the teacher that was fitted on the training flows, among the baselines."""

BASELINE_TITLES: Mapping[str, str] = {GBDT: "boosted trees", FITTED_TEACHER: "its teacher"}
"""Key of a baseline -> its name on pages; any other key is shown as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportedClass:
    """One class of one split."""

    name: str
    num_flows: int
    fraction: float


@dataclass(frozen=True, slots=True)
class FileUsage:
    """The file content that a split was read from."""

    sha256: str
    num_reads: int = 0
    """Number of tests in this run and the runs in the same folder; 0: not a test file."""
    num_settings: int = 0
    """Number of different settings that were tested."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSection:
    """Training and evaluation data of a run."""

    files: tuple[str, ...]
    """Training files, then test files."""
    detected: str
    """The detected file format, in words."""
    split: str
    """How validation flows were chosen, in words."""
    distribution: Mapping[str, tuple[ReportedClass, ...]]
    """Split -> its classes, the largest first; "train" is one of the splits."""
    findings: tuple[Finding, ...] = ()
    """Findings of the data checks."""
    listing: tuple[FileListing, ...] = ()
    """What became of each file of the training data (of an evaluation: of the file)."""
    benign: str | None = None
    """The benign class, if there is one."""
    test_usage: Mapping[str, FileUsage] = field(default_factory=dict)
    """Split -> the file content that its rows come from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A simple method on the same rows."""

    summary: Mapping[str, object]
    """Its settings and the size of its training data; keys in snake case."""
    splits: Mapping[str, SplitMetrics]
    differences: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """Split -> headline metric -> 95 % interval of the model minus this method, by paired bootstrap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """The report of one run, or of one model on one more file."""

    name: str
    command: str
    seed: int
    splits: Mapping[str, SplitMetrics]
    """In the order of evaluation; the summary is about the last one."""
    data: DataSection
    settings: Mapping[str, object]
    """Section -> setting -> value, everything resolved."""
    versions: Mapping[str, str]
    hardware: Hardware
    training: Mapping[str, object] = field(default_factory=dict)
    """Parameters, best step, throughput and the like; keys in snake case."""
    date: str = ""
    """When the report was made, as in 2026-01-31T12:00:00Z."""
    model_sha256: str = ""
    """Sha256 of the model's `wirebert.json`, which has those of its other files; empty if it is not saved."""
    is_redacted: bool = False
    """Whether addresses, names, payloads and paths were left out."""
    columns: Columns = field(default_factory=Columns)
    """Usual values of each class and drift."""
    timing: Mapping[str, float] = field(default_factory=dict)
    """Stage, in snake case -> seconds."""
    baselines: Mapping[str, Baseline] = field(default_factory=dict)
    """Key of the method -> its metrics on the same splits."""
    teacher: TeacherGap | None = None
    """Differences from the teacher, if there was one."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> dict[str, object]:
        """The content of report.json."""
        data = cast(dict[str, object], to_builtins(self))
        data["splits"] = {name: metrics.to_json() for name, metrics in self.splits.items()}
        data["baselines"] = {
            name: {
                "summary": to_builtins(baseline.summary),
                "splits": {split: metrics.to_json() for split, metrics in baseline.splits.items()},
                "differences": to_builtins(baseline.differences),
            }
            for name, baseline in self.baselines.items()
        }
        return data

    def methods(self, split: str) -> dict[str, SplitMetrics]:
        """The model, named `wirebert`, and each baseline by its title -> metrics on a split."""
        baselines = {
            baseline_title(key): one.splits[split]
            for key, one in self.baselines.items()
            if split in one.splits
        }
        return {"wirebert": self.splits[split], **baselines}

    def trees(self, split: str) -> SplitMetrics | None:
        """Metrics of the boosted trees on a split, if they were trained."""
        baseline = self.baselines.get(GBDT)
        return baseline.splits.get(split) if baseline else None


def baseline_title(key: str) -> str:
    """Name of a baseline on pages.

    >>> baseline_title("gbdt"), baseline_title("forest")
    ('boosted trees', 'forest')
    """
    return BASELINE_TITLES.get(key, key)


def class_distribution(counts: Mapping[str, int]) -> tuple[ReportedClass, ...]:
    """Classes of a split, the largest first.

    >>> class_distribution({"dos": 1, "normal": 3})[0]
    ReportedClass(name='normal', num_flows=3, fraction=0.75)
    """
    return tuple(
        ReportedClass(name=share.class_name, num_flows=share.num_rows, fraction=share.share)
        for share in distribution(counts)
    )


def write_json(report: Report, path: Path) -> None:
    """Write report.json in one step: the file is complete or absent."""
    write_atomic(path, json.dumps(report.to_json(), indent=1, allow_nan=False))


def read_json(path: Path) -> Report:
    """The report in a report.json.

    Raises:
        RunError: the file is missing, is not a report, or has another format version.
    """
    try:
        data = read_json_file(path)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not JSON"
        raise RunError(
            f"{path}: expected the report of a finished run, could not read it ({reason}); name the folder "
            "of a finished run"
        ) from error
    version = cast(Mapping[str, object], data).get("format_version") if isinstance(data, Mapping) else None
    if version != FORMAT_VERSION:
        raise RunError(
            f"{path}: expected a report of format version {FORMAT_VERSION}, found {version!r}; "
            "run the training or evaluation again"
        )
    try:
        return from_builtins(Report, data)
    except (TypeError, KeyError, ValueError) as error:
        raise RunError(
            f"{path}: not a wirebert report ({error}); run the training or evaluation again"
        ) from error
