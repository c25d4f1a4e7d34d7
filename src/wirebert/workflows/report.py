"""From the metrics of a detector to its report: files in the run folder, and tables on the terminal."""

import shlex
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from rich.console import Console

from wirebert.companion_process import CompanionProcess
from wirebert.console import say
from wirebert.data.checks.checks import Finding
from wirebert.data.flows import Flows, FlowSubset
from wirebert.data.folders import listing_lines
from wirebert.data.labels import distribution, imbalance_ratio
from wirebert.evaluation.test_ledger import record_test_read
from wirebert.inference.artifact import write_card
from wirebert.inference.detector import Detector
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.plurals import counted
from wirebert.report.environment import hardware, versions
from wirebert.report.html.page import write_page
from wirebert.report.plots.chart import Chart, draw, draw_into
from wirebert.report.plots.run import run_charts
from wirebert.report.report import (
    DataSection,
    FileUsage,
    Report,
    class_distribution,
    write_json,
)
from wirebert.report.terminal import print_report
from wirebert.run_folder import RunFolder
from wirebert.telemetry.events import read_metrics
from wirebert.telemetry.history import History
from wirebert.telemetry.processors import num_processors
from wirebert.training.distillation_config import DistillationConfig
from wirebert.untrusted_text import printable_name

MAX_ARTISTS: Final = 12
"""Most processes that draw the charts of a run on a machine with a GPU."""

Artist = CompanionProcess[dict[str, str]]

_CALL: ContextVar[str] = ContextVar("call", default="")


class RunLog:
    """The console of a run, and the seconds that each of its stages takes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        """Stage -> seconds, in order."""
        self._since = time.perf_counter()

    def end_stage(self, stage: str) -> None:
        """Record the time since the end of the previous stage."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now


def show_data(
    flows: Flows,
    counts: Mapping[str, int],
    findings: Sequence[Finding],
    console: Console,
    *,
    num_rows: int,
) -> None:
    """Print the detected format, the class distribution and the findings of the data checks."""
    schema = flows.schema
    kind = f"schema {schema.name}, {len(schema.columns)} columns, {len(schema.features)} of them features"
    say(console, f"{flows.name}: {flows.described}; {kind}")
    for line in listing_lines(flows.listing):
        say(console, line)
    if counts:
        shares = ", ".join(
            f"{row.class_name} {row.num_rows:,} ({row.share:.2%})" for row in distribution(counts)
        )
        say(console, f"classes: {shares}; the largest is {imbalance_ratio(counts):,.0f} times the smallest")
    num_hidden = len(findings) - show_findings(findings, console, num_rows=num_rows)
    if num_hidden:
        hidden = counted(num_hidden, "informational or accepted finding")
        say(console, f"{hidden} hidden; `wirebert inspect` shows all")


def show_distillation(how: DistillationConfig, num_mixed: int, console: Console) -> None:
    """Print the teacher and the number of augmented flows."""
    fitted = {"gbdt": "boosted trees", "text_svm": "a linear SVM on character n-grams"}
    teacher = f"{fitted[how.teacher]}, fitted on the same flows" if how.teacher in fitted else how.teacher
    augmented = f"; {num_mixed:,} more flows by column mixing" if num_mixed else ""
    line = f"distillation: labels and {teacher}{augmented}"
    say(console, line)


def show_findings(findings: Sequence[Finding], console: Console, *, num_rows: int) -> int:
    """Print the findings that are neither informational nor accepted, and return their number."""
    shown = [finding for finding in findings if finding.severity != "info" and not finding.is_accepted]
    for line in finding_lines(shown, num_rows):
        say(console, line)
    return len(shown)


def finding_lines(findings: Sequence[Finding], num_rows: int) -> list[str]:
    """A line for each finding, in order; columns with missing values share one line per severity."""
    lines: dict[str, None] = {}
    for finding in findings:
        same = [
            other for other in findings if (other.code, other.severity) == (finding.code, finding.severity)
        ]
        if finding.code == "missing_values" and len(same) > 1:
            shares = ", ".join(
                f"{other.column} {100 * other.count / max(num_rows, 1):.0f} %" for other in same
            )
            message = (
                f"columns with missing values: {shares}; missing is learned as a separate value, "
                "so check that it does not just identify the source of a row"
            )
        else:
            message = finding.message
        lines[f"{finding.severity}: {message}"] = None
    return list(lines)


def data_section(
    parts: Sequence[FlowSubset],
    train_counts: Mapping[str, int] | None,
    splits: Mapping[str, SplitMetrics],
    findings: Sequence[Finding],
    split: str,
) -> DataSection:
    """The data of a report: files in the order of `parts`, classes of every split."""
    counts = {} if train_counts is None else {"train": train_counts}
    for name, metrics in splits.items():
        counts[name] = {label: row.support for label, row in metrics.per_class.items()}
    files = dict.fromkeys(printable_name(path) for part in parts for path in part.flows.files)
    return DataSection(
        files=tuple(files),
        detected=parts[0].flows.described,
        split=split,
        distribution={name: class_distribution(own) for name, own in counts.items()},
        findings=tuple(findings),
        listing=parts[0].flows.listing,
    )


def evaluation_report(
    detector: Detector, part: FlowSubset, metrics: SplitMetrics, findings: Sequence[Finding] = ()
) -> Report:
    """The report of a saved model on one more file."""
    origin = detector.artifact.origin
    return Report(
        name=part.name,
        command=command_line(),
        seed=1,
        splits={part.name: metrics},
        data=data_section([part], None, {part.name: metrics}, findings, "All labelled flows of the file."),
        settings=cast(dict[str, object], origin.get("settings", {})),
        versions=versions(),
        hardware=hardware(),
        date=now(),
    )


def now() -> str:
    """The time of a report."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def record_evaluation(model: Path, out: Path | None, data: str, detector: Detector, sha256: str) -> FileUsage:
    """Record a labelled file in the test ledger of the model's run, or else in that of the folder `out`."""
    run = model.absolute().parent
    if not RunFolder(run).run_toml.exists():
        if out is None:
            return FileUsage(sha256)
        run = out
    settings = cast(dict[str, object], detector.artifact.origin.get("settings", {}))
    return record_test_read(run, data=data, sha256=sha256, command=command_line(), settings=settings)


@dataclass(frozen=True)
class Drawing:
    """The charts of a run, which artists draw meanwhile."""

    charts: Mapping[str, Chart]
    artists: Sequence[Artist]

    @classmethod
    def start(cls, report: Report, folder: RunFolder, artists: Sequence[Artist] = ()) -> "Drawing":
        """Give each artist its share; without artists the charts are drawn here."""
        charts = run_charts(report, _history(folder))
        artists = artists or start_artists(is_separate=False)
        for first, artist in enumerate(artists):
            artist.send((dict(list(charts.items())[first :: len(artists)]), folder.plots))
        return cls(charts, artists)

    def pictures(self) -> dict[str, str]:
        """The drawn charts as SVG, by name."""
        return {name: svg for artist in self.artists for name, svg in artist.result().items()}


def write_report(
    report: Report, folder: RunFolder, card: str | None = None, drawing: Drawing | None = None
) -> None:
    """Write model card, page and charts, then report.json, whose presence means that the run is finished."""
    if card is not None:
        write_card(folder.model, card)
    drawing = drawing or Drawing.start(report, folder)
    pictures = drawing.pictures()
    write_page(report, folder.report_html, drawing.charts, pictures, run=_run_name(report, folder))
    write_json(report, folder.report_json)


def start_artists(*, is_separate: bool) -> list[Artist]:
    """What a `Drawing` is drawn by."""
    number = min(MAX_ARTISTS, max(1, 3 * num_processors() // 4)) if is_separate else 1
    return [CompanionProcess(draw_into, is_separate=is_separate) for _ in range(number)]


def draw_page(report: Report, folder: RunFolder, path: Path) -> None:
    """Write the page of a finished run to `path`, from its folder, which is not changed."""
    charts = run_charts(report, _history(folder))
    write_page(report, path, charts, draw(charts), run=_run_name(report, folder))


def _run_name(report: Report, folder: RunFolder) -> str:
    """The folder as commands name it; of a redacted report, and of an evaluation, which has no model, RUN."""
    return printable_name(folder.path) if folder.model.exists() and not report.is_redacted else "RUN"


def _history(folder: RunFolder) -> History | None:
    return History.of(read_metrics(folder.metrics)) if folder.metrics.exists() else None


def show_report(report: Report, folder: RunFolder | None, console: Console) -> None:
    """Print the tables of the report, then the paths of report and model, if they were saved."""
    print_report(report, console)
    if folder is None:
        return
    for what, path in {"report": folder.report_html, "model": folder.model}.items():
        if path.exists():
            say(console, f"{what}: {path}")


def command_line() -> str:
    """The command as it was typed, or the call from Python."""
    return _CALL.get() or printable_name(shlex.join(["wirebert", *sys.argv[1:]]))


@contextmanager
def called_as(call: str) -> Generator[None]:
    """Within it, reports and ledgers name this call from Python as their command."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)


def split_names(tests: Sequence[str], stems: Sequence[str], *, has_test: bool = False) -> list[str]:
    """`test` for one test file; for several, or if `has_test`, the file stems, numbered if they repeat.

    >>> split_names(["a.csv"], ["a"]), split_names(["x/a.csv", "y/a.csv"], ["a", "a"])
    (['test'], ['a', 'a-2'])
    """
    if len(tests) == 1 and not has_test:
        return ["test"]
    taken = {"train", "valid", "held_out", *(["test"] if has_test else [])}
    names: list[str] = []
    for stem in stems:
        name, number = stem, 2
        while name in names or name in taken:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def default_name(data: str) -> str:
    """Name of a run folder for this training data."""
    return Path(data).name.split(".")[0] or "run"
