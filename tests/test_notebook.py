"""The example notebook runs, its stored outputs are those of a run, and its page says what it says."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "notebooks"
NOTEBOOK, PAGE = FOLDER / "first_detector.ipynb", FOLDER / "first_detector.md"
HEAD = "<!-- Written by `make reference` from first_detector.ipynb; change that, not this page. -->\n"


def as_page(notebook: Any) -> str:
    """The notebook as Markdown: programs as blocks, outputs as tables or text."""
    parts: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```py\n{cell.source}\n```")
        parts += [shown(output) for output in cell.outputs]
    title, _, rest = "\n\n".join(parts).partition("\n")
    return f"{title}\n\n{HEAD}{rest.rstrip()}\n"


def shown(output: Any) -> str:
    """An output that a page can show: a table as HTML, anything else as text."""
    data = output.get("data", {})
    if "text/html" in data:
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return re.sub(r"\n\s*", "\n", html.strip())
    return f"```text\n{''.join(data.get('text/plain', output.get('text', ''))).rstrip()}\n```"


def executed() -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False)
    return client.execute(cwd=str(FOLDER))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_notebook_runs_and_shows_what_is_stored(request: pytest.FixtureRequest):
    stored = nbformat.read(NOTEBOOK, as_version=4)
    notebook = executed()
    if request.config.getoption("--update-docs"):
        nbformat.write(notebook, NOTEBOOK)
        PAGE.write_text(as_page(nbformat.read(NOTEBOOK, as_version=4)), encoding="utf-8")
        return
    for cell, old in zip(notebook.cells, stored.cells, strict=True):
        if cell.cell_type == "code":
            # Numbers differ in their last digits from machine to machine: what is shown is of the same kind.
            assert [kinds(output) for output in cell.outputs] == [kinds(output) for output in old.outputs]
    assert all(cell.execution_count for cell in stored.cells if cell.cell_type == "code")


def kinds(output: Any) -> list[str]:
    assert output.output_type != "error"
    return [output.output_type, *sorted(output.get("data", {}))]


def test_the_page_is_what_the_notebook_says():
    assert PAGE.read_text(encoding="utf-8") == as_page(nbformat.read(NOTEBOOK, as_version=4)), (
        f"{PAGE.name} is not current; run `make reference`"
    )


def test_the_notebook_names_no_path_of_a_machine():
    text = json.dumps(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert not re.search(r"/(home|tmp|root|work)/", text)
    assert NOTEBOOK.stat().st_size < 150_000
