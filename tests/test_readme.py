"""The commands and programs that the README and the tutorial print do run."""

import gzip
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CONTRIBUTING.md", "docs/tutorial.md", "docs/python.md")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of `language` on a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Page and arguments of every command of `program` in a bash block; continued lines are joined."""
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0] == program:
                    yield page, words[1:]


@pytest.mark.parametrize(("page", "arguments"), list(commands("make")))
def test_make_command_names_a_target(page: str, arguments: list[str]):
    rules = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {word for word in arguments if "=" not in word} <= set(rules)


@pytest.mark.parametrize(("page", "arguments"), list(commands("wirebert")))
def test_wirebert_command_parses(page: str, arguments: list[str]):
    from wirebert.cli.main import build_parser

    build_parser().parse_args(arguments)  # exits (an error here) at the first word it does not know


def test_the_readme_names_the_two_commands():
    named = [" ".join(arguments) for page, arguments in commands("make") if page == "README.md"]
    assert {"demo", "test"} <= set(named)


@pytest.fixture
def work_folder(tmp_path: Path, trained: Path, traffic: Path) -> Path:
    """A folder with a run as the README's commands leave it, here of a tiny model on generated traffic."""
    for name in ("train", "test"):
        shutil.copy(traffic / f"{name}.csv", tmp_path)
    with gzip.open(tmp_path / "KDDTest+.txt.gz", "wb") as file:
        file.write((traffic / "test.csv").read_bytes())
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "nsl-kdd").symlink_to(trained)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run_one_after_the_other(page: str, work_folder: Path):
    program = "\n".join(blocks(page, "python"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=work_folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
