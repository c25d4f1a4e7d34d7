"""The package as a user gets it: both archives hold every file, and the wheel works away from the clone."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
PAGES = runpy.run_path(str(ROOT / "tests" / "test_pages.py"))
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # a build changes the arguments
build_meta.build_wheel(out)
build_meta.build_sdist(out)
"""


def ran(*command: str | Path, cwd: Path) -> str:
    """Standard output of a program that must succeed; it sees nothing of the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Wheel and source archive, built from a copy of the tracked files that a build needs."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    ran(sys.executable, "-c", BUILD, out, cwd=source)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def package_files() -> set[str]:
    """Every file of the package, as `wirebert/...`."""
    folder = ROOT / "src"
    return {
        path.relative_to(folder).as_posix()
        for path in (folder / "wirebert").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_wheel_and_source_archive_hold_every_file_of_the_package(archives: tuple[Path, Path]) -> None:
    wheel, sdist = archives
    files = package_files()
    assert {Path(name).suffix for name in files} >= {".py", ".toml", ".js", ".css", ".html", ".typed"}
    with zipfile.ZipFile(wheel) as archive:
        assert files - set(archive.namelist()) == set()
    with tarfile.open(sdist) as archive:
        names = {name.partition("/src/")[2] for name in archive.getnames()}
    assert files - names == set()


def installed(wheel: Path, home: Path, away: Path) -> Path:
    """A fresh environment in `home` with the wheel."""
    venv.create(home)
    python = home / "bin" / "python"
    install = ("install", "--no-deps", "--no-index", "--quiet", wheel)
    ran(sys.executable, "-m", "pip", "--python", python, *install, cwd=away)
    site = ran(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=away).strip()
    # The dependencies are those of this environment; an editable wirebert in it is not seen from here.
    (Path(site) / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    place = ran(python, "-c", "import wirebert; print(wirebert.__file__)", cwd=away).strip()
    assert Path(place).is_relative_to(home)
    return home


def test_the_installed_wheel_runs_the_demo_away_from_the_clone(
    archives: tuple[Path, Path], tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    home = installed(archives[0], tmp_path / "environment", away)
    ran(home / "bin" / "wirebert", "demo", "--rows", "1200", "--out", "runs/demo", cwd=away)
    assert (away / "runs" / "demo" / "report.html").is_file()
    assert (away / "runs" / "demo" / "model" / "wirebert.json").is_file()


@pytest.mark.parametrize("page", PAGES["TUTORIALS"])
def test_a_tutorial_runs_as_it_is_printed_in_a_fresh_environment(
    page: str, archives: tuple[Path, Path], tmp_path: Path
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    home = installed(archives[0], tmp_path / "environment", away)
    PAGES["execute"](page, away, str(home / "bin" / "python"))


def served(wirebert: Path, model: Path, rows: Path, cwd: Path) -> str:
    """The answer of the installed service to one request."""
    command = [str(wirebert), "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            port = next(found[1] for line in process.stderr if (found := re.search(r'"port": ?(\d+)', line)))
            url, headers = f"http://127.0.0.1:{port}/v1/score", {"content-type": "text/csv"}
            request = urllib.request.Request(url, rows.read_bytes(), headers=headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read().decode()
        finally:
            process.terminate()


def test_a_scoring_installation_scores_without_pytorch(
    trained: Path, traffic: Path, archives: tuple[Path, Path], tmp_path: Path
) -> None:
    """From the package index, so it needs one that can be reached."""
    home, logs = tmp_path / "environment", traffic / "test.csv"
    venv.create(home, with_pip=True)
    requirement = f"wirebert[serve] @ {archives[0].as_uri()}"
    install = ("install", "--quiet", "--constraint", ROOT / "constraints.txt", requirement)
    ran(home / "bin" / "python", "-m", "pip", *install, cwd=tmp_path)
    packages = ran(home / "bin" / "python", "-m", "pip", "list", cwd=tmp_path)
    assert not re.search(r"^(torch|scipy|scikit-learn|vl-convert-python) ", packages, re.MULTILINE)
    size_mb = int(ran("du", "-sm", home, cwd=tmp_path).split()[0])
    print(f"scoring environment: {size_mb} MB")
    assert size_mb <= 440
    wirebert, model = home / "bin" / "wirebert", trained / "model"
    ran(wirebert, "inspect", logs, cwd=tmp_path)
    verdicts = ran(wirebert, "predict", model, logs, cwd=tmp_path)
    assert len(verdicts.splitlines()) == 301
    assert "300 flows by onnx on cpu" in ran(wirebert, "evaluate", model, logs, cwd=tmp_path)
    assert "test: 300 flows" in ran(wirebert, "report", trained, cwd=tmp_path)
    budget = ("--alerts-per-10000", "500", "--out", tmp_path / "calibrated")
    ran(wirebert, "calibrate", model, logs, *budget, cwd=tmp_path)
    assert len(ran(wirebert, "predict", "calibrated", logs, cwd=tmp_path).splitlines()) == 301
    assert "attack_score" in served(wirebert, model, logs, tmp_path)
    failed = subprocess.run(
        [wirebert, "train", logs], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 2
    assert "pip install 'wirebert[train]'" in failed.stderr
