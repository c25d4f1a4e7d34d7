"""Charts of the probabilities of a split: ROC, precision and recall, score distribution, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log10

from wirebert.metrics.curves import ScoreCurve, ScoreHistogram
from wirebert.metrics.reliability import Reliability, ReliabilityBin
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.metrics.thresholds import wilson_interval
from wirebert.report.plots.chart import (
    ACCENT,
    FAINT_INK,
    PALETTE,
    SECOND,
    WIDTH,
    Chart,
    Spec,
    Switch,
    nearest,
    specification,
    zoom,
)

ATTACK = "attack vs. benign"
EVERY_CLASS = "each class"

MIN_BIN_FLOWS = 30
"""Flows below which a bin of the reliability diagram is not drawn."""
_BINS_NOTE = f"bins of at least {MIN_BIN_FLOWS} flows, with 95 % intervals"
_AREAS = ("curve", "AUROC", "average precision", "flows")
_TALL = 260
_SHARE: Spec = {
    "type": "quantitative",
    "scale": {"domain": [0, 1]},
    "axis": {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f", "labelFlush": True},
}
"""Type, scale and axis of a value between 0 and 1."""

_SCORE_TOOLTIP: list[Spec] = [
    {"field": "name", "title": " "},
    {"field": "low", "title": "score from", "format": ".3f"},
    {"field": "flows", "title": "flows", "format": ","},
    {"field": "share", "title": "fraction", "format": ".2%"},
]

_FADED = "#8fa3bf"
"""One colour for curves that are too many to have a colour each."""


@dataclass(frozen=True, slots=True)
class _Line:
    """One curve to draw."""

    key: str
    """Value of the class filter that shows this curve."""
    name: str
    colour_key: str
    curve: ScoreCurve


def roc(metrics: SplitMetrics, title: str, trees: SplitMetrics | None = None) -> Chart:
    """Detection rate against false positive rate, of attacks and of each class against the rest; linear or
    logarithmic."""
    lines = _lines(metrics, trees)
    axis = Switch("axis", "False positive rate", {"log": "logarithmic", "linear": "linear"})
    rows: list[Mapping[str, object]] = []
    fewest = 1.0
    for line in lines:
        total, rest = line.curve.num_true_positives[-1], line.curve.num_false_positives[-1]
        fewest = min(fewest, 1 / rest)
        points = zip(line.curve.num_true_positives, line.curve.num_false_positives, strict=True)
        rows += [
            {"line": line.name, "x": _short(false / rest), "y": _short(hits / total)}
            for hits, false in [(0, 0), *points]
        ]
    decades = max(1, ceil(-log10(fewest)))
    x: Spec = {
        "field": "place", "type": "quantitative", "title": "false positive rate (FPR)",
        "scale": {
            "domain": {"expr": f"axis == 'log' ? [{-decades}, 0] : [0, 1]"}, "nice": False, "zero": False,
        },
        "axis": {
            "values": {"expr": f"axis == 'log' ? {list(range(-decades, 1))} : [0, 0.25, 0.5, 0.75, 1]"},
            "labelExpr": "axis == 'log' ? format(pow(10, datum.value), '~g') : format(datum.value, '.2~f')",
            "labelFlush": True,
        },
    }  # fmt: skip
    position: Spec = {
        "calculate": f"axis == 'log' ? log(max(datum.x, {10.0**-decades})) / LN10 : datum.x", "as": "place",
    }  # fmt: skip
    shown = [("detection rate (TPR)", "y", ".2%"), ("false positive rate (FPR)", "x", ".3~%")]
    note = "One class against the rest" if metrics.curves and not metrics.curves.attack else None
    words = f"{title}: areas under the curves are " + _areas(lines, "auroc") + "."
    return _curves(title, note, words, rows, lines, x, shown, [position], [axis])


def precision_recall(metrics: SplitMetrics, title: str, trees: SplitMetrics | None = None) -> Chart:
    """Precision against recall, of attacks and of each class against the rest."""
    lines = _lines(metrics, trees)
    rows: list[Mapping[str, object]] = []
    for line in lines:
        total = line.curve.num_true_positives[-1]
        points = list(zip(line.curve.num_true_positives, line.curve.num_false_positives, strict=True))
        start = points[0][0] / sum(points[0])
        rows += [
            {"line": line.name, "place": _short(x), "y": _short(y)}
            for x, y in [(0.0, start), *((hits / total, hits / (hits + false)) for hits, false in points)]
        ]
    x: Spec = {"field": "place", "title": "recall", **_SHARE}
    shown = [("precision", "y", ".2%"), ("recall", "place", ".2%")]
    words = f"{title}: average precisions are " + _areas(lines, "average_precision") + "."
    return _curves(title, None, words, rows, lines, x, shown)


def scores(histogram: ScoreHistogram, title: str) -> Chart:
    """Distribution of the attack scores: fraction of the flows of each class in each bin."""
    benign = histogram.benign
    groups = {name: counts for name, counts in histogram.counts.items() if name != benign}
    columns = list(zip(*groups.values(), strict=True))
    lines = {"benign": (benign, "benign flows", histogram.counts.get(benign, ()))}
    lines["attack"] = ("attack", "all attacks", tuple(map(sum, columns)))
    lines |= {f"class {name}": ("attack", name, counts) for name, counts in groups.items()}
    largest = max((sum(counts) for _, _, counts in lines.values()), default=1)
    floor = 10.0 ** -max(1, ceil(log10(max(largest, 1))))
    rows: list[Mapping[str, object]] = []
    for key, (_, name, counts) in lines.items():
        total = max(1, sum(counts))
        rows += [
            {
                "key": key, "name": name, "group": "benign" if key == "benign" else "attacks", "flows": count,
                "low": index / histogram.num_bins, "high": (index + 1) / histogram.num_bins,
                "share": _short(count / total), "top": _short(max(count / total, floor)), "floor": floor,
            }
            for index, count in enumerate(counts)
            if count
        ]  # fmt: skip
    options = {"attack": "all attacks", **{f"class {name}": name for name in groups}, "none": "none"}
    switch = Switch("shown", "Attacks", options)
    x: Spec = {"field": "low", "title": "attack score", **_SHARE}
    y: Spec = {
        "field": "top", "type": "quantitative", "title": "fraction of the flows",
        "scale": {"type": "log", "domain": [floor, 1]},
        "axis": {"format": "~%", "values": [10.0**-k for k in range(round(-log10(floor)) + 1)]},
    }  # fmt: skip
    colour: Spec = {
        "field": "group", "type": "nominal",
        "scale": {"domain": ["benign", "attacks"], "range": [ACCENT, SECOND]},
    }  # fmt: skip
    bars: Spec = {
        "mark": {"type": "bar", "opacity": 0.6, "cornerRadiusEnd": 1},
        "encoding": {
            "x": x, "x2": {"field": "high"}, "y": y, "y2": {"field": "floor"},
            "color": colour, "tooltip": _SCORE_TOOLTIP,
        },
    }  # fmt: skip
    body: Spec = {
        "data": {"values": rows},
        "params": [switch.to_spec()],
        "transform": [{"filter": "datum.key == 'benign' || datum.key == shown"}],
        "width": WIDTH,
        "height": _TALL - 40,
        "layer": [bars],
    }
    return Chart(
        spec=specification(title, "Logarithmic scale; fractions of the benign and of the attack flows", body),
        words=f"{title}: {_beyond(lines['benign'][2]):.1%} of the benign flows and "
        f"{_beyond(lines['attack'][2]):.1%} "
        "of the attacks have a score above one half.",
        head=("class", "below 0.1", "0.1 to 0.5", "0.5 to 0.9", "above 0.9"),
        rows=tuple((name, *_quarters(counts)) for _, name, counts in lines.values()),
        switches=(switch,),
    )


def calibration(metrics: SplitMetrics, title: str) -> Chart:
    """Predicted probability against observed frequency; a calibrated model is on the diagonal."""
    assert metrics.calibration is not None
    kinds = {"predicted class": metrics.calibration.verdict}
    if metrics.calibration.attack is not None:
        kinds["attack score"] = metrics.calibration.attack
    rows = [_bin(kind, part) for kind, one in kinds.items() for part in large_bins(one)]
    x: Spec = {"field": "predicted", "title": "predicted probability", **_SHARE}
    y: Spec = {"field": "observed", "title": "observed frequency", **_SHARE}
    colour: Spec = {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": list(kinds), "range": list(PALETTE)},
    }
    scale: Spec = {"type": "sqrt", "range": [20, 320]}
    size: Spec = {"field": "flows", "type": "quantitative", "scale": scale, "legend": None}
    tooltip: list[Spec] = [
        {"field": "kind", "title": " "},
        {"field": "predicted", "title": "predicted probability", "format": ".1%"},
        {"field": "observed", "title": "observed frequency", "format": ".1%"},
        {"field": "low", "title": "95 % interval from", "format": ".1%"},
        {"field": "high", "title": "to", "format": ".1%"},
        {"field": "flows", "title": "flows", "format": ","},
    ]
    layers: list[Spec] = [
        {
            "data": {"values": [{"predicted": 0, "observed": 0}, {"predicted": 1, "observed": 1}]},
            "mark": {"type": "line", "color": FAINT_INK, "strokeDash": [4, 3], "strokeWidth": 1},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.4},
            "encoding": {"x": x, "y": y, "color": colour},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "x": x,
                "y": {**y, "field": "low"},
                "y2": {"field": "high"},
                "color": colour,
            },
        },
        {
            "mark": {"type": "circle", "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "size": size, "tooltip": tooltip},
        },
    ]
    body: Spec = {"data": {"values": rows}, "width": WIDTH, "height": _TALL, "layer": layers}
    errors = ", ".join(f"{diagram.expected_error:.3f} ({kind})" for kind, diagram in kinds.items())
    return Chart(
        spec=specification(title, f"Expected calibration error {errors}; {_BINS_NOTE}", body),
        words=f"{title}: expected calibration error {errors}. Below the diagonal the model is overconfident.",
        head=("probability of", "predicted", "observed", "flows"),
        rows=tuple(row for kind, diagram in kinds.items() for row in _bin_rows(kind, diagram)),
    )


def large_bins(diagram: Reliability) -> list[ReliabilityBin]:
    """The bins that are drawn."""
    return [part for part in diagram.bins if part.num_flows >= MIN_BIN_FLOWS]


def _bin(kind: str, part: ReliabilityBin) -> Spec:
    """A point of the reliability diagram, with its 95 % interval."""
    low, high = wilson_interval(round(part.observed_frequency * part.num_flows), part.num_flows)
    values = {"predicted": part.probability, "observed": part.observed_frequency, "low": low, "high": high}
    return {"kind": kind, "flows": part.num_flows, **{name: _short(value) for name, value in values.items()}}


def _lines(metrics: SplitMetrics, trees: SplitMetrics | None) -> list[_Line]:
    """The available curves: attacks, attacks by the baseline, each class that some but not all flows are
    of."""
    assert metrics.curves is not None
    classes: Mapping[str, ScoreCurve] = metrics.curves.classes
    defined = {name: curve for name, curve in classes.items() if curve.auroc is not None}
    # One colour per class while colours are distinguishable; beyond that one for all, and the filter selects.
    few = len(defined) <= len(PALETTE) - 2
    lines: list[_Line] = []
    if metrics.curves.attack is not None and metrics.curves.attack.auroc is not None:
        lines.append(_Line("attack", ATTACK, ATTACK, metrics.curves.attack))
        baseline = trees.curves.attack if trees is not None and trees.curves is not None else None
        if baseline is not None and baseline.auroc is not None:
            name = f"boosted trees, {ATTACK}"
            lines.append(_Line("attack", name, name, baseline))
    lines += [
        _Line(f"class {name}", name, name if few else EVERY_CLASS, curve) for name, curve in defined.items()
    ]
    return lines


def _class_filter(lines: list[_Line]) -> Switch:
    names = {line.key: line.name for line in reversed(lines)}
    every = {"all": "all classes"}
    return Switch(
        "shown", "Class", every | {key: names[key] for key in dict.fromkeys(line.key for line in lines)}
    )


def _curves(
    title: str,
    note: str | None,
    words: str,
    rows: list[Mapping[str, object]],
    lines: list[_Line],
    x: Spec,
    shown: list[tuple[str, str, str]],
    transform: Sequence[Spec] = (),
    switches: Sequence[Switch] = (),
) -> Chart:
    """The chart of these lines; `shown` are name, field and format of a point's values, that of y first."""
    unit = shown[0][0]
    y: Spec = {
        "field": "y", "type": "quantitative", "title": unit, "scale": {"domain": [0, 1]},
        "axis": {"values": [0, 0.25, 0.5, 0.75, 1], "format": ".2~f"},
    }  # fmt: skip
    switches = [*switches, _class_filter(lines)]
    domain = list(dict.fromkeys(line.colour_key for line in lines))
    colours = [_FADED if key == EVERY_CLASS else PALETTE[i] for i, key in enumerate(domain)]
    colour: Spec = {
        "field": "colour", "type": "nominal", "scale": {"domain": domain, "range": colours},
        "legend": {"symbolType": "stroke", "symbolOpacity": 1},
    }  # fmt: skip
    encoding: Spec = {"x": x, "y": y, "color": colour, "detail": {"field": "line"}}
    tooltip: list[Spec] = [
        {"field": "line", "title": " "},
        *({"field": field, "title": name, "format": form} for name, field, form in shown),
    ]
    thick: Spec = {"condition": {"test": "datum.key == 'attack'", "value": 2.5}, "value": 1.3}
    plain: Spec = {"condition": {"test": f"datum.colour == '{EVERY_CLASS}'", "value": 0.6}, "value": 1}
    layers: list[Spec] = [
        {
            "params": [zoom("x", "y")],
            "mark": {
                "type": "line",
                "clip": True,
                "interpolate": "step-before" if unit == "precision" else "step-after",
            },
            "encoding": encoding | {"strokeWidth": thick, "opacity": plain, "order": {"value": None}},
        },
        nearest(encoding, tooltip),
    ]
    body: Spec = {
        "data": {"values": rows},
        "params": [switch.to_spec() for switch in switches],
        "transform": [*transform, _looked_up(lines), {"filter": "shown == 'all' || datum.key == shown"}],
        "width": WIDTH,
        "height": _TALL,
        "layer": layers,
    }
    return Chart(
        spec=specification(title, note, body, legend_columns=2),
        words=words,
        head=_AREAS,
        rows=_area_rows(lines),
        switches=tuple(switches),
    )


def _looked_up(lines: list[_Line]) -> Spec:
    """Key and colour of each row by its line; repeated at every point they would be most of the page."""
    table: list[Spec] = [{"line": line.name, "key": line.key, "colour": line.colour_key} for line in lines]
    return {
        "lookup": "line",
        "from": {"data": {"values": table}, "key": "line", "fields": ["key", "colour"]},
    }


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _areas(lines: list[_Line], field: str) -> str:
    return (
        ", ".join(f"{_format(getattr(line.curve, field))} ({line.name})" for line in lines[:6]) or "unknown"
    )


def _area_rows(lines: list[_Line]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            line.name,
            _format(line.curve.auroc),
            _format(line.curve.average_precision),
            f"{line.curve.num_true_positives[-1]:,}",
        )
        for line in lines
    )


def _beyond(counts: tuple[int, ...]) -> float:
    """Fraction in the upper half."""
    return sum(counts[len(counts) // 2 :]) / max(1, sum(counts))


def _quarters(counts: tuple[int, ...]) -> tuple[str, ...]:
    size = len(counts)
    ends = [0, size // 10, size // 2, size - size // 10, size]
    total = max(1, sum(counts))
    return tuple(f"{sum(counts[a:b]) / total:.1%}" for a, b in pairwise(ends))


def _bin_rows(kind: str, diagram: Reliability) -> list[tuple[str, ...]]:
    return [
        (kind, f"{part.probability:.1%}", f"{part.observed_frequency:.1%}", f"{part.num_flows:,}")
        for part in diagram.bins
    ]
