"""The report as one self-contained HTML page: pictures, tables, and a script that answers a pointer; nothing is fetched."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from wirebert.data.checks.findings import SEVERITIES, Finding
from wirebert.files import write_atomic
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.html.parts import (
    Markup,
    charts,
    disclosure,
    document,
    facts,
    figure,
    heading,
    join,
    markup,
    paragraph,
    table,
    with_range,
    words,
)
from wirebert.report.html.script import data_element, policy, script
from wirebert.report.html.split import split_section
from wirebert.report.plots.chart import Chart
from wirebert.report.plots.run import RESOURCE, TRAINING
from wirebert.report.report import DataSection, Report
from wirebert.report.summary import caveats, summarize
from wirebert.report.terminal import HEADLINE_METRICS, format_file_usage, interval
from wirebert.serialization import flatten

MOST_BYTES = 5_000_000
"""Size of the page: what mail takes and a browser opens at once."""

_CHOSEN_ON = "The model, and where it has thresholds also these, were chosen on these flows: they flatter it."
_NO_SAMPLES = "This run took no samples of what the machine did."


def write_page(report: Report, path: Path, drawn: Mapping[str, Chart], pictures: Mapping[str, str]) -> None:
    """Write report.html; the file appears whole or not at all."""
    write_atomic(path, page(report, drawn, pictures))


def page(report: Report, drawn: Mapping[str, Chart], pictures: Mapping[str, str]) -> str:
    """The page as HTML text.

    Args:
        drawn: Name -> chart, as `run_charts.run_charts` makes them.
        pictures: Name -> the chart's SVG.
    """
    live = dict(drawn)
    whole = _page(report, drawn, pictures, live)
    excess = len(whole.encode()) - MOST_BYTES
    if excess <= 0:
        return whole
    # What a reader looks at least goes first: the last charts answer no pointer, then the last pictures stay away.
    for name in reversed(list(drawn)):
        if excess > 0:
            excess -= len(json.dumps(live.pop(name).spec))
    shown = dict(pictures)
    for name in reversed(list(drawn)):
        if excess > 0:
            excess -= len(shown.pop(name))
    return _page(report, drawn, shown, live)


def _page(
    report: Report, drawn: Mapping[str, Chart], pictures: Mapping[str, str], live: Mapping[str, Chart]
) -> str:
    figures = {
        name: figure(name, chart, pictures.get(name), is_live=name in live) for name, chart in drawn.items()
    }
    specs = {name: chart.spec for name, chart in live.items()}
    return document(
        report.name,
        "wirebert report",
        _sections(report, figures),
        about=f"seed {report.seed}, wirebert {report.versions.get('wirebert', '')}".rstrip(),
        policy=policy(script()),
        end=Markup(f"{data_element(specs)}\n<script>{script()}</script>\n"),
    )


def _sections(report: Report, figures: Mapping[str, Markup]) -> list[tuple[str, str, Markup]]:
    """Key, title and content of each section."""
    sections = [("verdict", "Verdict", _verdict(report, figures))]
    for place, (name, metrics) in enumerate(reversed(list(report.splits.items()))):
        kinds = {
            key.removesuffix(f"_{name}"): own for key, own in figures.items() if key.endswith(f"_{name}")
        }
        taught = report.teacher if report.teacher is not None and name in report.teacher.splits else None
        content = split_section(name, metrics, _rivals(report, name), kinds, taught)
        if place and name == "valid":
            # The model was chosen on these flows; who wants their figures can open them.
            content = join(paragraph(_CHOSEN_ON), disclosure("All figures of valid", content))
        sections.append((f"split-{place}", f"On {name}", content))
    return [
        *sections,
        ("training", "Training", _training(report, figures)),
        ("data", "Data", _data(report.data)),
        ("origin", "How this was made", _origin(report)),
    ]


def _rivals(report: Report, split: str) -> dict[str, SplitMetrics]:
    return {name: rival.splits[split] for name, rival in report.baseline.items() if split in rival.splits}


def _verdict(report: Report, figures: Mapping[str, Markup]) -> Markup:
    sentences = join(*map(paragraph, summarize(report)))
    if not sentences:
        return sentences
    name, metrics = list(report.splits.items())[-1]
    trees = report.trees(name)
    cards = join(*(_card(field, title, metrics, trees) for field, title in HEADLINE_METRICS.items()))
    told = "".join(f"<li>{markup(doubt)}</li>" for doubt in caveats(report))
    doubt = f'<div><h3>How far to trust it</h3><ul class="doubts">{told}</ul></div>' if told else ""
    shares = figures.get("classes", "")
    return Markup(
        f'<div class="verdict">{sentences}</div><dl class="cards">{cards}</dl><div class="charts">{doubt}{shares}</div>'
    )


def _card(field: str, title: str, metrics: SplitMetrics, trees: SplitMetrics | None) -> Markup:
    value = cast(float | None, getattr(metrics, field))
    if value is None:
        return Markup("")
    more = interval(metrics.intervals.rows[field]) if metrics.intervals else ""
    if trees is not None:
        rival = cast(float, getattr(trees, field))
        ends = f"{interval(trees.intervals.rows[field])}" if trees.intervals else ""
        more += f"<br><span>trees {rival:.3f}</span> <span>{ends}</span>"
    return Markup(
        f'<div><dt>{title}</dt><dd class="value">{value:.3f}</dd><dd class="more">{more}</dd></div>'
    )


def _training(report: Report, figures: Mapping[str, Markup]) -> Markup:
    summary = facts("Training in figures", {name: words(value) for name, value in report.training.items()})
    if not report.training:
        return summary
    drawn = [figures[name] for name in figures if name in TRAINING]
    used = [own for name, own in figures.items() if name.startswith(RESOURCE)]
    machine = charts(used) if used else paragraph(_NO_SAMPLES, "faint")
    return join(summary, charts(drawn), heading("The machine"), machine)


def _data(data: DataSection) -> Markup:
    files = "".join(f"<li><code>{markup(file)}</code></li>" for file in data.files)
    parts = [Markup(f"<ul>{files}</ul>"), paragraph(data.detected), paragraph(data.split)]
    parts += [
        paragraph(f"{name}: {line}")
        for name, read in data.test_usage.items()
        for line in format_file_usage(read)
    ]
    parts += [_distribution(data), heading("Findings")]
    if not data.findings:
        return join(*parts, paragraph("None."))
    caption = "What validation of the data found"
    rows = [[_concern(finding), finding.message] for finding in sorted(data.findings, key=_weight)]
    return join(*parts, table(caption, ("concern", "finding"), rows, text=(1,), hide_caption=True))


def _weight(finding: Finding) -> int:
    """What to look at first comes first."""
    return len(SEVERITIES) if finding.is_accepted else SEVERITIES.index(finding.severity)


def _concern(finding: Finding) -> Markup:
    severity = Markup(f'<span class="{finding.severity}">{finding.severity}</span>')
    accepted = ["accepted"] if finding.is_accepted else []
    where = [finding.column] if finding.column else []
    return with_range(severity, ", ".join([*accepted, *where, f"{finding.count:,} rows"]))


def _distribution(data: DataSection) -> Markup:
    splits = {split: {own.name: own for own in classes} for split, classes in data.distribution.items()}
    names = dict.fromkeys(name for classes in splits.values() for name in classes)
    if not names:
        return Markup("")
    rows = [
        [
            name,
            *(
                with_range(f"{own[name].num_flows:,}", f"{own[name].share:.2%}") if name in own else "-"
                for own in splits.values()
            ),
        ]
        for name in names
    ]
    return join(heading("Classes"), table("Flows of each class", ["class", *splits], rows, hide_caption=True))


def _origin(report: Report) -> Markup:
    machine = report.hardware
    told = {
        "seed": str(report.seed),
        "processor": f"{machine.cpu}, {machine.num_cores} cores",
        "accelerator": ", ".join(machine.gpus) or "none",
        "system": machine.system,
        "versions": ", ".join(f"{name} {number}" for name, number in report.versions.items()),
        **{f"time: {stage}": f"{seconds:,.1f} s" for stage, seconds in report.timing.items()},
    }
    rivals = [
        join(
            heading(f"Baseline: {name}"),
            facts(f"Baseline: {name}", {key: words(value) for key, value in rival.summary.items()}),
        )
        for name, rival in report.baseline.items()
    ]
    rows = [(name, words(value)) for name, value in flatten(report.settings)]
    every = table("Every setting as it was used", ("setting", "value"), rows, text=(1,)) if rows else None
    command = Markup(f"<pre><code>{markup(report.command)}</code></pre>")
    settings = [] if every is None else [disclosure("All settings", every)]
    return join(command, facts("Where and with what", told), *rivals, *settings)
