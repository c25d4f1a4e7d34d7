"""The page at `/` as a browser shows it, spoken to a real service."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.slow

ROWS = "service,bytes,flags,src_ip\n" + "".join(
    f"{service},{size},{flags},10.0.0.{size % 250}\n"
    for service in ("http", "dns", "ssh")
    for size in (0, 12, 181, 5_000_000)
    for flags in ("SF", "S", "SAF")
)


class Visit:
    """A page of the service, and what went over the wire and the console."""

    def __init__(self, browser: Browser, port: int, **settings: object) -> None:
        self.context = browser.new_context(**settings)  # pyright: ignore[reportArgumentType]
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.origin = f"http://127.0.0.1:{port}"
        self.page.goto(self.origin)


@pytest.fixture
def visit(browser: Browser, service_port: int) -> Iterator[Visit]:
    visit = Visit(browser, service_port)
    yield visit
    visit.context.close()


def test_pasted_rows_get_verdicts_with_what_carried_them(visit: Visit):
    page = visit.page
    expect(page.locator("#classes")).to_contain_text("3 classes (normal, dos, probe)")
    page.get_by_label("Flows").fill(ROWS)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#body tr")).to_have_count(36)
    expect(page.locator("#summary")).to_contain_text("36 flows")
    assert page.locator("#body .explanation span").count() > 0
    assert "src ip" in page.locator("#head").inner_text()
    expect(page.locator("#verdicts-title")).to_be_focused()
    page.get_by_label("Only what is not benign").check()
    shown = page.locator("#body tr").count()
    assert 0 < shown < 36
    assert visit.said == []
    assert all(url.startswith((visit.origin, "data:")) for url in visit.asked)


def test_a_sample_is_filled_in_and_scored_and_its_verdict_stands_first(visit: Visit):
    page = visit.page
    expect(page.locator("#model")).to_contain_text(
        re.compile(r"Model service\d of 20\d\d-\d\d-\d\d: no threshold")
    )
    page.get_by_role("button", name="Try a sample").click()
    expect(page.locator("#body tr")).to_have_count(1)
    heads = page.locator("#head th").all_inner_texts()
    assert heads[:5] == ["class", "attack score", "main evidence", "row", "ts"]
    assert "192.0.2.10" in page.get_by_label("Flows").input_value()


def test_verdicts_of_before_do_not_stand_beside_an_error(visit: Visit):
    page = visit.page
    page.get_by_label("Flows").fill(ROWS)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#body tr")).to_have_count(36)
    page.get_by_label("Flows").fill("x,y\n1,2\n")
    page.get_by_role("button", name="Score").click()
    expect(page.get_by_role("status")).to_contain_text("columns of the model")
    expect(page.locator("#results")).to_be_hidden()


def test_the_api_page_keeps_to_its_policy_fits_a_phone_and_passes_the_accessibility_check(
    browser: Browser, service_port: int
):
    visit = Visit(browser, service_port, viewport={"width": 390, "height": 800}, bypass_csp=True)
    visit.page.get_by_role("link", name="API").click()
    expect(visit.page.locator("h1")).to_contain_text("wirebert API")
    result = Axe().run(visit.page)
    is_narrow = visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.context.close()
    assert result.violations_count == 0, result.generate_report()
    assert is_narrow
    assert visit.said == []


def test_a_chosen_file_is_scored_and_its_verdicts_can_be_saved(visit: Visit, tmp_path: Path):
    page = visit.page
    path = tmp_path / "flows.jsonl"
    path.write_text("".join(json.dumps({"bytes": size, "service": "ssh"}) + "\n" for size in range(5)))
    page.locator("#file").set_input_files(path)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#body tr")).to_have_count(5)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    saved = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    assert [row["row"] for row in saved] == [0, 1, 2, 3, 4]


def test_a_dropped_file_is_scored(visit: Visit):
    page = visit.page
    page.evaluate(
        """(text) => {
             const data = new DataTransfer();
             data.items.add(new File([text], "flows.csv"));
             document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data,
             bubbles: true }));
           }""",
        ROWS,
    )
    page.keyboard.press("Enter")  # the button has the focus
    expect(page.locator("#body tr")).to_have_count(36)


def test_the_keyboard_is_enough(visit: Visit):
    page = visit.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "rows"
    page.keyboard.insert_text(ROWS)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "score"
    page.keyboard.press("Enter")
    expect(page.locator("#body tr")).to_have_count(36)


def test_what_is_wrong_with_rows_is_said(visit: Visit):
    page = visit.page
    page.get_by_label("Flows").fill("x,y\n1,2\n")
    page.get_by_role("button", name="Score").click()
    expect(page.get_by_role("status")).to_contain_text("columns of the model")
    page.get_by_label("Flows").fill("")
    page.get_by_role("button", name="Score").click()
    expect(page.get_by_role("status")).to_contain_text("Paste some rows")


def test_markup_in_flows_stays_text(visit: Visit):
    page = visit.page
    hostile = "<img src=x onerror=alert(1)>"
    rows = [{"bytes": 1, "uid": hostile, "src_ip": "</td><script>alert(2)</script>"}]
    page.get_by_label("Flows").fill(json.dumps({"flows": rows}))
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#body tr")).to_have_count(1)
    assert hostile in page.locator("#body").inner_text()
    assert page.locator("#body img, #body script").count() == 0
    assert visit.said == []


@pytest.mark.parametrize(
    ("width", "scheme", "fonts"),
    [
        (390, "light", "wide"),
        (390, "dark", "narrow"),
        (1440, "light", "narrow"),
        (1440, "dark", "wide"),
    ],
)
def test_the_page_fits_the_screen_and_an_accessibility_check_finds_no_violation(
    launch: Callable[[str], Browser], service_port: int, width: int, scheme: str, fonts: str
):
    visit = Visit(
        launch(fonts),
        service_port,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        bypass_csp=True,
    )
    visit.page.get_by_label("Flows").fill(ROWS)
    visit.page.get_by_role("button", name="Score").click()
    expect(visit.page.locator("#body tr")).to_have_count(36)
    result = Axe().run(visit.page)
    is_narrow = visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visit.context.close()
    assert result.violations_count == 0, result.generate_report()
    assert is_narrow


def test_a_service_with_keys_asks_for_one(
    browser: Browser, start_service: "Callable[..., tuple[subprocess.Popen[bytes], int]]", tmp_path: Path
):
    (tmp_path / "keys").write_text("k" * 20)
    _, port = start_service("--keys", str(tmp_path / "keys"))
    page = Visit(browser, port).page
    page.get_by_label("API key").fill("k" * 20)
    page.get_by_label("Flows").fill(ROWS)
    page.get_by_role("button", name="Score").click()
    expect(page.locator("#body tr")).to_have_count(36)
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    page.context.close()


def incident(name: str, kind: str, source: str, severity: int) -> str:
    event = {
        "event": f"incident_{kind}", "number": 1, "reason": "", "incident_id": name, "source": source,
        "class_name": "probe" if severity > 50 else "<img src=x onerror=alert(1)>", "severity": severity,
        "first_s": 1772409605.0, "last_s": 1772409700.0, "num_flows": severity,
        "num_destinations": 3, "num_ports": 1,
        "peak_score": 0.9, "joint_score": 0.99, "evidence": ["dst_port:22 (+3.1)"],
        "examples": [{"uid": f"C{name}"}],
    }  # fmt: skip
    return json.dumps(event) + "\n"


def test_incidents_are_filtered_sorted_opened_and_marked_by_keyboard(
    browser: Browser, start_service: "Callable[..., tuple[subprocess.Popen[bytes], int]]", tmp_path: Path
):
    (tmp_path / "keys").write_text("k" * 20)
    path = tmp_path / "incidents.jsonl"
    path.write_text(incident("a", "opened", "10.0.0.1", 21) + incident("b", "closed", "10.0.0.2", 73))
    _, port = start_service("--keys", str(tmp_path / "keys"), "--incidents", str(path))
    visit = Visit(browser, port, bypass_csp=True)
    page, rows = visit.page, visit.page.locator("#incident-body tr")
    page.get_by_label("API key").fill("k" * 20)
    page.get_by_role("button", name="Refresh").press("Enter")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("10.0.0.2")
    page.get_by_role("button", name="flows").press("Enter")
    page.get_by_role("button", name="flows").press("Enter")
    expect(rows.first).to_contain_text("10.0.0.1")
    assert page.locator("#incident-body img").count() == 0
    page.get_by_label("Filter").fill("10.0.0.2")
    expect(rows).to_have_count(1)
    page.get_by_role("button", name="probe from 10.0.0.2: evidence").press("Enter")
    expect(page.locator("tr.evidence")).to_contain_text("dst_port:22 (+3.1)")
    page.get_by_role("button", name="Mark probe from 10.0.0.2 as benign").press("Enter")
    expect(page.locator("#incident-status")).to_contain_text("Marked as benign")
    said = json.loads((tmp_path / "incidents.jsonl.feedback.jsonl").read_text())
    assert (said["flow"], said["mark"], said["by"][:4]) == ({"uid": "Cb"}, "benign", "key ")
    page.get_by_label("Show").select_option("unmarked")
    page.get_by_label("Filter").fill("")
    expect(rows).to_have_count(1)
    result = Axe().run(page)
    assert result.violations_count == 0, result.generate_report()
    foreign = page.request.post(
        f"{visit.origin}/v1/marks",
        data={"incident_id": "b", "mark": "bad"},
        headers={"Authorization": "Bearer " + "k" * 20, "Origin": "http://evil.example"},
    )
    assert (foreign.status, "Origin" in foreign.text()) == (403, True)
    assert all("401" in text for text in visit.said)  # before the key was there
    visit.context.close()


def test_without_incidents_the_page_shows_none_and_marks_need_keys(visit: Visit):
    expect(visit.page.locator("#model")).to_contain_text("Model")
    assert visit.page.locator("#incidents").is_hidden()
