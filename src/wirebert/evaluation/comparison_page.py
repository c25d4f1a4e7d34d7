"""A comparison as one self-contained HTML page, in the look of the report page: no script, nothing fetched."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from wirebert.evaluation.comparison import FIGURES, Comparison, SplitComparison
from wirebert.evaluation.comparison_tables import (
    difference_cells,
    fact_cells,
    pair_words,
    remarks,
    setting_cells,
    split_heading,
    standing_cells,
)
from wirebert.evaluation.history import Curve, History
from wirebert.evaluation.page_style import STYLE
from wirebert.evaluation.plots import (
    ACCENT,
    BARE,
    FAINT_INK,
    HEIGHT,
    PALETTE,
    SECOND,
    WIDTH,
    Spec,
    specification,
    to_svg,
)
from wirebert.files import write_whole

_NAME_WIDTH = 220


def write_comparison(
    comparison: Comparison, path: Path, histories: Mapping[str, Sequence[History]] | None = None
) -> None:
    """Write the page; the file appears whole or not at all."""
    write_whole(path, comparison_page(comparison, histories))


def comparison_page(comparison: Comparison, histories: Mapping[str, Sequence[History]] | None = None) -> str:
    """The page as HTML text. Every text from the data is escaped.

    Args:
        histories: Method -> how the training of each of its runs went, to be drawn over each other.
    """
    sections = [
        *(
            (f"split-{i}", split_heading(split), _split(split, comparison))
            for i, split in enumerate(comparison.splits)
        ),
        ("curves", "Training, run over run", _curves(histories or {})),
        ("settings", "Settings that differ", _table("", *setting_cells(comparison))),
        ("runs", "Speed and memory", _table("", *fact_cells(comparison))),
    ]
    sections = [section for section in sections if section[2]]
    links = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{key}"><h2 id="{key}">{escape(title)}</h2>{content}</section>\n'
        for key, title, content in sections
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in comparison.notes)
    verdict = "".join(f"<p>{escape(sentence)}</p>" for sentence in verdicts(comparison))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(comparison.title)} - wirebert comparison</title>\n"
        f"<style>{STYLE}\ntd.cell {{ white-space: pre; text-align: left; }} tbody th {{ white-space: normal; min-width: 14ch; }}</style>\n</head>\n<body>\n"
        f'<header><h1>{escape(comparison.title)}</h1><p class="faint">wirebert comparison</p></header>\n<main>\n'
        + (
            f'<section aria-label="Verdict"><div class="verdict">{verdict}</div></section>\n'
            if verdict
            else ""
        )
        + f'<nav aria-label="Sections"><ul>{links}</ul></nav>\n{body}{notes}</main>\n</body>\n</html>\n'
    )


def verdicts(comparison: Comparison) -> list[str]:
    """One sentence for each difference in the primary figure: above, below or not to be told apart."""
    sentences: list[str] = []
    for split in comparison.splits:
        for difference in split.differences:
            if difference.figure != comparison.primary:
                continue
            strictest = max((contrast.p_holm for contrast in difference.ways.values()), default=1.0)
            outcome = (
                "can not be told from"
                if strictest >= 0.05
                else "is above"
                if difference.value > 0
                else "is below"
            )
            sentences.append(
                f"On {split.name}, {pair_words(difference, outcome)}, in {FIGURES[difference.figure]} "
                f"({difference.value:+.3f}; largest corrected p of all ways of drawing: {strictest:.3f})."
            )
    return sentences


def _split(split: SplitComparison, comparison: Comparison) -> str:
    notes = "".join(f'<p class="faint">{escape(line)}</p>' for line in remarks(split, comparison))
    if not split.standings:
        return notes
    chart = _figure(
        to_svg(standings_chart(split, comparison.primary)),
        f"Points with intervals: {FIGURES.get(comparison.primary, comparison.primary)} of each method on {split.name}; "
        "the table below has the numbers",
    )
    tables = _table("Figures", *standing_cells(split, comparison.primary))
    if split.differences:
        tables += _table("Differences on the same flows", *difference_cells(split.differences))
    return f"{chart}{tables}{notes}"


def standings_chart(split: SplitComparison, primary: str) -> Spec:
    """The primary figure of each method as a point, with its intervals as lines: the thick one rows, the thin one clusters."""
    rows: list[Spec] = []
    for method, standings in split.standings.items():
        if primary in standings:
            found = standings[primary]
            row: Spec = {"method": method, "value": found.value, "text": f"{found.value:.3f}"}
            for way, (low, high) in found.intervals.items():
                row |= {f"{way}_low": low, f"{way}_high": high}
            rows.append(row)
    x: Spec = {"type": "quantitative", "title": FIGURES.get(primary, primary), "scale": {"zero": False}}

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
    axis: Spec = BARE | {"labelLimit": _NAME_WIDTH}
    y: Spec = {"field": "method", "type": "nominal", "sort": None, "title": None, "axis": axis}
    layers = [rule("clusters", 1.5, SECOND), rule("rows", 4.0, FAINT_INK), point]
    drawn_whole = "; orange, attacks drawn whole" if split.num_clusters else ""
    subtitle = f"95 % intervals: grey, flows drawn one by one{drawn_whole}"
    body: Spec = {"data": {"values": rows}, "width": WIDTH, "height": {"step": 26}, "encoding": {"y": y}}
    return specification(
        f"{FIGURES.get(primary, primary)} on {split.name}", subtitle, body | {"layer": layers}
    )


def _curves(histories: Mapping[str, Sequence[History]]) -> str:
    quantities = {
        "Validation loss": ("cross-entropy, nats", "valid_loss"),
        "Validation macro F1": ("macro F1", "valid_macro_f1"),
        "Training loss": ("cross-entropy, nats", "train_loss"),
    }
    figures = ""
    for title, (unit, field) in quantities.items():
        curves: dict[str, list[Curve]] = {
            method: [getattr(history, field) for history in runs] for method, runs in histories.items()
        }
        if any(len(curve.at) for runs in curves.values() for curve in runs):
            svg = to_svg(overlaid(title, unit, curves))
            figures += _figure(svg, f"Curves: {title.lower()} of every run over steps")
    return f'<div class="charts">{figures}</div>' if figures else ""


def overlaid(title: str, unit: str, curves: Mapping[str, Sequence[Curve]]) -> Spec:
    """One line for each run, one colour for each method."""
    points: list[Spec] = []
    for method, runs in curves.items():
        for number, curve in enumerate(runs):
            band = curve.band()
            steps, values = (band.at, band.mean) if band else (curve.at, curve.values)
            for step, value in zip(steps.tolist(), values.tolist(), strict=True):
                if np.isfinite(value):
                    points.append(
                        {"step": step, "value": value, "method": method, "run": f"{method} {number}"}
                    )
    names = list(curves)
    colours = [PALETTE[place % len(PALETTE)] for place in range(len(names))]
    encoding: Spec = {
        "x": {"field": "step", "type": "quantitative", "title": "optimizer step", "axis": {"grid": False, "format": ",d"}},
        "y": {"field": "value", "type": "quantitative", "title": unit, "scale": {"zero": False}},
        "detail": {"field": "run", "type": "nominal"},
        "color": {
            "field": "method", "type": "nominal", "scale": {"domain": names, "range": colours},
            "legend": {"symbolType": "stroke", "symbolOpacity": 1, "columns": 2, "labelLimit": _NAME_WIDTH},
        },
    }  # fmt: skip
    mark: Spec = {"type": "line", "strokeWidth": 2, "opacity": 0.85}
    body: Spec = {
        "data": {"values": points},
        "width": WIDTH,
        "height": HEIGHT,
        "encoding": encoding,
        "mark": mark,
    }
    return specification(title, None, body)


def _figure(svg: str, alternative: str) -> str:
    return f'<figure><div role="img" aria-label="{escape(alternative)}">{svg}</div></figure>'


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    header = "".join(f'<th scope="col" class="text">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="cell">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    label = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table>{label}<thead><tr>{header}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
