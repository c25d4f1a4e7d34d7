from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from wirebert.metrics.split_metrics import compute_metrics
from wirebert.metrics.thresholds import ThresholdMetrics
from wirebert.report.html import page as page_module
from wirebert.report.html.page import page, write_page
from wirebert.report.plots.chart import draw
from wirebert.report.plots.run import run_charts
from wirebert.report.report import Report
from wirebert.telemetry.history import History

VOID = {"meta", "br", "wbr", "link", "img", "hr", "input"}
SVG = '<svg viewBox="0 0 9 9"></svg>'


class Checker(HTMLParser):
    """Fails on tags that are not closed in order; collects what tests ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text += data


def parse(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def sketch(report: Report, history: History | None = None) -> str:
    """The page with empty pictures; other tests check the pictures."""
    drawn = run_charts(report, history)
    return page(report, drawn, dict.fromkeys(drawn, SVG))


def test_the_page_is_well_formed_and_begins_with_the_summary(report: Report, history: History) -> None:
    checked = parse(sketch(report, history))
    headings = ["Summary", "Results on test", "Validation results", "Training", "Data", "Provenance"]
    first = [checked.text.index(f"{heading}") for heading in headings]
    assert first == sorted(first)
    assert (
        checked.text.index("accuracy is")
        < checked.text.index("Caveats")
        < checked.text.index("Classes of test")
    )


def test_pictures_are_part_of_the_page(report: Report) -> None:
    drawn = {name: chart for name, chart in run_charts(report).items() if name in ("classes", "roc_test")}
    checked = parse(page(report, drawn, draw(drawn)))
    assert sum(tag == "svg" for tag, _ in checked.tags) == 2
    ids = [attributes["id"] for _, attributes in checked.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))


def test_nothing_leaves_the_file(report: Report, history: History) -> None:
    for tag, attributes in parse(sketch(report, history)).tags:
        assert tag not in ("link", "iframe", "img", "object")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")


def test_texts_from_the_data_are_never_markup(report: Report) -> None:
    html = sketch(replace(report, name="<i>run", command="a && b <x>"))
    body = html.split("<script>")[0]
    for text in ("<b>probe", "<script>", "<i>run", "b <x>", "<u>http", "<i>back"):
        assert text not in body
    assert "a &amp;&amp; b &lt;x&gt;" in body


def test_no_control_character_of_a_name_reaches_the_page(report: Report) -> None:
    html = sketch(replace(report, name="run\x1b]0;x\x07", command="wirebert \u202e\x9b"))
    assert "run\\x1b]0;x\\x07" in html
    assert not set("\x1b\x07\x9b\u202e") & set(html.split("<script>")[0])


def test_every_chart_has_words_and_every_link_a_target(report: Report, history: History) -> None:
    checked = parse(sketch(report, history))
    ids = [attributes["id"] for _, attributes in checked.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = [str(attributes["href"])[1:] for tag, attributes in checked.tags if tag == "a"]
    assert set(targets) <= set(ids)
    images = [attributes for _, attributes in checked.tags if attributes.get("role") == "img"]
    assert len(images) == len(run_charts(report, history))
    assert all(attributes.get("aria-label") for attributes in images)


def test_a_report_without_baseline_training_and_benign_class_has_a_page(report: Report) -> None:
    bare = compute_metrics(np.array([0, 1]), np.eye(2), ("a", "b"), None, num_resamples=5)
    plain = replace(report, splits={"flows": bare}, baselines={}, training={}, settings={})
    checked = parse(sketch(plain))
    assert "attack" not in checked.text
    assert "Training" not in checked.text
    parse(sketch(replace(report, splits={})))


def test_findings_stand_by_weight_each_with_its_column_and_rows(report: Report) -> None:
    (known,) = report.data.findings
    findings = (
        replace(known, severity="info", column=None, message="first told"),
        replace(known, severity="error", column="port", count=12_345, message="worst"),
        replace(known, severity="error", is_accepted=True, message="taken as it is"),
    )
    html = sketch(replace(report, data=replace(report.data, findings=findings)))
    messages = ["worst", "first told", "taken as it is"]
    assert sorted(messages, key=html.index) == messages
    assert '<span class="error">error</span> <span class="range">port, 12,345 rows</span>' in html
    assert '<span class="range">accepted, &lt;script&gt;, 4 rows</span>' in html


def test_a_run_without_resource_samples_says_so(report: Report, history: History) -> None:
    assert "no resource usage" not in sketch(report, history)
    assert "no resource usage" in sketch(report, replace(history, resources=()))


def test_a_page_that_would_be_too_large_keeps_the_first_charts_alive(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = run_charts(report)
    pictures = dict.fromkeys(drawn, SVG.replace("></svg>", f"><desc>{'x' * 20_000}</desc></svg>"))
    whole = page(report, drawn, pictures)
    for most in (len(whole) - 10_000, len(whole) - 90_000, len(whole) - 250_000):
        monkeypatch.setattr(page_module, "MOST_BYTES", most)
        smaller = page(report, drawn, pictures)
        parse(smaller)
        assert len(smaller.encode()) <= most + 5_000  # what is left out leaves a line
        assert 'data-chart="classes"' in smaller or most < len(whole) - 200_000
    assert "see plots/calibration_valid.svg" in smaller


def test_the_page_is_written_whole(report: Report, tmp_path: Path) -> None:
    drawn = run_charts(report)
    write_page(report, tmp_path / "report.html", drawn, dict.fromkeys(drawn, SVG))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("fpr", "is_red"), [(0.053, True), (0.01, False)])
def test_the_rate_at_the_stored_threshold_is_red_where_it_is_off_its_target(
    fpr: float, is_red: bool, report: Report
):
    point = ThresholdMetrics(
        target_fpr=0.01,
        threshold=0.5,
        fpr=fpr,
        fpr_interval=(fpr - 0.005, fpr + 0.005),
        tpr=0.97,
        precision=None,
        precision_at_prevalence={},
        alerts_per_10000=1.0,
    )
    test = replace(report.splits["test"], deployed=point)
    shown = page(replace(report, splits={"test": test}), {}, {})
    assert (f'<dd class="value error">{100 * fpr:.2f} %' in shown) is is_red
    assert shown.index("false positives, stored threshold") < shown.index("<dt>accuracy")
    assert "97.0 %" in shown


@pytest.mark.slow
def test_half_a_million_flows_make_a_page_below_three_megabytes(
    report: Report, history: History, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 3, 500_000)
    odds = rng.dirichlet(np.ones(3), 500_000) + 2 * np.eye(3)[ids]
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    metrics = compute_metrics(ids, probabilities, ("normal", "dos", "probe"), "normal", num_resamples=2)
    mistakes = tuple(
        replace(
            report.splits["test"].mistakes[0], row=row, flow={f"column_{n}": f"{n}" * 6 for n in range(80)}
        )
        for row in range(200)
    )
    whole = replace(report, splits={"test": replace(metrics, mistakes=mistakes)}, baselines={})
    drawn = run_charts(whole, history)
    write_page(whole, tmp_path / "report.html", drawn, draw(drawn))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    curve = metrics.curves.attack if metrics.curves else None
    assert curve is not None
    assert len(curve.thresholds) < 500  # thinned, and the page says how many there are
    assert "The slider stops at" in (tmp_path / "report.html").read_text(encoding="utf-8")
