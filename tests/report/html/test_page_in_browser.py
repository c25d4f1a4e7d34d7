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
from playwright.sync_api import Browser, Locator, Page
from pyarrow import parquet
from sklearn.metrics import confusion_matrix, precision_score, recall_score

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
        # The flows of the mistakes have tables of their own; the first one is open.
        closed = "document.querySelectorAll('details:not(.errors details)')"
        self.page.evaluate(f"{closed}.forEach((one) => {{ one.open = true; }})")
        for figure in self.page.query_selector_all("figure[data-chart]"):
            figure.scroll_into_view_if_needed()
        until(
            self.page, "[...document.querySelectorAll('figure[data-chart]')].every((one) => one.dataset.live)"
        )
        return self


PAGES = (*RUNS, "large")
SEEN = [on(page, f"{page} {width} wide") for page in PAGES for width in WIDTHS] + [
    on(page, f"{page} telephone narrow") for page in RUNS
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


def test_the_file_is_at_most_three_megabytes(opened: Opened) -> None:
    assert opened.path.stat().st_size <= 3_000_000


def test_every_chart_has_marks(opened: Opened) -> None:
    marks: dict[str, int] = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('figure[data-chart]')].map((figure) => [
             figure.dataset.chart,
             figure.querySelectorAll(`svg .role-mark path[d], svg .role-mark line, svg .role-mark
             text`).length]))"""
    )
    # A page of 40 classes keeps its size by leaving its last charts still.
    assert len(marks) >= (LEAST_CHARTS if "large" not in str(opened.path) else 10)
    assert min(marks.values()) >= 1, marks


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_no_chart_is_shrunk_until_it_can_not_be_read(opened: Opened) -> None:
    scales: dict[str, float] = opened.page.evaluate(SCALES)
    assert min(scales.values()) >= 0.915, scales  # 12 pixels of text stay 11


def test_a_chart_of_any_width_fits_its_place_at_full_size(opened: Opened) -> None:
    excess: dict[str, float] = opened.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(
             'figure.fluid[data-chart] svg')].map((svg) => [
             svg.closest('figure').dataset.chart,
             svg.viewBox.baseVal.width - svg.closest('.picture').clientWidth]))"""
    )
    assert max(excess.values()) <= 0, excess


def test_no_text_of_a_chart_is_cut_off_or_lies_on_another(opened: Opened) -> None:
    assert opened.page.evaluate(CUT) == []
    assert opened.page.evaluate(OVERLAPPING) == []


def test_no_text_of_a_chart_is_smaller_than_eleven_pixels(opened: Opened) -> None:
    small: list[str] = opened.page.evaluate(
        """() => [...document.querySelectorAll('figure svg')].flatMap((svg) => {
             const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
             return [...svg.querySelectorAll('text')].filter((text) => text.textContent &&
               scale && parseFloat(getComputedStyle(text).fontSize) * scale < 10.95)
               .map((text) => `${svg.closest('figure').dataset.chart}: ${text.textContent}`); })"""
    )
    assert small == []


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


@pytest.mark.parametrize(
    ("width", "scheme", "fonts"), [("telephone", "light", "wide"), ("desk", "dark", "narrow")]
)
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
    assert min(scales.values()) >= 0.915, scales
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


CURVES = ("roc_test", "precision_recall_test", "loss", "throughput", "calibration_test", "f1_test")


@pytest.mark.parametrize("chart", CURVES)
def test_no_tooltip_says_undefined(desk: Page, chart: str) -> None:
    figure = desk.locator(f"figure[data-chart={chart}]")
    figure.scroll_into_view_if_needed()
    plot = figure.locator("svg").bounding_box()
    assert plot is not None
    told = desk.locator("#vg-tooltip-element")
    texts: set[str] = set()
    for step in range(1, 9):
        desk.mouse.move(plot["x"] + plot["width"] * (0.1 + 0.1 * step), plot["y"] + plot["height"] * 0.55)
        if told.is_visible():
            texts.add(told.inner_text())
    for mark in figure.locator("svg .mark-symbol path, svg .mark-rect path").all()[:6]:
        place = mark.bounding_box()
        if place is None or not place["width"]:
            continue
        desk.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        if told.is_visible():
            texts.add(told.inner_text())
    assert texts
    assert not [text for text in texts if "undefined" in text or "NaN" in text]


def figures_of(box: Locator) -> dict[str, float]:
    """The figures of the slider as numbers; percentages as fractions."""
    shown = {
        one.get_attribute("data-figure") or "": one.inner_text().replace(",", "").split(" ")[0]
        for one in box.locator("[data-figure]").all()
    }
    return {
        key: float(text.rstrip("%")) / (100 if "%" in text else 1)
        for key, text in shown.items()
        if text != "-"
    }


def test_the_slider_shows_the_figures_of_scikit_learn_at_five_thresholds(
    desk: Page, report_page: Path
) -> None:
    verdicts = parquet.read_table(report_page.parent / "predictions" / "test.parquet")
    is_attack = np.array([name != "benign" for name in verdicts["true_class"].to_pylist()])
    scores = verdicts["attack_score"].to_numpy().astype(np.float64)
    box = desk.locator(".slider:visible").first
    points = json.loads(box.get_attribute("data-points") or "")
    for choice, value in {"flows": 1000, "attacks": 500, "cost_missed": 7, "cost_false": 3}.items():
        box.locator(f"[data-choice={choice}]").fill(str(value))
    for at in np.linspace(0, len(points) - 1, 5).astype(int).tolist():
        box.locator("[data-choice=point]").fill(str(at))
        shown = figures_of(box)
        is_alert = scores >= points[at][0]
        (passed, alarms), (missed, found) = confusion_matrix(is_attack, is_alert)
        # As many attacks as benign flows: the weights of scikit-learn say so.
        weights = np.where(is_attack, 500 / is_attack.sum(), 500 / (~is_attack).sum())
        assert (shown["found"], shown["unfound"], shown["alarms"], shown["passed"]) == (
            found, missed, alarms, passed,
        )  # fmt: skip
        assert shown["threshold"] == pytest.approx(points[at][0], rel=1e-3)
        assert shown["tpr"] == pytest.approx(recall_score(is_attack, is_alert), rel=6e-3)
        assert shown["fpr"] == pytest.approx(1 - recall_score(~is_attack, ~is_alert), rel=6e-3)
        assert shown["alerts"] == pytest.approx(weights[is_alert].sum(), abs=0.51)
        if is_alert.any():
            precise = precision_score(is_attack, is_alert, sample_weight=weights)
            assert shown["precision"] == pytest.approx(precise, rel=6e-3)
        (_, wrong), (lost, _) = confusion_matrix(is_attack, is_alert, sample_weight=weights)
        assert shown["cost"] == pytest.approx(7 * lost + 3 * wrong, abs=0.51)


def test_the_slider_is_worked_by_keys_and_goes_to_the_lowest_cost_and_back(desk: Page) -> None:
    box = desk.locator(".slider:visible").first
    lever = box.locator("[data-choice=point]")
    lever.focus()
    desk.keyboard.press("Home")
    first = figures_of(box)
    assert (
        first["threshold"]
        >= max(point[0] for point in json.loads(box.get_attribute("data-points") or "")) - 1e-3
    )
    desk.keyboard.press("End")
    assert figures_of(box)["tpr"] == 1
    box.get_by_role("button", name="lowest cost").click()
    lowest = figures_of(box)["cost"]
    desk.keyboard.press("Tab")
    box.get_by_role("button", name="stored threshold").focus()
    desk.keyboard.press("Enter")
    assert lever.input_value() == box.get_attribute("data-start")
    assert lowest <= figures_of(box)["cost"] + 0.5


def test_a_cell_of_the_matrix_shows_its_flows_beside_what_is_usual(desk: Page) -> None:
    box = desk.locator(".explorer:visible").first
    cell = box.locator("button.wrong").first
    cell.focus()
    desk.keyboard.press("Enter")
    assert cell.get_attribute("aria-pressed") == "true"
    true, predicted = json.loads(cell.get_attribute("data-cell") or "")
    summaries = box.locator(".errors > details > summary").all_inner_texts()
    assert summaries
    assert all(text.startswith(f"{true} classified as {predicted}") for text in summaries)
    head = box.locator(".errors table").first.locator("thead th").all_inner_texts()
    assert head == ["column", "this flow", f"usual in {true}", f"usual in {predicted}"]
    usual = box.locator(".errors table").first.locator("tbody td").all_inner_texts()
    assert any("(" in text or "%" in text for text in usual)
    box.get_by_role("button", name="Clear").click()
    assert cell.get_attribute("aria-pressed") == "false"


def test_a_click_on_the_picture_of_the_matrix_chooses_the_same_flows(desk: Page) -> None:
    box = desk.locator(".explorer:visible").first
    desk.locator("figure[data-chart=confusion_test] svg .mark-rect path").first.click()
    true, predicted = (box.locator(f"[data-filter={name}]").input_value() for name in ("true", "predicted"))
    assert true == predicted != ""
    assert "classified correctly" in box.get_by_role("status").inner_text()
    box.get_by_role("button", name="Clear").click()


def test_mistakes_are_filtered_by_value_and_score(desk: Page) -> None:
    box = desk.locator(".explorer:visible").first
    data = json.loads(desk.locator("#flows-test").text_content() or "")["mistakes"]
    told = box.get_by_role("status")
    column = next(iter(data[0]["flow"]))
    value = data[0]["flow"][column]
    box.locator("[data-filter=column]").select_option(column)
    box.locator("[data-filter=value]").fill(value)
    expected = [one for one in data if value.lower() in one["flow"].get(column, "").lower()]
    assert told.inner_text() == f"{len(expected)} of {len(data)} kept flows"
    box.get_by_role("button", name="Clear").click()
    middle = float(np.median([one["attack_score"] for one in data]))
    box.locator("[data-filter=low]").fill(str(middle))
    assert told.inner_text().split()[0] == str(sum(one["attack_score"] >= middle for one in data))
    box.get_by_role("button", name="Clear").click()


def test_a_command_is_copied_by_the_keyboard(browser: Browser, report_page: Path) -> None:
    opened = Opened(browser, report_page, WIDTHS["desk"])
    button = opened.page.locator("[data-copy]").first
    button.focus()
    opened.page.keyboard.press("Enter")
    said = button.locator("xpath=../*[@role='status']")
    until(opened.page, "document.querySelector('.copy [role=status]').textContent !== ''")
    assert said.inner_text() in ("Copied", "Selected: press Ctrl-C")
    if said.inner_text().startswith("Selected"):
        chosen: str = opened.page.evaluate("getSelection().toString()")
        assert chosen.strip().startswith("wirebert predict")
    opened.context.close()


def test_drift_is_drawn_for_each_column_and_the_most_drifted_is_first(desk: Page) -> None:
    distances = [float(text) for text in desk.locator(".multiple h3 .range").all_inner_texts()]
    assert len(distances) >= 5
    assert distances == sorted(distances, reverse=True)
    assert desk.locator(".multiple svg rect.test").count() > len(distances)


def test_the_first_column_of_a_table_stays_in_sight(browser: Browser, report_page: Path) -> None:
    opened = Opened(browser, report_page, WIDTHS["telephone"])
    box = opened.page.locator(
        ".scroll:has(table)", has=opened.page.locator("caption", has_text="Alert")
    ).first
    box.evaluate("(one) => { one.scrollLeft = 150; }")
    first = box.locator("tbody th").first.bounding_box()
    place = box.bounding_box()
    assert first is not None
    assert place is not None
    assert first["x"] == pytest.approx(place["x"], abs=1)
    opened.context.close()


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
    assert opened.page.locator("table:visible").first.is_visible()
    assert min(scale for scale in opened.page.evaluate(SCALES).values() if scale) >= 0.915  # 0: closed
    assert opened.page.evaluate(CUT) == []
    opened.context.close()


def test_on_paper_everything_is_open(desk: Page) -> None:
    closed = "document.querySelectorAll('details:not([open]):not(.errors details)').length"
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
