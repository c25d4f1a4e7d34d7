import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from wirebert.metrics.significance import DifferenceInterval
from wirebert.report.comparison import ClassEstimates, Comparison, Difference, MetricEstimate, SplitComparison
from wirebert.report.comparison_page import comparison_page, overlaid, summary_sentences, write_comparison
from wirebert.report.plots.chart import to_svg
from wirebert.telemetry.history import Curve, History

STANDING = MetricEstimate(value=0.5, std=None, intervals={"rows": (0.4, 0.6), "clusters": (0.2, 0.8)})


def difference(value: float, p: float) -> Difference:
    ways = {
        "rows": DifferenceInterval((0.0, 0.1), 0.001, 0.002),
        "clusters": DifferenceInterval((0.0, 0.1), p, p),
    }
    return Difference(first="ours", second="<i>trees", metric="macro_f1", value=value, intervals=ways)


def comparison(*differences: Difference) -> Comparison:
    split = SplitComparison(
        name="test",
        num_flows=100,
        num_clusters=3,
        estimates={"ours": {"macro_f1": STANDING}, "<i>trees": {"macro_f1": STANDING}},
        differences=differences,
    )
    return Comparison(title="<script>", primary="macro_f1", splits=(split,), facts={"ours": {"seeds": "1"}})


def test_a_difference_counts_only_if_every_bootstrap_agrees() -> None:
    above, below, level = summary_sentences(
        comparison(difference(0.1, 0.01), difference(-0.1, 0.01), difference(0.1, 0.3))
    )
    assert "ours is above <i>trees, in macro F1" in above
    assert "is below" in below
    assert "not significantly different" in level


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [named["href"] or ""] if tag == "a" else []


def test_the_page_is_whole_and_escapes_what_comes_from_the_data(tmp_path: Path) -> None:
    steps = np.arange(1.0, 4.0)
    records = [{"event": "epoch", "step": s, "valid_loss": 1 / s, "valid_macro_f1": 0.5} for s in steps]
    write_comparison(comparison(difference(0.1, 0.01)), tmp_path / "c.html", {"ours": [History.of(records)]})
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "i" not in page.tags
    assert {"table", "svg", "figure"} <= page.tags
    assert [link.removeprefix("#") for link in page.links] == [
        i for i in page.ids if i in {x[1:] for x in page.links}
    ]
    assert len(text) < 1_000_000


def test_what_there_is_nothing_of_has_no_section() -> None:
    bare = replace(comparison(), facts={})
    assert "Facts" not in comparison_page(bare)
    assert "Training curves" not in comparison_page(bare)


def test_each_class_has_its_f1_by_every_method_and_the_difference() -> None:
    (split,) = comparison(difference(0.1, 0.01)).splits
    of_dos = replace(difference(0.25, 0.01), metric="f1", class_name="<u>dos")
    classes = {"<u>dos": ClassEstimates(num_flows=1234, estimates={"ours": STANDING, "<i>trees": STANDING})}
    whole = replace(split, classes=classes, class_differences=(of_dos,))
    page = comparison_page(replace(comparison(), splits=(whole,)))
    told = page.split("F1 of each class</h3>")[1]
    assert '<th scope="row">&lt;u&gt;dos</th><td>1,234</td>' in told
    assert "F1 of &lt;u&gt;dos</td><td>+0.250" in told.replace('<td class="text">', "<td>")
    assert "F1 of each class" not in comparison_page(comparison(difference(0.1, 0.01)))


def test_each_run_is_a_line_and_each_method_a_colour() -> None:
    curve = Curve("loss", np.arange(3.0), np.array([3.0, 2.0, 1.0]))
    chart = overlaid("Loss", "nats", {"a": [curve, curve], "b": [curve]})
    assert [row[0] for row in chart.rows] == ["a", "a", "b"]
    svg = to_svg(chart.spec)
    colours = re.findall(r'class="mark-line role-mark[^>]*>.*?stroke="(#\w{6})"', svg)
    assert len(colours) == 3
    assert colours[0] == colours[1] != colours[2]
    for name in ("a", "b"):
        assert svg.count(f">{name}</text>") == 1


def test_no_spike_of_a_long_run_is_lost() -> None:
    values = np.ones(500_000)
    values[123_456] = 77.0
    chart = overlaid("Loss", "nats", {"a": [Curve("loss", np.arange(500_000.0), values)]})
    layers: Any = chart.spec["layer"]
    assert max(row.get("high", 0.0) for layer in layers for row in layer["data"]["values"]) == 77.0
    assert len(to_svg(chart.spec)) < 60_000
