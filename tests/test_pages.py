"""The commands and programs that pages print do run.

A block ```bash or ```python of a tutorial is executed: the commands of a page by one shell, then its programs
by one interpreter, in a folder where the run of `wirebert demo` is. Blocks ```sh show commands that need what
a reader has, or hours; these, too, are words that the command line knows.
"""

import gzip
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = (
    *(f"docs/tutorials/{name}.md" for name in ("hunt", "logs", "research", "operate")),
    "docs/python.md",
)
EXECUTED = (*TUTORIALS, "docs/howto/no_labels.md")
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]
DEMO = "wirebert demo --rows 3000 --out runs/demo"
"""The command that tutorials begin with."""


def blocks(page: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages on a page, in order; those of a list lose their indent."""
    text = (ROOT / page).read_text(encoding="utf-8")
    pattern = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```$"
    return [
        re.sub(rf"^{indent}", "", block, flags=re.MULTILINE)
        for indent, block in re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    ]


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Page and arguments of every command of `program` in a block; continued lines are joined."""
    for page in PAGES:
        for block in blocks(page, "bash", "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.split(r" (?:\||\|\||&|2?>) ?", line)[0]
                own = shlex.split(words, comments=True)
                if own and own[0] == program:
                    yield page, own[1:]


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


def execute(page: str, folder: Path, python: str, *, done: str = "", tiny: str = "") -> str:
    """Run the blocks ```bash, then the blocks ```python of a page in `folder`; what they print.

    Args:
        done: a command that has been run already.
        tiny: arguments of every training, so that it takes seconds.
    """
    script = "\n".join(blocks(page, "bash"))
    assert done in script
    script = (script.replace(done, ":") if done else script).replace("8080", str(free_port()))
    shim = folder / "bin" / "wirebert"
    shim.parent.mkdir()
    without_labels = re.sub(r"--set evaluation\.\S+", "", tiny)
    more = (
        f'[ "$1" = train ] && set -- "$@" {tiny}\n[ "$1" = learn ] && set -- "$@" {without_labels}\n'
        if tiny
        else ""
    )
    shim.write_text(f'#!/bin/bash\n{more}exec {shlex.quote(python)} -m wirebert "$@"\n', encoding="utf-8")
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}:{os.environ['PATH']}"}
    if python != sys.executable:  # another environment sees nothing of the clone
        environment.pop("PYTHONPATH", None)
    program = "\n".join(blocks(page, "python"))
    programs = (
        ["bash", "-euo", "pipefail", "-c", script],
        [python, "-W", "ignore", "-c", program],
    )
    printed = ""
    for command in programs:
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        printed += run.stdout
        assert run.returncode == 0, f"{page}:\n{run.stdout[-2000:]}\n{run.stderr[-4000:]}"
    return printed


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture
def work_folder(tmp_path: Path, trained: Path, traffic: Path) -> Path:
    """A folder with a run as `wirebert demo` leaves it, here of a tiny model."""
    demo = tmp_path / "runs" / "demo"
    shutil.copytree(trained, demo)
    (demo / "traffic").mkdir()
    for name in ("train", "test"):
        shutil.copy(traffic / f"{name}.csv", tmp_path)
        shutil.copy(traffic / f"{name}.csv", demo / "traffic")
    with gzip.open(tmp_path / "KDDTest+.txt.gz", "wb") as file:
        file.write((traffic / "test.csv").read_bytes())
    (tmp_path / "runs" / "nsl-kdd").symlink_to(demo)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)  # a dozen processes, on a machine that may be busy
@pytest.mark.parametrize("page", EXECUTED)
def test_a_tutorial_runs_from_its_first_command_to_its_last(page: str, work_folder: Path, tiny: list[str]):
    done = "" if "hunt" in page else DEMO
    printed = execute(page, work_folder, sys.executable, done=done, tiny=shlex.join(tiny))
    assert '"verdict":"alert"' in printed or "logs" not in page
    assert "1. scan from 10.0.0.66" in printed or "hunt" not in page


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/formats.md"])
def test_python_blocks_run_one_after_the_other(page: str, work_folder: Path):
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks(page, "python"))],
        cwd=work_folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_python_blocks_of_other_pages_are_programs():
    for page in PAGES:
        for block in blocks(page, "python"):
            compile(block, page, "exec")
