"""The documentation site: built once without a warning, and every link of it leads somewhere."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import wirebert

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Links and anchors of a page, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        own = dict(attrs)
        self.anchors |= {value for name in ("id", "name") if (value := own.get(name))}
        if tag == "a" and own.get("href"):
            self.links.append(own["href"] or "")
        is_loaded = tag in ("script", "img") or (tag == "link" and own.get("rel") == "stylesheet")
        if is_loaded and (source := own.get("src") or own.get("href")):
            self.loaded.append(source)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    options = ["-c", "docs", "-b", "html", "-W", "--keep-going", "-q", "-d", str(out / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, ".", str(out / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def dead_links(pages: dict[Path, Page]) -> Iterator[str]:
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                yield f"{path.name}: {link}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{path.name}: {link} (no such anchor)"


def test_no_link_and_no_anchor_is_dead(pages: dict[Path, Page]):
    assert len(pages) > 30
    assert sum(len(page.links) for page in pages.values()) > 1000
    assert list(dead_links(pages)) == []


def test_a_dead_link_is_found(site: Path, pages: dict[Path, Page]):
    broken = site / "broken.html"
    broken.write_text('<a href="docs/cli.html#nothing"></a><a href="no.html"></a>', encoding="utf-8")
    found = list(dead_links({**pages, broken: Page(broken)}))
    broken.unlink()
    assert found == ["broken.html: docs/cli.html#nothing (no such anchor)", "broken.html: no.html"]


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]):
    assert not [link for page in pages.values() for link in page.loaded if urlsplit(link).netloc]


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path):
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        assert (site / path.relative_to(ROOT)).with_suffix(".html").is_file(), path


def test_the_python_reference_has_every_public_name_with_its_source(site: Path, pages: dict[Path, Page]):
    reference = site / "docs" / "api.html"
    anchors = pages[reference].anchors
    text = reference.read_text(encoding="utf-8")
    for name in set(dir(wirebert)) - {"__version__"}:
        assert f"wirebert.{name}" in anchors
    assert {"wirebert.Detector.predict", "wirebert.Evaluation.to_latex"} <= anchors
    assert re.search(r"_modules/wirebert/api/detector\.html#Detector\.predict", text)


def test_the_first_page_leads_to_the_documentation(site: Path):
    assert "docs/index.html" in (site / "index.html").read_text(encoding="utf-8")
