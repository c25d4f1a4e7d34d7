from pathlib import Path

import pytest

from wirebert.cli.main import main


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
