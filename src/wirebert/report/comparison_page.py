"""A comparison as one self-contained HTML page in the style of the report page: no script, nothing is
fetched."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from wirebert.files import write_atomic
from wirebert.metrics.registry import METRICS
from wirebert.report.comparison import Comparison, SplitComparison
from wirebert.report.comparison_terminal import (
    UNIT_WORDS,
    class_cells,
    comparison_remarks,
    difference_cells,
    estimate_cells,
    fact_cells,
    pair_words,
    setting_cells,
    split_heading,
)
from wirebert.report.html.parts import (
    charts,
    document,
    figure,
    heading,
    join,
    paragraph,
    table,
    with_range,
)
from wirebert.report.html.script import policy
from wirebert.report.plots.chart import (
    ACCENT,
    BARE,
    FAINT_INK,
    SECOND,
    WIDTH,
    Chart,
    Spec,
    names,
    specification,
    to_svg,
)
from wirebert.report.plots.lines import line_chart, spans_magnitudes
from wirebert.telemetry.history import Curve, History

_NAME_WIDTH = 220


def write_comparison(
    comparison: Comparison, path: Path, histories: Mapping[str, Sequence[History]] | None = None
) -> None:
    """Write the page in one step: the file is complete or absent."""
    write_atomic(path, comparison_page(comparison, histories))


def comparison_page(comparison: Comparison, histories: Mapping[str, Sequence[History]] | None = None) -> str:
    """The page as HTML text. Every text from the data is escaped.

    Args:
        histories: Method -> training curves of each of its runs, drawn in one chart.
    """
    summary = join(*map(paragraph, summary_sentences(comparison)))
    sections = [
        ("summary", "Summary", Markup(f'<div class="summary">{summary}</div>') if summary else Markup("")),
        *(
            (f"split-{i}", split_heading(split), _split(f"split-{i}", split, comparison))
            for i, split in enumerate(comparison.splits)
        ),
        ("curves", "Training curves", _curves(histories or {})),
        ("settings", "Settings that differ", _table("Settings of each method", *setting_cells(comparison))),
        ("runs", "Facts", _table("Facts of each method", *fact_cells(comparison))),
        ("notes", "Notes", join(*map(paragraph, comparison.notes))),
    ]
    about = f"{len(comparison.facts)} methods"
    return document(comparison.title, "wirebert comparison", sections, about=about, policy=policy())


def summary_sentences(comparison: Comparison) -> list[str]:
    """One sentence for each difference in the primary metric: above, below or no significant difference."""
    sentences: list[str] = []
    for split in comparison.splits:
        for difference in split.differences:
            if difference.metric != comparison.primary:
                continue
            strictest = max((result.p_holm for result in difference.intervals.values()), default=1.0)
            outcome = (
                "is not significantly different from"
                if strictest >= 0.05
                else "is above"
                if difference.value > 0
                else "is below"
            )
            sentences.append(
                f"On {split.name}, {pair_words(difference, outcome)}, in {METRICS[difference.metric].title} "
                f"({difference.value:+.3f}; largest Holm-adjusted p over all bootstraps: {strictest:.3f})."
            )
    return sentences


def _split(key: str, split: SplitComparison, comparison: Comparison) -> Markup:
    notes = join(*(paragraph(line, "faint") for line in comparison_remarks(split, comparison)))
    if not split.estimates:
        return notes
    chart = estimates_chart(split, comparison.primary)
    tables = _table(f"Metrics on {split.name}", *estimate_cells(split, comparison.primary), text=())
    if split.differences:
        differences = _table(f"Differences on {split.name}", *difference_cells(split.differences), text=(1,))
        tables = join(tables, heading("Differences on the same flows"), differences)
    return join(_figure(key, chart), tables, notes, _classes(split))


def _classes(split: SplitComparison) -> Markup:
    """F1 of each class by every method, and the differences of the same pairs."""
    if not split.classes:
        return Markup("")
    parts = [
        heading("F1 of each class"),
        _table(f"F1 of each class of {split.name}", *class_cells(split), text=(2,)),
    ]
    if split.class_differences:
        cells = difference_cells(split.class_differences)
        note = "Holm: adjusted for the number of differences in this table, over all classes."
        parts += [
            _table(f"Differences in the F1 of each class of {split.name}", *cells, text=(1,)),
            paragraph(note, "faint"),
        ]
    return join(*parts)


def estimates_chart(split: SplitComparison, primary: str) -> Chart:
    """The primary metric of each method with its intervals: a thick line for rows or splits, a thin one for
    clusters."""
    rows: list[Spec] = []
    for method, estimates in split.estimates.items():
        if primary in estimates:
            estimate = estimates[primary]
            row: Spec = {"method": method, "value": estimate.value, "text": f"{estimate.value:.3f}"}
            for way, (low, high) in estimate.intervals.items():
                row |= {f"{way}_low": low, f"{way}_high": high}
            rows.append(row)
    x: Spec = {"type": "quantitative", "title": METRICS[primary].title, "scale": {"zero": False}}

    def rule(way: str, width: float, colour: str) -> Spec:
        return {
            "transform": [{"filter": f"isValid(datum.{way}_low)"}],
            "mark": {"type": "rule", "strokeWidth": width, "color": colour},
            "encoding": {"x": {"field": f"{way}_low", **x}, "x2": {"field": f"{way}_high"}},
        }

    point: Spec = {
        "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1, "color": ACCENT},
        "encoding": {"x": {"field": "value", **x}},
    }
    y = names("method", BARE | {"labelLimit": _NAME_WIDTH})
    wide = "splits" if any("splits_low" in row for row in rows) else "rows"
    layers = [rule(wide, 4.0, FAINT_INK), rule("clusters", 1.5, SECOND), point]
    by_cluster = f"; orange: {UNIT_WORDS['clusters']}" if split.num_clusters else ""
    subtitle = f"95 % CI; grey: {UNIT_WORDS[wide]}{by_cluster}"
    body: Spec = {"data": {"values": rows}, "width": WIDTH, "height": {"step": 26}, "encoding": {"y": y}}
    title = f"{METRICS[primary].title} on {split.name}"
    listed = ", ".join(f"{row['method']} {row['text']}" for row in rows)
    return Chart(
        spec=specification(title, subtitle, body | {"layer": layers}),
        words=f"{title}: {listed}.",
        size="cells",
    )


def _curves(histories: Mapping[str, Sequence[History]]) -> Markup:
    quantities = {
        "valid_loss": ("Validation loss", "cross-entropy, nats"),
        "valid_macro_f1": ("Validation macro F1", "macro F1"),
        "train_loss": ("Training loss", "cross-entropy, nats"),
    }
    figures: list[Markup] = []
    for field, (title, unit) in quantities.items():
        curves: dict[str, list[Curve]] = {
            method: [getattr(history, field) for history in runs] for method, runs in histories.items()
        }
        if any(len(curve.at) for runs in curves.values() for curve in runs):
            figures.append(_figure(field, overlaid(title, unit, curves)))
    return charts(figures)


def overlaid(title: str, unit: str, runs: Mapping[str, Sequence[Curve]]) -> Chart:
    """One line for each run, one colour for each method."""
    curves = [Curve(method, curve.at, curve.values) for method, own in runs.items() for curve in own]
    return line_chart(title, unit, curves, log="loss" in title.lower() and spans_magnitudes(*curves))


def _figure(key: str, chart: Chart) -> Markup:
    return figure(key, chart, to_svg(chart.spec), is_live=False)


def _table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], text: Iterable[int] | None = None
) -> Markup:
    """A table of cells whose second line, if there is one, is shown in small print below the first.

    Args:
        text: Columns whose cells may wrap; None: all.
    """
    if not rows:
        return Markup("")
    wrapped = range(1, len(head)) if text is None else text
    return table(caption, head, [list(map(_lines, row)) for row in rows], text=wrapped, hide_caption=True)


def _lines(cell: str) -> Markup:
    first, _, second = cell.partition("\n")
    return with_range(join(first, Markup("<br>")), second) if second else escape(first)
