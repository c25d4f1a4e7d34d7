"""The report as one self-contained HTML page: charts, tables and a script for interaction; nothing is
fetched."""

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from markupsafe import Markup, escape

from wirebert.data.findings import SEVERITIES, Finding
from wirebert.files import write_atomic
from wirebert.metrics.registry import headline_titles
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.plurals import counted
from wirebert.report.html.drift import drift_section
from wirebert.report.html.parts import (
    charts,
    copyable,
    disclosure,
    document,
    facts,
    figure,
    heading,
    join,
    paragraph,
    spoken,
    table,
    with_code,
    with_range,
    words,
)
from wirebert.report.html.script import data_element, policy, script
from wirebert.report.html.split import deployment_section, split_section
from wirebert.report.plots.chart import Chart
from wirebert.report.plots.run import RESOURCE, TRAINING
from wirebert.report.report import DataSection, Report, baseline_title
from wirebert.report.summary import caveats, summarize
from wirebert.report.terminal import format_file_usage, interval
from wirebert.serialization import flatten

MOST_BYTES = 3_000_000
"""Maximum size of the page: e-mail accepts it and a browser opens it at once."""
_REDACTED = "Redacted: addresses, names, times, payloads and file paths are left out of this page."

_CHOSEN_ON = "Validation results are optimistic: the model and its thresholds were chosen on these flows."
_NO_SAMPLES = "This run recorded no resource usage."


def write_page(
    report: Report, path: Path, drawn: Mapping[str, Chart], pictures: Mapping[str, str], *, run: str = "RUN"
) -> None:
    """Write report.html in one step: the file is complete or absent."""
    write_atomic(path, page(report, drawn, pictures, run=run))


def page(report: Report, drawn: Mapping[str, Chart], pictures: Mapping[str, str], *, run: str = "RUN") -> str:
    """The page as HTML text.

    Args:
        run: The folder of the run, as commands name it.
        drawn: Name -> chart, as `plots.run.run_charts` makes them.
        pictures: Name -> the chart's SVG.
    """
    live = dict(drawn)
    whole = _page(report, drawn, pictures, live, run)
    excess = len(whole.encode()) - MOST_BYTES
    if excess <= 0:
        return whole
    # Drop the least important first: the last charts lose their interaction, then the last pictures are left
    # out.
    for name in reversed(list(drawn)):
        if excess > 0:
            excess -= len(json.dumps(live.pop(name).spec))
    shown = dict(pictures)
    for name in reversed(list(drawn)):
        if excess > 0:
            excess -= len(shown.pop(name))
    return _page(report, drawn, shown, live, run)


def _page(
    report: Report,
    drawn: Mapping[str, Chart],
    pictures: Mapping[str, str],
    live: Mapping[str, Chart],
    run: str,
) -> str:
    figures = {
        name: figure(name, chart, pictures.get(name), is_live=name in live) for name, chart in drawn.items()
    }
    specs = {name: chart.spec for name, chart in live.items()}
    return document(
        report.name,
        "wirebert report",
        _sections(report, figures, run),
        about=", ".join(_about(report)),
        policy=policy(script()),
        end=Markup(f"{data_element(specs)}\n<script>{script()}</script>\n"),
    )


def _about(report: Report) -> list[str]:
    seconds = sum(report.timing.values())
    return [
        *([report.date.replace("T", " ").replace("Z", " UTC")] if report.date else []),
        *([f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.1f} s"] if seconds else []),
        f"seed {report.seed}",
        f"wirebert {report.versions.get('wirebert', '')}".rstrip(),
    ]


def _sections(report: Report, figures: Mapping[str, Markup], run: str) -> list[tuple[str, str, Markup]]:
    """Key, title and content of each section."""
    sections = [("summary", "Summary", _summary(report, figures))]
    if report.splits:
        last, metrics = list(report.splits.items())[-1]
        sections.append(("deployment", "Deployment", deployment_section(last, metrics)))
        sections.append(("next", "Next steps", _next_steps(report, run)))
    for index, (name, metrics) in enumerate(reversed(list(report.splits.items()))):
        kinds = {
            key.removesuffix(f"_{name}"): own for key, own in figures.items() if key.endswith(f"_{name}")
        }
        gap = report.teacher if report.teacher is not None and name in report.teacher.splits else None
        columns = None if index else report.columns
        content = split_section(name, metrics, _baseline_metrics(report, name), kinds, gap, columns)
        title = f"Results on {name}"
        if name == "valid":
            content = join(paragraph(_CHOSEN_ON), disclosure("All metrics", content) if index else content)
            title = "Validation results"
        sections.append((f"split-{index}", title, content))
        drift = drift_section(report.columns.drift.get(name, ()))
        sections.append((f"drift-{index}", f"Drift to {name}", drift))
    return [
        *sections,
        ("training", "Training", _training(report, figures)),
        ("data", "Data", _data(report.data)),
        ("origin", "Provenance", _origin(report)),
    ]


def _baseline_metrics(report: Report, split: str) -> dict[str, SplitMetrics]:
    return {key: own.splits[split] for key, own in report.baselines.items() if split in own.splits}


def _summary(report: Report, figures: Mapping[str, Markup]) -> Markup:
    sentences = join(*map(paragraph, summarize(report)))
    if not sentences:
        return sentences
    untrusted = [one.message for one in report.data.findings if one.code == "untrusted_threshold"]
    cautions = join(*(paragraph(f"{text[:1].upper()}{text[1:]}.", "caution") for text in untrusted))
    if report.is_redacted:
        sentences = join(sentences, paragraph(_REDACTED, "faint"))
    name, metrics = list(report.splits.items())[-1]
    trees = report.trees(name)
    cards = join(*_deployed_cards(metrics), *_headline_cards(metrics, trees))
    items = "".join(f"<li>{with_code(caveat)}</li>" for caveat in caveats(report))
    listed = f'<div><h3>Caveats</h3><ul class="caveats">{items}</ul></div>' if items else ""
    shares = figures.get("classes", "")
    return Markup(
        f'<div class="summary">{sentences}</div>{cautions}<dl class="cards">{cards}</dl><div '
        f'class="charts">{listed}{shares}</div>'
    )


def _deployed_cards(metrics: SplitMetrics) -> Iterator[Markup]:
    """What the model does at its stored threshold; red where the target is outside the interval."""
    point = metrics.deployed
    if point is None or point.fpr is None or point.fpr_interval is None:
        return
    low, high = (f"{100 * end:.2f}" for end in point.fpr_interval)
    held = "off target" if point.is_off_target else "on target"
    yield _card(
        "false positives, stored threshold",
        f"{100 * point.fpr:.2f} %",
        f"[{low}, {high}] %<br>target {100 * point.target_fpr:.3g} %: {held}",
        kind="value error" if point.is_off_target else "value",
    )
    if point.tpr is not None:
        yield _card("attacks found, stored threshold", f"{100 * point.tpr:.1f} %", "")


def _headline_cards(metrics: SplitMetrics, trees: SplitMetrics | None) -> Iterator[Markup]:
    """Each headline metric, with that of the trees below."""
    for key, title in headline_titles().items():
        if key in metrics.headline:
            more = interval(metrics.intervals.rows[key]) if metrics.intervals else ""
            if trees is not None:
                ends = interval(trees.intervals.rows[key]) if trees.intervals else ""
                more += f"<br><span>trees {trees.headline[key]:.3f}</span> <span>{ends}</span>"
            yield _card(title, f"{metrics.headline[key]:.3f}", more)


def _card(title: str, value: str, more: str, *, kind: str = "value") -> Markup:
    """A figure in large print, with what belongs to it in small print."""
    return Markup(f'<div><dt>{title}</dt><dd class="{kind}">{value}</dd><dd class="more">{more}</dd></div>')


def _training(report: Report, figures: Mapping[str, Markup]) -> Markup:
    summary = facts("Training summary", {name: words(value) for name, value in report.training.items()})
    if not report.training:
        return summary
    drawn = [figures[name] for name in figures if name in TRAINING]
    lacking = [title for name, title in TRAINING.items() if name not in figures]
    used = [own for name, own in figures.items() if name.startswith(RESOURCE)]
    machine = charts(used) if used else paragraph(_NO_SAMPLES, "faint")
    told = paragraph(f"This run recorded no values of: {', '.join(lacking)}.", "faint") if lacking else ""
    return join(summary, charts(drawn), told, heading("Resource usage"), machine)


def _next_steps(report: Report, run: str) -> Markup:
    """Commands for what usually comes next."""
    model = shlex.quote(f"{run}/model")
    steps = {
        "Score your own traffic": f"wirebert predict {model} TRAFFIC --out verdicts.csv",
        "Set the threshold on your own traffic, by the alerts that you can look at": (
            f"wirebert calibrate {model} TRAFFIC --alerts-per-day 20"
        ),
        "Serve verdicts over HTTP, with a page to try them": f"wirebert serve {model}",
        "Show this report to others, without addresses, names and payloads": (
            f"wirebert report {shlex.quote(run)} --redact --out shared.html"
        ),
    }
    if report.is_redacted:
        del steps["Show this report to others, without addresses, names and payloads"]
    return join(*(join(paragraph(f"{what}:"), copyable(command)) for what, command in steps.items()))


def _data(data: DataSection) -> Markup:
    files = "".join(f"<li><code>{escape(file)}</code></li>" for file in data.files)
    parts = [Markup(f"<ul>{files}</ul>"), paragraph(data.detected), paragraph(data.split)]
    parts += [
        paragraph(f"{name}: {line}")
        for name, usage in data.test_usage.items()
        for line in format_file_usage(usage)
    ]
    parts += [_distribution(data), heading("Findings")]
    if not data.findings:
        return join(*parts, paragraph("None."))
    rows = [[_severity(finding), finding.message] for finding in sorted(data.findings, key=_rank)]
    head = ("severity", "finding")
    return join(*parts, table("Findings of the data checks", head, rows, text=(1,), hide_caption=True))


def _rank(finding: Finding) -> int:
    """Rank by severity, the most severe first and accepted findings last."""
    return len(SEVERITIES) if finding.is_accepted else SEVERITIES.index(finding.severity)


def _severity(finding: Finding) -> Markup:
    severity = Markup(f'<span class="{finding.severity}">{finding.severity}</span>')
    accepted = ["accepted"] if finding.is_accepted else []
    where = [finding.column] if finding.column else []
    return with_range(severity, ", ".join([*accepted, *where, counted(finding.count, "row")]))


def _distribution(data: DataSection) -> Markup:
    splits = {split: {own.name: own for own in classes} for split, classes in data.distribution.items()}
    names = dict.fromkeys(name for classes in splits.values() for name in classes)
    if not names:
        return Markup("")
    rows = [
        [
            name,
            *(
                with_range(f"{own[name].num_flows:,}", f"{own[name].fraction:.2%}") if name in own else "-"
                for own in splits.values()
            ),
        ]
        for name in names
    ]
    return join(heading("Classes"), table("Flows of each class", ["class", *splits], rows, hide_caption=True))


def _origin(report: Report) -> Markup:
    machine = report.hardware
    environment = {
        "date": report.date,
        "duration": f"{sum(report.timing.values()):,.1f} s" if report.timing else "",
        "sha256 of model/wirebert.json": report.model_sha256,
        **{f"sha256 of the file of {name}": usage.sha256 for name, usage in report.data.test_usage.items()},
        "seed": str(report.seed),
        "CPU": f"{machine.cpu}, {machine.num_cores} cores",
        "GPU": ", ".join(machine.gpus) or "none",
        "system": machine.system,
        "versions": ", ".join(f"{name} {version}" for name, version in report.versions.items()),
        **{f"time: {spoken(stage)}": f"{seconds:,.1f} s" for stage, seconds in report.timing.items()},
    }
    baselines = [
        join(
            heading(f"Baseline: {baseline_title(key)}"),
            facts(
                f"Baseline: {baseline_title(key)}",
                {name: words(value) for name, value in baseline.summary.items()},
            ),
        )
        for key, baseline in report.baselines.items()
    ]
    rows = [(name, words(value)) for name, value in flatten(report.settings)]
    every = table("All settings of this run", ("setting", "value"), rows, text=(1,)) if rows else None
    environment = {name: value for name, value in environment.items() if value}
    command = copyable(report.command)
    settings = [] if every is None else [disclosure("All settings", every)]
    return join(command, facts("Environment", environment), *baselines, *settings)
