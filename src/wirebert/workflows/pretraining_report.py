"""The report of a pretraining, which is read and printed without PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from wirebert.data.findings import Finding
from wirebert.files import read_json_file
from wirebert.metrics.masked_lm import MaskedMetrics, print_masked
from wirebert.report.environment import Hardware
from wirebert.run_folder import RunFolder
from wirebert.serialization import from_builtins

REPORT_FORMAT: Final = "pretraining 2"


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingReport:
    """The report of one pretraining; report.json has the same fields."""

    name: str
    command: str
    seed: int
    files: tuple[str, ...]
    fingerprint: str
    """Sha256 of the files' content."""
    num_train: int
    num_valid: int
    split: str
    """A statement of what the split can and cannot show."""
    findings: tuple[Finding, ...]
    valid: MaskedMetrics
    """Metrics on held-out rows, which are masked once for all evaluations."""
    columns: Mapping[str, MaskedMetrics]
    """The same metrics for each column."""
    training: Mapping[str, object]
    settings: Mapping[str, object]
    versions: Mapping[str, str]
    hardware: Hardware
    timing: Mapping[str, float]
    """Stage -> seconds."""
    format_version: str = REPORT_FORMAT


def show_pretraining(report: PretrainingReport, folder: RunFolder, console: Console) -> None:
    """Print the metrics, then the paths of report and model."""
    print_masked(report.valid, report.columns, console)
    for what, path in {"report": folder.report_json, "model": folder.model}.items():
        console.print(f"{what}: {path}", highlight=False, soft_wrap=True)


def read_pretraining(path: Path) -> PretrainingReport | None:
    """The report of a pretraining; None if the file is missing or is something else."""
    try:
        data = read_json_file(path)
    except (OSError, ValueError):
        return None
    is_ours = isinstance(data, dict) and data.get("format_version") == REPORT_FORMAT
    return from_builtins(PretrainingReport, data) if is_ours else None
