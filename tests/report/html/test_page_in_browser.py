"""The report page as a browser shows it: Chromium from the system's packages, without a window, without a
network."""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from wirebert.metrics.significance import LabelledRows
from wirebert.metrics.split_metrics import compute_metrics
from wirebert.report.comparison import Comparison, Predictions, compare_methods
from wirebert.report.comparison_page import write_comparison
from wirebert.report.html.page import write_page
from wirebert.report.plots.chart import draw
from wirebert.report.plots.run import run_charts
from wirebert.report.report import Report
from wirebert.telemetry.history import Curve, History

pytestmark = pytest.mark.slow

LEAST_CHARTS = 19  # of a run too short for curves of the machine's use
WIDTHS = {"telephone": 390, "desk": 1440}


@pytest.fixture(scope="session")
def nsl_kdd(data_dir: Path, tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> Path:
    """A run on some rows of NSL-KDD: no header, labels that are attack names, five classes."""
    from wirebert.cli.main import main

    folder = tmp_path_factory.mktemp("nsl-kdd")
    for name, num_rows in (("KDDTrain+.txt", 4000), ("KDDTest+.txt", 1500)):
        with gzip.open(data_dir / "nsl-kdd" / f"{name}.gz", "rt") as file:
            (folder / name).write_text("".join(islice(file, num_rows)))
    data = [str(folder / "KDDTrain+.txt"), "--test", str(folder / "KDDTest+.txt")]
    assert main(["train", *data, "--out", str(folder / "run"), *tiny]) == 0
    return folder / "run"


@pytest.fixture(scope="session")
def large(report: Report, history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty classes of long names, curves of half a million steps, and a path that nothing divides."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 40, 20_000)
    odds = np.exp(rng.normal(size=(20_000, 40)) + 2 * np.eye(40)[ids])
    names = ("normal", *(f"attack_of_some_kind_{i}" for i in range(1, 40)))
    figures = compute_metrics(ids, odds / odds.sum(axis=1, keepdims=True), names, "normal", num_resamples=20)
    splits = {name: replace(figures, mistakes=report.splits["test"].mistakes) for name in ("valid", "test")}
    trees = {name: replace(rival, splits=splits) for name, rival in report.baselines.items()}
    steps = np.arange(1.0, 500_001.0)
    drawn = ("train_loss", "grad_norm", "rows_per_s", "tokens_per_s", "backbone_rate", "classifier_rate")
    curves = {name: Curve(name, steps, rng.lognormal(size=500_000)) for name in drawn}
    data = replace(report.data, files=(f"/{'folder' * 12}/flows.csv",))
    whole = replace(report, splits=splits, baselines=trees, data=data)
    charts = run_charts(whole, replace(history, **curves))
    folder = tmp_path_factory.mktemp("large")
    write_page(whole, folder / "report.html", charts, draw(charts))
    return folder


@pytest.fixture(scope="session")
def compared(history: History, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three methods, two of them with three seeds."""
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 600)
    judged = LabelledRows(true_ids=true, num_labels=3, benign=0, clusters=np.where(true == 0, -1, true * 2))
    methods = [
        Predictions(name=name, predicted=np.where(rng.random((num_seeds, 600)) < wrong, (true + 1) % 3, true))
        for name, wrong, num_seeds in (
            ("wirebert", 0.1, 3),
            ("gradient boosting", 0.2, 3),
            ("forest", 0.1, 1),
        )
    ]
    split = compare_methods("test", judged, methods, ["macro_f1"], num_resamples=100)
    facts = {method.name: {"seeds": "1, 2, 3", "training (s)": "1.0"} for method in methods}
    settings = {"training.learning_rate": ("0.001", "0.1", "-")}
    whole = Comparison(
        title="three methods",
        primary="macro_f1",
        splits=(split, replace(split, name="other")),
        facts=facts,
        settings=settings,
        notes=("A note.",),
    )
    folder = tmp_path_factory.mktemp("compared")
    write_comparison(whole, folder / "report.html", {"wirebert": [history] * 3, "forest": [history]})
    return folder


RUNS: dict[str, str] = {"generated": "trained", "nsl-kdd": "nsl_kdd"}


def on(page: str, *words: str) -> Any:
    """A parameter; the page of NSL-KDD has the charts of generated traffic, and is left to the soak."""
    marks = [pytest.mark.soak] if page == "nsl-kdd" else []
    return pytest.param(*words or (page,), marks=marks, id="-".join(words or (page,)))


@pytest.fixture(scope="session", params=[on(page) for page in RUNS])
def report_page(request: pytest.FixtureRequest) -> Path:
    run: Path = request.getfixturevalue(RUNS[request.param])
    return run / "report.html"


SCALES = """() => Object.fromEntries([...document.querySelectorAll('figure svg')].map((svg, place) => [
  svg.closest('figure').dataset.chart ?? place, svg.getBoundingClientRect().width /
  svg.viewBox.baseVal.width]))"""

CUT = """() => [...document.querySelectorAll('figure svg')].flatMap((svg) => {
  const own = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter((text) => {
    const box = text.getBoundingClientRect();
    // A letter's box is higher than the letter.
    return box.width && (box.left < own.left || box.right > own.right || box.top < own.top - 2 || box.bottom >
    own.bottom + 2);
  }).map((text) => `${svg.closest('figure').dataset.chart}: ${text.textContent}`);
})"""

OVERLAPPING = """() => [...document.querySelectorAll('figure svg')].flatMap((svg) => {
  const texts = [...svg.querySelectorAll(`[class*=role-axis] text, [class*=role-legend] text,
  [class*=role-title] text`)]
    .filter((text) => text.textContent.trim() && getComputedStyle(text).opacity !== '0')
    .map((text) => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([one, a], place) => texts.slice(place + 1)
    .filter(([, b]) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
                    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4)
    .map(([other]) => `${svg.closest('figure').dataset.chart}: ${one} | ${other}`));
})"""


def until(page: Page, claim: str, arg: Any = None) -> None:
    """Wait for a claim; Playwright's own waiting makes code inside the page, which the page's policy
    forbids."""
    for _ in range(600):
        if page.evaluate(claim, arg):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {claim}")


class Opened:
    """A page with every chart brought to life, and what it said on the way."""

    def __init__(self, browser: Browser, path: Path, width: int, **settings: Any) -> None:
        self.path = path
        self.context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def enliven(self) -> "Opened":
        self.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for figure in self.page.query_selector_all("figure[data-chart]"):
            figure.scroll_into_view_if_needed()
        until(
            self.page, "[...document.querySelectorAll('figure[data-chart]')].every((one) => one.dataset.live)"
        )
        return self


PAGES = (*RUNS, "large")
SEEN = [on(page, f"{page} {width} wide") for page in PAGES for width in WIDTHS] + [
    on(page, f"{page} telephone narrow") for page in PAGES
]


@pytest.fixture(scope="module", params=SEEN)
def opened(request: pytest.FixtureRequest, launch: Callable[[str], Browser]) -> Iterator[Opened]:
    """Pages of ordinary runs and one of a large one, at each width, in letters that are wide or narrow."""
    page, width, fonts = str(request.param).split()
    run: Path = request.getfixturevalue(RUNS.get(page, page))
    opened = Opened(launch(fonts), run / "report.html", WIDTHS[width]).enliven()
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def desk(browser: Browser, report_page: Path) -> Iterator[Page]:
    opened = Opened(browser, report_page, WIDTHS["desk"]).enliven()
    yield opened.page
    opened.context.close()


def test_nothing_is_complained_about_and_no_request_leaves_the_file(opened: Opened) -> None:
    assert opened.said == []
    assert opened.asked == [opened.path.as_uri()]


def test_the_file_is_at_most_five_megabytes(opened: Opened) -> None:
    assert opened.path.stat().st_size <= 5_000_000


def test_every_chart_has_marks(opened: Opened) -> None:
    marks: dict[str, int] = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('figure[data-chart]')].map((figure) => [
             figure.dataset.chart,
             figure.querySelectorAll(`svg .role-mark path[d], svg .role-mark line, svg .role-mark
             text`).length]))"""
    )
    assert len(marks) >= LEAST_CHARTS
    assert min(marks.values()) >= 1, marks


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_chart_is_shrunk_until_it_can_not_be_read(opened: Opened) -> None:
    scales: dict[str, float] = opened.page.evaluate(SCALES)
    assert min(scales.values()) >= 0.8, scales  # 12 pixels of text stay 9.6


def test_a_chart_of_any_width_fits_its_place_at_full_size(opened: Opened) -> None:
    excess: dict[str, float] = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('figure.fluid svg')].map((svg) => [
             svg.closest('figure').dataset.chart,
             svg.viewBox.baseVal.width - svg.closest('.picture').clientWidth]))"""
    )
    assert max(excess.values()) <= 0, excess


def test_no_text_of_a_chart_is_cut_off_or_lies_on_another(opened: Opened) -> None:
    assert opened.page.evaluate(CUT) == []
    assert opened.page.evaluate(OVERLAPPING) == []


@pytest.mark.parametrize(
    ("name", "width", "scheme", "fonts"),
    [
        ("generated", "telephone", "light", "wide"),
        ("generated", "desk", "dark", "narrow"),
        on("nsl-kdd", "nsl-kdd", "telephone", "dark", "narrow"),
        on("nsl-kdd", "nsl-kdd", "desk", "light", "wide"),
    ],
)
def test_an_accessibility_check_finds_no_violation(
    request: pytest.FixtureRequest,
    launch: Callable[[str], Browser],
    name: str,
    width: str,
    scheme: str,
    fonts: str,
) -> None:
    run: Path = request.getfixturevalue(RUNS[name])
    opened = Opened(launch(fonts), run / "report.html", WIDTHS[width], color_scheme=scheme).enliven()
    result = Axe().run(opened.page)
    opened.context.close()
    assert result.violations_count == 0, result.generate_report()


@pytest.mark.parametrize("fonts", ["wide", "narrow"])
@pytest.mark.parametrize(("width", "scheme"), [("telephone", "light"), ("desk", "dark")])
def test_a_comparison_fits_the_screen_and_an_accessibility_check_finds_no_violation(
    launch: Callable[[str], Browser], compared: Path, width: str, scheme: str, fonts: str
) -> None:
    opened = Opened(launch(fonts), compared / "report.html", WIDTHS[width], color_scheme=scheme)
    result = Axe().run(opened.page)
    is_narrow = opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    scales: dict[str, float] = opened.page.evaluate(SCALES)
    cut = opened.page.evaluate(CUT)
    opened.context.close()
    assert result.violations_count == 0, result.generate_report()
    assert is_narrow
    assert min(scales.values()) >= 0.8, scales
    assert cut == []
    assert (opened.said, opened.asked) == ([], [opened.path.as_uri()])


def test_every_switch_changes_its_chart(desk: Page) -> None:
    controls = desk.query_selector_all(
        "figure[data-live] input[data-parameter]:not(:checked), figure[data-live] select[data-parameter]"
    )
    assert len(controls) >= 10
    for control in controls:
        figure = control.evaluate_handle("(one) => one.closest('figure')").as_element()
        assert figure is not None
        before = figure.query_selector("svg").inner_html()  # type: ignore[union-attr]
        if control.get_attribute("type") == "radio":
            control.check()
        else:
            # A neighbour's choice may have set it already. The last option draws something else whatever the
            # scores.
            last: int = control.evaluate(
                "(one) => (one.selectedIndex === one.options.length - 1 ? 0 : one.options.length - 1)"
            )
            control.select_option(index=last)
        until(
            desk, "([figure, before]) => figure.querySelector('svg').innerHTML !== before", [figure, before]
        )


def test_a_class_that_is_chosen_is_chosen_in_the_charts_beside_it(desk: Page) -> None:
    roc = desk.locator("figure[data-chart=roc_test] select")
    roc.select_option("attack")
    beside = desk.locator("figure[data-chart=precision_recall_test]")
    assert beside.locator("select").input_value() == "attack"
    assert desk.locator("figure[data-chart=roc_valid] select").input_value() != "attack"
    until(
        desk,
        """() => document.querySelector('figure[data-chart=precision_recall_test]').view
             .data('source_0')?.length > 0""",
    )


def test_the_pointer_is_told_what_it_points_at(desk: Page) -> None:
    cell = desk.locator("figure[data-chart=confusion_test] svg .mark-rect path").first
    cell.hover()
    told = desk.locator("#vg-tooltip-element")
    told.wait_for(state="visible")
    assert "true class" in told.inner_text()
    assert "predicted class" in told.inner_text()


@pytest.mark.parametrize(("chart", "name"), [("roc_test", "attack")])
def test_the_pointer_is_told_the_name_of_the_curve(desk: Page, chart: str, name: str) -> None:
    figure = desk.locator(f"figure[data-chart={chart}]")
    figure.scroll_into_view_if_needed()
    plot = figure.locator("svg").bounding_box()
    assert plot is not None
    desk.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + plot["height"] / 2)
    told = desk.locator("#vg-tooltip-element")
    told.wait_for(state="visible")
    assert "undefined" not in told.inner_text()
    assert name in told.inner_text()


def test_the_slider_moves_all_figures_together(desk: Page) -> None:
    box = desk.locator(".slider:visible").first
    points = json.loads(box.get_attribute("data-points") or "")
    box.locator("[data-choice=flows]").fill("1000")
    box.locator("[data-choice=attacks]").fill("500")
    lever = box.locator("[data-choice=point]")
    lever.focus()
    for key, at in {"Home": 0, "ArrowRight": 1, "End": len(points) - 1}.items():
        desk.keyboard.press(key)
        shown = {
            name: box.locator(f"[data-figure={name}]").inner_text()
            for name in ("threshold", "cells", "alerts", "precision")
        }
        threshold, found, alarms = points[at]
        _, attacks, benign = points[-1]
        right, wrong = 500 * found / attacks, 500 * alarms / benign
        assert float(shown["threshold"]) == pytest.approx(threshold, rel=1e-3)
        assert shown["cells"].replace(",", "").split()[0] == str(found)
        assert float(shown["alerts"].replace(",", "")) == pytest.approx(right + wrong, abs=0.51)
        if right + wrong:
            assert float(shown["precision"].rstrip("%")) == pytest.approx(
                100 * right / (right + wrong), rel=0.01
            )


def test_a_chart_is_zoomed_without_a_wheel(desk: Page) -> None:
    def domain() -> list[float]:
        return desk.evaluate("document.querySelector('figure[data-chart=roc_test]').view.scale('x').domain()")

    figure = desk.locator("figure[data-chart=roc_test]")
    before = domain()
    figure.get_by_role("button", name="Zoom in").focus()
    desk.keyboard.press("Enter")
    until(
        desk,
        "(span) => { const [a, b] = "
        "document.querySelector('figure[data-chart=roc_test]').view.scale('x').domain();"
        " return b - a < span; }",
        before[1] - before[0],
    )
    figure.get_by_role("button", name="Show all").click()
    until(
        desk,
        "(end) => Math.abs(document.querySelector('figure[data-chart=roc_test]').view.scale('x').domain()[1] "
        "- end) < 1e-6",
        before[1],
    )


def test_dark_text_turns_light_in_dark_charts(browser: Browser, report_page: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        opened = Opened(browser, report_page, WIDTHS["desk"], color_scheme=scheme)
        shades[scheme] = opened.page.evaluate(
            "getComputedStyle(document.querySelector('figure[data-chart=classes] svg "
            'text[fill="#1b1f24"]\')).fill'
        )
        opened.context.close()
    assert shades == {"light": "rgb(27, 31, 36)", "dark": "rgb(230, 237, 243)"}


def test_without_scripts_the_pictures_and_tables_are_there(
    launch: Callable[[str], Browser], report_page: Path
) -> None:
    opened = Opened(launch("wide"), report_page, WIDTHS["telephone"], java_script_enabled=False)
    assert len(opened.page.query_selector_all("figure .picture > svg")) >= LEAST_CHARTS
    assert not opened.page.locator(".switches").first.is_visible()
    assert opened.page.locator("table").first.is_visible()
    assert min(opened.page.evaluate(SCALES).values()) >= 0.8
    assert opened.page.evaluate(CUT) == []
    opened.context.close()


def test_on_paper_everything_is_open(desk: Page) -> None:
    closed = "document.querySelectorAll('details:not([open])').length"
    desk.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = false; })")
    before: int = desk.evaluate(closed)
    assert before > 10
    desk.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert desk.evaluate(closed) == 0
    desk.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert desk.evaluate(closed) == before


def test_the_keyboard_comes_first_to_the_way_past_the_links(browser: Browser, report_page: Path) -> None:
    opened = Opened(browser, report_page, WIDTHS["desk"])
    opened.page.keyboard.press("Tab")
    assert opened.page.evaluate("document.activeElement.textContent") == "Skip to the summary"
    opened.context.close()
