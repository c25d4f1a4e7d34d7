from pathlib import Path

import pytest

from wirebert.cli.main import main
from wirebert.report.report import read_json
from wirebert.report.tables import as_csv, as_latex


def test_a_report_is_printed(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained)]) == 0
    out = capfd.readouterr().out
    assert "valid: 150 flows" in out or "valid: 149 flows" in out
    assert "test: 300 flows" in out
    assert f"report: {trained / 'report.html'}" in out


def test_two_reports_stand_side_by_side(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained), str(trained)]) == 0
    out = capfd.readouterr().out
    assert "| tiny     |" in out
    assert "| tiny (2) |" in out
    assert "settings that differ" not in out


@pytest.mark.parametrize("kind", ["latex", "csv"])
def test_tables_for_papers_are_printed_or_written(
    trained: Path, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = {"latex": as_latex, "csv": as_csv}[kind](read_json(trained / "report.json"))
    assert main(["report", str(trained), "--format", kind]) == 0
    assert capfd.readouterr().out == expected
    assert main(["report", str(trained), "--format", kind, "--out", str(tmp_path / "table")]) == 0
    assert (tmp_path / "table").read_text(encoding="utf-8") == expected


def test_tables_of_two_runs_are_refused(trained: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(trained), str(trained), "--format", "csv"]) == 2
    assert "--format csv: expected one run, found 2" in capfd.readouterr().err


def test_every_figure_of_a_run_is_there_as_svg(trained: Path) -> None:
    """For papers: `plots/` of the run folder."""
    figures = {path.stem: path.read_text(encoding="utf-8") for path in (trained / "plots").glob("*.svg")}
    assert {"loss", "confusion_test", "roc_test", "calibration_test"} <= set(figures)
    assert all(text.startswith("<svg") for text in figures.values())
