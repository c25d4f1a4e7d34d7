import json
from typing import Any

import numpy as np
import pytest

from wirebert.report.plots.chart import Chart, to_svg
from wirebert.report.plots.lines import above, line_chart, spans_magnitudes
from wirebert.telemetry.history import Curve


def values_of(chart: Chart) -> list[dict[str, Any]]:
    layers: Any = chart.spec["layer"]
    return [row for layer in layers for row in layer["data"]["values"]]


@pytest.mark.parametrize("num_steps", [0, 1, 5, 500_000])
def test_a_curve_of_any_length_is_drawn_small(num_steps: int) -> None:
    steps = np.arange(1.0, num_steps + 1)
    chart = line_chart("Loss", "nats", [Curve("training", steps, 1 / steps)], log=True)
    svg = to_svg(chart.spec)
    assert "NaN" not in svg
    assert len(svg) < 60_000
    assert len(json.dumps(chart.spec)) < 100_000
    assert f"{num_steps:,}" == chart.rows[0][1]


def test_no_spike_of_a_long_curve_is_lost() -> None:
    values = np.ones(500_000)
    values[123_456], values[400_000] = 77.0, -5.0
    chart = line_chart("Gradient norm", "norm", [Curve("norm", np.arange(500_000.0), values)])
    drawn = values_of(chart)
    assert max(row.get("high", row["value"]) for row in drawn) == 77.0
    assert min(row["value"] for row in drawn) == -5.0
    assert chart.rows[0] == ("norm", "500,000", "1", "-5", "1", "77", "1")


def test_each_curve_has_its_line_and_its_words() -> None:
    curves = [Curve(name, np.arange(3.0), np.arange(3.0) + k) for k, name in enumerate(("a", "b"))]
    chart = line_chart("Two", "unit", curves, marked=(1.0, "the one that was kept"))
    svg = to_svg(chart.spec)
    assert svg.count('stroke-dasharray="4,3"') == 1
    for name in ("a", "b"):
        assert f">{name}</text>" in svg
    assert "a goes from 0 to 2, between 0 and 2" in chart.words
    assert "the one that was kept" in json.dumps(chart.spec)


def test_the_ends_of_a_schedule_are_left_out_where_a_logarithm_runs_off() -> None:
    curve = above(Curve("rate", np.arange(4.0), np.array([0.0, 1.0, 0.5, 1e-9])), 1e-2)
    assert curve.at.tolist() == [1.0, 2.0]
    assert len(above(Curve("rate", np.empty(0), np.empty(0)), 1e-2).at) == 0


def test_only_positive_curves_over_magnitudes_get_a_logarithm() -> None:
    def curve(*values: float) -> Curve:
        return Curve("x", np.arange(float(len(values))), np.array(values))

    assert spans_magnitudes(curve(0.01, 1.0))
    assert not spans_magnitudes(curve(0.5, 1.0))
    assert not spans_magnitudes(curve(0.0, 1.0))
    assert not spans_magnitudes(curve())
