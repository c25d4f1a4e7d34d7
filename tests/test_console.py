import io
from pathlib import Path

import pytest
from rich.table import Table

from wirebert.cli.main import main
from wirebert.console import SafeConsole
from wirebert.untrusted_text import warn

HOSTILE = "\x1b]0;mine\x07\x1b[2J\x9b31m\x08\x7f\u202etxt\r"


def test_text_and_tables_are_printed_harmlessly(capsys: pytest.CaptureFixture[str]):
    output = SafeConsole()
    table = Table(HOSTILE)
    table.add_row(HOSTILE)
    output.print(HOSTILE, markup=False)
    output.print(table)
    told = capsys.readouterr().out
    assert "\\x1b]0;mine" in told
    assert not set("\x1b\x07\x9b\x08\x7f\u202e\r") & set(told)


def test_colours_of_our_own_are_kept(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    SafeConsole().print("[red]alert[/red]")
    assert "\x1b[31malert" in capsys.readouterr().out


@pytest.fixture
def hostile_file(tmp_path: Path) -> Path:
    lines = [f"du{HOSTILE.strip()}r,proto,label"]
    labels = ["normal", "at\x1b[31mtack"]
    lines += [f"{number},tcp\x1b[2J,{labels[number % 2]}" for number in range(200)]
    path = tmp_path / "flows\x1b[2J.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_what_inspect_prints_of_a_hostile_file_is_harmless(
    hostile_file: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["inspect", str(hostile_file)]) == 0
    told = capsys.readouterr()
    assert "tcp" in told.out + told.err or "proto" in told.out
    assert "\x1b" not in told.out + told.err


def test_an_error_about_a_hostile_name_is_harmless(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(tmp_path / "none\x1b[2J.csv")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_an_output_whose_reader_is_gone_leaves_it_to_the_command_line() -> None:
    class Gone(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    output = SafeConsole()
    output.file = Gone()
    with pytest.raises(BrokenPipeError):
        output.print("figures")


def test_standard_error_is_as_harmless(capsys: pytest.CaptureFixture[str]):
    warn(f"{HOSTILE} is no file")
    SafeConsole(stderr=True).print(HOSTILE, markup=False)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("wirebert: \\x1b]0;mine")
    assert not set("\x1b\x07\x9b\x08\x7f\u202e\r") & set(told.err)


@pytest.mark.slow
def test_what_predict_says_of_a_hostile_log_and_where_it_wrote_is_harmless(
    trained: Path, traffic: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    log = tmp_path / "flows\x1b[2J.csv"
    header, first, *rows = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    log.write_text("\n".join([header, first + ",\x1b[2J", *rows, ""]), encoding="utf-8")
    out = tmp_path / "verdicts\x1b[2J.csv"
    assert main(["predict", str(trained / "model"), str(log), "--out", str(out)]) == 0
    told = capfd.readouterr().err
    assert "verdicts\\x1b[2J.csv" in told
    assert "rejected_rows: 1 of " in told
    assert "\x1b" not in told
