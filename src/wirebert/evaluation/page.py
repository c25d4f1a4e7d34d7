"""The report as one self-contained HTML page: inline SVG and CSS, no script, nothing fetched."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import cast

from wirebert.evaluation.history import History
from wirebert.evaluation.metrics import SplitMetrics
from wirebert.evaluation.page_style import STYLE
from wirebert.evaluation.plots import charts, to_svg
from wirebert.evaluation.report import DataSection, Report
from wirebert.evaluation.tables import HEADLINES, detections, interval, remarks
from wirebert.evaluation.verdict import verdict

_MANY_CLASSES = 12
"""Above this the confusion matrix takes the full width and scrolls on narrow screens."""

_LONG_TEXT = 80
"""From this many characters a cell is given room, so that it does not become a tower."""


def write_page(report: Report, path: Path, history: History | None = None) -> None:
    """Write report.html; the file appears whole or not at all."""
    aside = path.with_name(path.name + ".aside")
    aside.write_text(page(report, history), encoding="utf-8")
    aside.replace(path)


def page(report: Report, history: History | None = None) -> str:
    """The page as HTML text. Every text from the data is escaped."""
    trees = {name: metrics for name in report.splits if (metrics := report.trees(name)) is not None}
    pictures = {name: to_svg(spec) for name, spec in charts(report.splits, history, trees).items()}
    names = list(report.splits)
    sections = [
        ("figures", "Figures", _figures(report)),
        *(
            (f"split-{i}", f"Classes on {name}", _split(report, name, pictures))
            for i, name in enumerate(names)
        ),
        ("training", "Training", _training(report, pictures)),
        ("data", "Data", _data(report.data)),
        ("origin", "How this was made", _origin(report)),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{content}</section>\n'
        for key, title, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.name)} - wirebert report</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(report.name)}</h1><p class="faint">wirebert report, seed {report.seed}</p></header>\n'
        f'<main>\n{_verdict(report)}<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}</main>\n'
        f'<footer class="faint">wirebert {escape(report.versions.get("wirebert", ""))}</footer>\n</body>\n</html>\n'
    )


def _verdict(report: Report) -> str:
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(report))
    if not sentences:
        return ""
    name, metrics = list(report.splits.items())[-1]
    trees = report.trees(name)
    cards = "".join(_card(field, title, metrics, trees) for field, title in HEADLINES.items())
    return (
        f'<section aria-label="Verdict"><div class="verdict">{sentences}</div>'
        f'<dl class="cards">{cards}</dl></section>\n'
    )


def _card(field: str, title: str, metrics: SplitMetrics, trees: SplitMetrics | None) -> str:
    value = cast(float | None, getattr(metrics, field))
    if value is None:
        return ""
    more = interval(metrics.intervals.rows[field]) if metrics.intervals else ""
    if trees is not None:
        more += f"<br>trees {cast(float, getattr(trees, field)):.3f}"
    return f'<div><dt>{title}</dt><dd class="value">{value:.3f}</dd><dd class="more">{more}</dd></div>'


def _figures(report: Report) -> str:
    parts: list[str] = []
    for name, metrics in report.splits.items():
        rivals = {
            rival: other.splits[name] for rival, other in report.baseline.items() if name in other.splits
        }
        columns = [_headline_cells(shown) | detections(shown) for shown in (metrics, *rivals.values())]
        rows = [
            [escape(HEADLINES.get(figure, figure)), *(column.get(figure, "-") for column in columns)]
            for figure in columns[0]
        ]
        losses = [shown.loss for shown in (metrics, *rivals.values())]
        rows.append(["loss (nats)", *("-" if loss is None else f"{loss:.3f}" for loss in losses)])
        caption = f"{escape(name)}: {metrics.num_flows:,} flows"
        # Left-aligned: every figure is 0.xxx, and the intervals stand behind or, on narrow screens, below.
        text = tuple(range(1, len(columns) + 1))
        table = _table(caption, ["figure", "wirebert", *map(escape, rivals)], rows, text=text)
        notes = "".join(f'<p class="faint">{escape(remark)}</p>' for remark in remarks(metrics))
        parts.append(f"<div>{table}{notes}</div>")
    return f'<div class="charts">{"".join(parts)}</div>' if parts else ""


def _headline_cells(metrics: SplitMetrics) -> dict[str, str]:
    cells: dict[str, str] = {}
    for field in HEADLINES:
        value = cast(float | None, getattr(metrics, field))
        if value is not None:
            ends = (
                f' <span class="range">{interval(metrics.intervals.rows[field])}</span>'
                if metrics.intervals
                else ""
            )
            cells[field] = f"{value:.3f}{ends}"
    return cells


def _split(report: Report, name: str, pictures: Mapping[str, str]) -> str:
    metrics = report.splits[name]
    trees = report.trees(name)
    wide = len(metrics.confusion.labels) > _MANY_CLASSES
    figures = _figure(
        pictures[f"f1_{name}"], f"Bars: F1 of each class on {name}; the table below has the numbers"
    )
    figures += _figure(
        pictures[f"confusion_{name}"],
        f"Confusion matrix on {name}; the table below has the counts",
        wide=wide,
    )
    head = ["class", "flows", "accuracy", "precision", "recall", "F1", *(["trees' F1"] if trees else [])]
    rows = [
        [
            escape(label),
            f"{own.support:,}",
            *(f"{value:.3f}" for value in (own.accuracy, own.precision, own.recall, own.f1)),
            *([f"{trees.per_class[label].f1:.3f}" if label in trees.per_class else "-"] if trees else []),
        ]
        for label, own in metrics.per_class.items()
    ]
    labels = [escape(label) for label in metrics.confusion.labels]
    counts = [
        [label, *(f"{count:,}" for count in row)]
        for label, row in zip(labels, metrics.confusion.matrix, strict=True)
    ]
    confusion = _table("Rows: true class, columns: predicted class", ["true \\ predicted", *labels], counts)
    return (
        f'<div class="charts">{figures}</div>'
        + _table("Each class against the rest; accuracy is one-against-rest", head, rows)
        + f"<details><summary>Confusion matrix as a table</summary>{confusion}</details>"
    )


def _training(report: Report, pictures: Mapping[str, str]) -> str:
    alternatives = {
        "loss": "Curves: training and validation loss over steps",
        "quality": "Curves: validation accuracy and macro F1 over steps",
        "learning_rates": "Curves: learning rates of backbone and classifier over steps",
    }
    figures = "".join(
        _figure(pictures[name], text) for name, text in alternatives.items() if name in pictures
    )
    summary = _facts({name: _words(value) for name, value in report.training.items()})
    return summary + (f'<div class="charts">{figures}</div>' if figures else "")


def _data(data: DataSection) -> str:
    files = "".join(f"<li><code>{escape(file)}</code></li>" for file in data.files)
    parts = [f"<ul>{files}</ul>", f"<p>{escape(data.detected)}</p>", f"<p>{escape(data.split)}</p>"]
    parts.append(_distribution(data))
    parts.append("<h3>Findings</h3>")
    if not data.findings:
        return "".join([*parts, "<p>None.</p>"])
    rows = [
        [
            f'<span class="{finding.severity}">{finding.severity}</span>',
            escape(finding.column or "-"),
            f"{finding.count:,}",
            escape(finding.message),
        ]
        for finding in data.findings
    ]
    parts.append(
        _table(
            "What validation of the data found", ["severity", "column", "rows", "finding"], rows, text=(1, 3)
        )
    )
    return "".join(parts)


def _distribution(data: DataSection) -> str:
    splits = {split: {own.name: own for own in classes} for split, classes in data.distribution.items()}
    names = dict.fromkeys(name for classes in splits.values() for name in classes)
    rows = [
        [
            escape(name),
            *(
                f'{own[name].num_flows:,} <span class="range">{own[name].share:.2%}</span>'
                if name in own
                else "-"
                for own in splits.values()
            ),
        ]
        for name in names
    ]
    return (
        "<h3>Classes</h3>" + _table("Flows of each class", ["class", *map(escape, splits)], rows)
        if rows
        else ""
    )


def _origin(report: Report) -> str:
    machine = report.hardware
    facts = {
        "seed": str(report.seed),
        "processor": f"{machine.cpu}, {machine.num_cores} cores",
        "accelerator": ", ".join(machine.gpus) or "none",
        "system": machine.system,
        "versions": ", ".join(f"{name} {number}" for name, number in report.versions.items()),
        **{f"time: {stage}": f"{seconds:,.1f} s" for stage, seconds in report.timing.items()},
    }
    settings = _flat_rows(report.settings)
    baseline = "".join(
        f"<h3>Baseline: {escape(name)}</h3>{_facts({key: _words(value) for key, value in rival.summary.items()})}"
        for name, rival in report.baseline.items()
    )
    table = _table("Everything resolved", ["setting", "value"], settings, text=(0, 1)) if settings else ""
    return f"<pre><code>{escape(report.command)}</code></pre>{_facts(facts)}{baseline}" + (
        f"<details><summary>All settings</summary>{table}</details>" if table else ""
    )


def _flat_rows(settings: Mapping[str, object], prefix: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat_rows(cast(Mapping[str, object], value), f"{prefix}{name}.")
        else:
            rows.append([escape(prefix + name), escape(_words(value))])
    return rows


def _facts(facts: Mapping[str, str]) -> str:
    rows = [[escape(name.replace("_", " ")), escape(value)] for name, value in facts.items()]
    return _table("", ["", ""], rows, text=(1,)) if rows else ""


def _figure(svg: str, alternative: str, *, wide: bool = False) -> str:
    # A figure that scrolls must be reachable by keyboard.
    opening = '<figure class="wide" tabindex="0">' if wide else "<figure>"
    return f'{opening}<div role="img" aria-label="{escape(alternative)}">{svg}</div></figure>'


def _table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], *, text: tuple[int, ...] = ()
) -> str:
    """A table of cells that are HTML already; the first column names its rows, those in `text` are left-aligned."""

    def cell(column: int, content: str) -> str:
        if column == 0:
            return f'<th scope="row">{content}</th>'
        if column in text:
            return f'<td class="text{" long" if len(content) > _LONG_TEXT else ""}">{content}</td>'
        return f"<td>{content}</td>"

    body = "".join(
        "<tr>" + "".join(cell(i, content) for i, content in enumerate(row)) + "</tr>" for row in rows
    )
    header = "".join(
        f'<th scope="col" class="text">{name}</th>' if column in text else f'<th scope="col">{name}</th>'
        for column, name in enumerate(head)
    )
    label = f"<caption>{caption}</caption>" if caption else ""
    heading = f"<thead><tr>{header}</tr></thead>" if any(head) else ""
    return f'<div class="scroll" tabindex="0"><table>{label}{heading}<tbody>{body}</tbody></table></div>'


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, cast(Sequence[object], value))) or "none"
    return str(value)
