from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from wirebert.evaluation.history import History
from wirebert.evaluation.metrics import evaluate
from wirebert.evaluation.page import page, write_page
from wirebert.evaluation.report import Report

VOID = {"meta", "br", "link", "img", "hr", "input"}


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
        self.text += data


def parse(html: str) -> Checker:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return checker


def test_the_page_is_well_formed_and_says_the_verdict_before_any_section(
    report: Report, history: History
) -> None:
    checked = parse(page(report, history))
    assert checked.text.index("On test") < checked.text.index("Figures")
    for heading in (
        "Figures",
        "Classes on valid",
        "Classes on test",
        "Training",
        "Data",
        "How this was made",
    ):
        assert heading in checked.text
    assert sum(tag == "svg" for tag, _ in checked.tags) == 7


def test_nothing_leaves_the_file(report: Report, history: History) -> None:
    for tag, attributes in parse(page(report, history)).tags:
        assert tag not in ("script", "link", "iframe", "img")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")


def test_texts_from_the_data_are_never_markup(report: Report) -> None:
    html = page(replace(report, name="<i>run", command="a && b <x>"))
    for text in ("<b>probe", "<script>", "<i>run", "b <x>"):
        assert text not in html
    assert "a &amp;&amp; b &lt;x&gt;" in html


def test_every_chart_has_words_and_every_link_a_target(report: Report, history: History) -> None:
    checked = parse(page(report, history))
    ids = [attributes["id"] for _, attributes in checked.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = [str(attributes["href"])[1:] for tag, attributes in checked.tags if tag == "a"]
    assert set(targets) <= set(ids)
    images = [attributes for _, attributes in checked.tags if attributes.get("role") == "img"]
    assert len(images) == 7
    assert all(attributes.get("aria-label") for attributes in images)


def test_a_report_without_baseline_training_and_benign_class_has_a_page(report: Report) -> None:
    bare = evaluate(np.array([0, 1]), np.eye(2), ("a", "b"), None, num_resamples=5)
    checked = parse(page(replace(report, splits={"flows": bare}, baseline={}, training={}, settings={})))
    assert "attack" not in checked.text
    assert "Training" not in checked.text
    parse(page(replace(report, splits={})))


def test_the_page_is_written_whole(report: Report, tmp_path: Path) -> None:
    write_page(report, tmp_path / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
