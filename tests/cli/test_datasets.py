from pathlib import Path

import pytest
from rich.console import Console

from wirebert.cli.datasets import show_checked, show_datasets
from wirebert.cli.main import main
from wirebert.data.registry import Checked, known_datasets


def test_every_set_is_shown_with_citation_licence_split_and_what_is_verified():
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        show_datasets(known_datasets().values(), console)
    text = captured.get()
    for data_set in known_datasets().values():
        assert data_set.name in text
        assert data_set.licence in text
        assert all(file.sha256 is None or file.sha256 in text for file in data_set.files)
    assert text.count("files: unverified") == 3


def test_a_changed_file_shows_what_its_content_is():
    console = Console(width=80)
    changed = Checked(path=Path("x.csv"), status="changed", sha256="ab" * 32, data_set="a", file="x.csv")
    unknown = Checked(path=Path("y.csv"), status="unknown", sha256="cd" * 32)
    with console.capture() as captured:
        show_checked([changed, unknown], console)
    assert captured.get().splitlines() == [
        "changed   a/x.csv x.csv",
        f"          its sha256 {'ab' * 32} differs from the published file",
        "unknown   y.csv",
    ]


def test_data_sets_are_listed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    assert "nsl" in capfd.readouterr().out.lower()


def test_data_sets_are_cited_by_name_or_all(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "cite", "nsl-kdd", "nsl-kdd"]) == 0
    assert capfd.readouterr().out.count("@inproceedings{nsl-kdd,") == 1
    assert main(["datasets", "cite"]) == 0
    assert capfd.readouterr().out.count("\n@") == len(known_datasets()) - 1
    assert main(["datasets", "cite", "nsl-kd"]) == 2
    assert "did you mean 'nsl-kdd'?" in capfd.readouterr().err
