"""A slider over the alert threshold: what a choice means for detection, false alarms and work a day.

The page's script (`page.js`) moves it. The counts at each point are in the page, so all figures are exact.
"""

import json
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from wirebert.metrics.split_metrics import SplitMetrics

FIGURES: Final = {
    "tpr": "attacks found (TPR)",
    "fpr": "false alarms among benign flows (FPR)",
    "alerts": "alerts a day",
    "false_alerts": "false alerts a day",
    "precision": "share of alerts that are attacks",
    "missed": "attacks missed a day",
    "cells": "here: attacks found, missed; false alarms, passed",
}
"""Key of a figure in the script -> its name."""

_FLOWS_A_DAY: Final = 100_000
_ATTACKS_PER_THOUSAND: Final = 1


def slider(name: str, metrics: SplitMetrics) -> Markup:
    """The slider of a split, hidden where no script runs; nothing without attacks or benign flows."""
    points = slider_points(metrics)
    if not points:
        return Markup("")
    deployed = None if metrics.deployed is None else metrics.deployed.threshold
    start = next(
        (at for at, (threshold, *_) in enumerate(points) if deployed is not None and threshold <= deployed), 0
    )
    rows = "".join(
        f'<tr><th scope="row">{escape(title)}</th><td data-figure="{key}"></td></tr>'
        for key, title in FIGURES.items()
    )
    data = escape(json.dumps(points, separators=(",", ":")))
    key = escape(name)
    return Markup(
        f'<div class="slider" data-points="{data}" hidden>'
        f'<p><label for="threshold-{key}">Alert threshold</label> '
        f'<input id="threshold-{key}" data-choice="point" type="range" min="0" max="{len(points) - 1}" '
        f'value="{start}"> <output for="threshold-{key}" data-figure="threshold"></output></p>'
        f'<p><label>flows a day <input data-choice="flows" type="number" min="1" value="{_FLOWS_A_DAY}">'
        '</label> <label>attacks in 1,000 flows <input data-choice="attacks" type="number" min="0" '
        f'max="1000" step="any" value="{_ATTACKS_PER_THOUSAND}"></label></p>'
        f'<table aria-live="polite"><caption class="unseen">At this threshold, on {key}</caption>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def slider_points(metrics: SplitMetrics) -> Sequence[tuple[float, int, int]]:
    """Threshold, attacks and benign flows that raise an alert there, from the highest threshold down.

    At the last point every flow does.
    """
    curve = None if metrics.curves is None else metrics.curves.attack
    if curve is None or not curve.thresholds:
        return ()
    points = list(zip(curve.thresholds, curve.num_true_positives, curve.num_false_positives, strict=True))
    return points if points[-1][1] and points[-1][2] else ()
