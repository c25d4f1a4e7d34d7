"""A slider over the alert threshold: what a choice means for detection, false alarms, work and cost a day.

The page's script (`deployment.js`) moves it. The counts at each stop are in the page, so all figures are
exact.
"""

import json
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.html.parts import paragraph

FIGURES: Final = {
    "tpr": "attacks found",
    "fpr": "false alarms (FPR)",
    "alerts": "alerts a day",
    "precision": "precision",
    "false_alerts": "false alarms a day",
    "missed": "missed a day",
    "cost": "cost a day",
}
"""Key of a figure in the script -> its name."""

_CHOICES: Final = {
    "flows": ("flows a day", 100_000),
    "attacks": ("attacks in 1,000 flows", 1),
    "cost_missed": ("cost of a missed attack", 1000),
    "cost_false": ("cost of a false alarm", 10),
}
"""Key of a choice of the reader -> its label and first value."""
_CELLS: Final = {"attack": ("found", "unfound"), "benign": ("alarms", "passed")}
"""What a flow is -> key of its count with an alert, and without."""


def slider(name: str, metrics: SplitMetrics) -> Markup:
    """The slider of a split, hidden where no script runs; nothing without attacks or benign flows."""
    points = slider_points(metrics)
    if not points:
        return Markup("")
    deployed = None if metrics.deployed is None else metrics.deployed.threshold
    start = next(
        (at for at, (threshold, *_) in enumerate(points) if deployed is not None and threshold <= deployed), 0
    )
    cards = "".join(
        f'<div><dt>{escape(title)}</dt><dd class="value" data-figure="{key}"></dd></div>'
        for key, title in FIGURES.items()
    )
    choices = "".join(
        f'<label>{label} <input data-choice="{key}" type="number" min="0" step="any" value="{value}"></label>'
        for key, (label, value) in _CHOICES.items()
    )
    rows = "".join(
        f'<tr><th scope="row">{what}</th>'
        + "".join(
            f'<td><span data-figure="{cell}"></span> '
            f'<span class="range" data-figure="{cell}_a_day"></span></td>'
            for cell in cells
        )
        + "</tr>"
        for what, cells in _CELLS.items()
    )
    data = escape(json.dumps(points, separators=(",", ":")))
    key = escape(name)
    first = "stored threshold" if deployed is not None else "highest threshold"
    note = (
        f"The slider stops at {len(points):,} thresholds of {name}; the counts at each are exact. A "
        "threshold that is chosen here was chosen on these flows: set it on your own traffic with "
        "`wirebert calibrate`."
    )
    return Markup(
        f'<div class="slider" data-points="{data}" data-start="{start}" hidden>'
        f'<p class="lever"><label for="threshold-{key}">Alert threshold</label> '
        f'<input id="threshold-{key}" data-choice="point" type="range" min="0" max="{len(points) - 1}" '
        f'value="{start}"> <output for="threshold-{key}" data-figure="threshold"></output>'
        f'<span class="buttons"><button type="button" data-go="start">{first}</button>'
        '<button type="button" data-go="cheapest">lowest cost</button></span></p>'
        f'<div class="choices">{choices}</div><dl class="cards" aria-live="polite">{cards}</dl>'
        f'<table class="matrix"><caption>Flows of {key} at this threshold, and a day</caption><thead><tr>'
        '<th scope="col">flow</th><th scope="col">alert</th><th scope="col">no alert</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{paragraph(note, 'faint')}</div>"
    )


def slider_points(metrics: SplitMetrics) -> Sequence[tuple[float, int, int]]:
    """Threshold, attacks and benign flows that raise an alert there, from the highest threshold down.

    At the last point every flow does; the thresholds of the tables are among the points.
    """
    curve = None if metrics.curves is None else metrics.curves.attack
    if curve is None or not curve.thresholds:
        return ()
    points = list(zip(curve.thresholds, curve.num_true_positives, curve.num_false_positives, strict=True))
    _, num_attacks, num_benign = points[-1]
    if not num_attacks or not num_benign:
        return ()
    # The curve is thinned; the thresholds that the tables name are stops too.
    named = [
        (point.threshold, round(point.tpr * num_attacks), round(point.fpr * num_benign))
        for point in (metrics.deployed, *metrics.operating_points)
        if point is not None and point.tpr is not None and point.fpr is not None
    ]
    return sorted({*points, *named}, key=lambda point: (-point[0], *point[1:]))
